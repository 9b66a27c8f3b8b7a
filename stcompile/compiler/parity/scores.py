"""Parity of rerankers: the shipped runtime, pair to score, against sentence-transformers' CrossEncoder.

Scores have no direction and no scale of their own, so they are judged as what they are for, to rank: every query's
scores over all documents are one vector, centred, and compared as the vectors of an encoder are. Errors are of logits,
before the activation, in units of the standard deviation of the reference's.
"""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Sequence

import numpy as np
import torch

from stcompile.artifact import Artifact
from stcompile.artifact.manifest import LOGITS, NO_PADDING, SCORES
from stcompile.artifact.report import ParityReport, PathReport
from stcompile.artifact.target import Target, Tolerance
from stcompile.compiler.metrics import BROKEN, Matrix, rounded
from stcompile.compiler.modules import Scores
from stcompile.compiler.parity.bounds import (
    REFERENCE_INVARIANT,
    failures_of_invariance,
    failures_of_paths,
    too_large,
    too_small,
)
from stcompile.compiler.parity.evidence import Evidence, Scatter, judged_of
from stcompile.compiler.parity.golden import Answered, golden_of, golden_pairs, on_one_thread
from stcompile.compiler.parity.pairs import Pairs
from stcompile.compiler.parity.probes import shortened, texts_sha256
from stcompile.compiler.parity.ranking import by_query, cosine_about_mean, spread_of, top_agreement
from stcompile.compiler.parity.reference import Reference, open_reference
from stcompile.compiler.parity.runner import Run, run_shipped
from stcompile.compiler.stack.module_stack import ModuleStack
from stcompile.compiler.stack.source import ModelSource
from stcompile.kernels.native import BODY, generation, library
from stcompile.runtime.device import CPU
from stcompile.runtime.self_test import cosine_of_scores
from stcompile.runtime.text.base import Text

# Two computations of one model in float32, in standard deviations of its scores; a pair that is read otherwise moves
# them by tenths.
_SAME_READING = 5e-3

# Scores of several pairs that are no further apart, in standard deviations, are one.
_ALIKE = 1e-3

# Smallest cosine between scores by kernels and by the standard operators in their place. Measured on tiny networks of
# random weights: 1, 0.99990 and 0.99983.
_AGREEMENT = {"onnx-fp32": 0.999999, "onnx-bf16": 0.9995, "onnx-int8": 0.995}

# By the precision of a target. Measured on tiny networks of random weights, which lose more than trained ones: error
# 7e-6 (fp32), 0.014 (fp16), 0.057 (bf16), 0.57 (int8, of any scheme) and 1.6 (int4); min cosine from fp16 on 0.99999,
# 0.99991, 0.9902 and 0.827, mean cosine 0.99999, 0.99994, 0.9952 and 0.942. Cosines do not see what all pairs are off
# by, a number or a factor; errors do.
_TOLERANCES = {
    "fp32": Tolerance(max_abs_error=1e-4, min_cosine=0.999999, mean_cosine=0.999999, batch_invariance=0.999999),
    "fp16": Tolerance(max_abs_error=0.05, min_cosine=0.9999, mean_cosine=0.99995, batch_invariance=0.99999),
    "bf16": Tolerance(max_abs_error=0.2, min_cosine=0.9995, mean_cosine=0.9998, batch_invariance=0.9999),
    "int8": Tolerance(max_abs_error=1.0, min_cosine=0.98, mean_cosine=0.99, batch_invariance=0.99999),
    "int4": Tolerance(max_abs_error=2.5, min_cosine=0.75, mean_cosine=0.9, batch_invariance=0.9999),
}

# What an error is of.
_ERROR = "error of a logit, in standard deviations,"

# Largest difference of what an activation makes of the same logits: float32's rounding.
_SAME_ACTIVATION = 1e-5


def score_tolerance(target: Target, min_cosine: float | None) -> Tolerance:
    """How far a reranker's scores may be from the reference's; the caller's least cosine in place of the target's."""
    found = _TOLERANCES[target.precision]
    if not target.batch_invariant:
        found = dataclasses.replace(found, batch_invariance=None)
    if min_cosine is None:
        return found
    return dataclasses.replace(
        found, max_abs_error=None, min_cosine=min_cosine, mean_cosine=min_cosine, agreement=min_cosine
    )


class ScoreProof:
    """A reranker's artifact beside the model it was compiled from; the stack is no longer needed once this is made.

    It is judged on queries and documents of some texts; None takes the project's probe texts.

    Attributes:
        evidence: what the verdict rests on, once there is one.
        answered: what the artifact is to be checked by later, once there is a verdict.

    Raises:
        InputError: there are fewer than two texts.
    """

    def __init__(
        self, artifact: Artifact, stack: ModuleStack, source: ModelSource, *, texts: Sequence[str] | None
    ) -> None:
        (route,) = stack.routes.values()
        self._artifact = artifact
        self._source = source
        self._kind = stack.kind
        self.evidence = Evidence()
        self.answered: list[Answered] = []
        (*_, last) = route.blocks
        assert isinstance(last, Scores)
        self._activation = last
        self._pairs = Pairs.of(texts, route, artifact.manifest.prompts)
        # Enough to tell a misread folder from a wrong graph.
        self._own = np.concatenate(
            [route.encode(pairs, prompt, 1, LOGITS) for pairs, prompt in self._pairs.read_by_own_modules]
        )

    def judge(self, tolerance: Tolerance, device: str) -> ParityReport:
        """Scores with both, the artifact on a device, and compares by what is allowed."""
        # The network that was traced is part of circles: without this it lies beside the reference's own.
        gc.collect()
        reference = open_reference(self._source, self._kind)
        pairs = self._pairs
        few = reference.logits(pairs.few, prompt="")
        together = reference.logits(pairs.few, prompt="", batch_size=len(pairs.few))
        invariance = cosine_about_mean(few, together)
        size = 1 if invariance < REFERENCE_INVARIANT or self._artifact.manifest.padding == NO_PADDING else None
        expected = _Scores(
            ranked=_of(reference, pairs.ranked, size),
            edges=reference.logits(pairs.edges, prompt=""),
            prompted=np.concatenate([reference.logits(some, prompt=prompt) for some, prompt in pairs.prompted])
            if pairs.prompted
            else np.zeros((0, few.shape[1]), np.float32),
            few=few,
            scores=reference.scores(pairs.few, prompt=""),
            golden=_golden(reference),
        )
        read = np.concatenate([reference.logits(some, prompt=prompt) for some, prompt in pairs.read_by_own_modules])
        about = reference.about
        # Its network would lie in memory beside the engine's.
        del reference
        return self._report(expected, read, invariance, about, tolerance, device)

    def _report(
        self, expected: _Scores, read: Matrix, invariance: float, about: str, tolerance: Tolerance, device: str
    ) -> ParityReport:
        manifest, pairs = self._artifact.manifest, self._pairs
        spread = spread_of(expected.ranked)
        found, regrouped, body = self._shipped(device)
        known = [*by_query(expected.ranked, len(pairs.documents)), expected.edges, expected.prompted]
        made = [*by_query(found.ranked, len(pairs.documents)), found.edges, found.prompted]
        # Where a query fills all that the model takes, its documents have one score, which has no direction.
        told = [(one, other) for one, other in zip(known, made, strict=True) if _differ(one, spread)]
        cosines = np.array([cosine_about_mean(one, other) for one, other in told] or [1.0])
        errors = np.concatenate([np.abs(one - other).max(axis=1) for one, other in zip(known, made, strict=True)])
        errors = np.where(np.isfinite(errors), errors / spread, BROKEN)
        self.evidence = Evidence(
            tuple(judged_of([_shown(pair) for pair in pairs.all], "pairs", errors.tolist(), [None] * len(errors))),
            (
                Scatter(
                    "logit of a query with a document",
                    expected.ranked[:, -1].astype(np.float64),
                    found.ranked[:, -1].astype(np.float64),
                ),
            ),
        )
        self.answered = [
            Answered(
                tuple(golden_of(golden_pairs(), None, expected.golden)),
                cosine_of_scores(expected.golden, found.golden),
            )
        ]
        alike = min(cosine_about_mean(found.few, rows) for rows in regrouped)
        paths = self._paths(expected, found, body, spread, device)
        misread = float(np.abs(read - self._own).max()) / spread
        report = ParityReport(
            target=manifest.target,
            reference=about,
            num_texts=len(errors),
            max_abs_error=rounded(errors.max()),
            min_cosine=rounded(cosines.min()),
            mean_cosine=rounded(cosines.mean()),
            neighbour_overlap=rounded(top_agreement(known[: len(pairs.queries)], made[: len(pairs.queries)])),
            batch_invariance=rounded(alike),
            reference_batch_invariance=rounded(invariance),
            worst_text=_shown(pairs.all[int(errors.argmax())]),
            tolerance=tolerance,
            misread=misread > _SAME_READING,
            failures=(),
            texts_sha256=texts_sha256([_shown(pair) for pair in pairs.all]),
            paths=paths,
        )
        failures = [
            *_failures(report, manifest.padding),
            *failures_of_paths(paths, tolerance, _AGREEMENT.get(manifest.target, 0), error=_ERROR),
        ]
        # What the reference makes of its logits by its own activation, and the artifact of its own by the traced one.
        for what, made_by, logits in (
            (about, expected.scores, expected.few),
            ("the artifact", found.scores, found.few),
        ):
            activated = self._activation({SCORES: torch.from_numpy(logits)})[SCORES].numpy()
            apart = float(np.abs(activated - made_by).max()) if logits.size else 0.0
            rounding = _SAME_ACTIVATION * max(1.0, float(np.abs(logits).max()))
            if not apart <= rounding:
                failures.append(f"{what} has another activation of its scores than was read ({apart:.2e} apart)")
        if report.misread:
            failures.append(
                f"stcompile reads the model otherwise than {about}: before anything was compiled, its own modules in "
                f"torch already give scores that differ by {misread:.2e} standard deviations"
            )
        return dataclasses.replace(report, failures=tuple(failures))

    def _shipped(self, device: str) -> tuple[_Scores, list[Matrix], Matrix | None]:
        """What the runtime makes of all pairs, of the few with other mates, and of the few without kernels."""
        pairs = self._pairs
        texts: list[Text] = [*pairs.all, *pairs.few, *golden_pairs()]
        start = len(pairs.all)
        few = list(range(start, start + len(pairs.few)))
        ends = np.cumsum([0, len(pairs.ranked), len(pairs.edges), *(len(some) for some, _ in pairs.prompted)])
        plain = {"prompt": "", "activation_fn": "identity"}
        longest = max(range(len(pairs.few)), key=lambda index: sum(map(len, pairs.few[index])))
        runs = {
            "ranked": Run(range(ends[0], ends[1]), plain),
            "edges": Run(range(ends[1], ends[2]), plain),
            "few": Run(few, {**plain, "batch_size": 1}),
            "regrouped": Run(few[::-1], {**plain, "batch_size": 5}),
            "beside": Run([few[longest], *few], {**plain, "batch_size": len(few) + 1}),
            "scores": Run(few, {"prompt": "", "batch_size": 1}),
            "golden": Run(range(few[-1] + 1, len(texts)), {**plain, "batch_size": 1}),
        }
        for index, (_, prompt) in enumerate(pairs.prompted):
            runs[f"prompted-{index}"] = Run(range(ends[2 + index], ends[3 + index]), {**plain, "prompt": prompt})
        if self._artifact.manifest.engine.native and device == CPU and library() is not None:
            runs["body"] = Run(few, {**plain, "batch_size": 1}, kernels=False)
        made = {
            name: rows.reshape(len(rows), -1)
            for name, rows in run_shipped(self._artifact.folder, texts, runs, device=device).items()
        }
        prompted = [made[name] for name in runs if name.startswith("prompted-")]
        scores = _Scores(
            ranked=made["ranked"],
            edges=made["edges"],
            prompted=np.concatenate(prompted) if prompted else np.zeros((0, made["few"].shape[1]), np.float32),
            few=made["few"],
            scores=made["scores"],
            golden=made["golden"],
        )
        return scores, [made["regrouped"][::-1], made["beside"][1:]], made.get("body")

    def _paths(
        self, expected: _Scores, found: _Scores, body: Matrix | None, spread: float, device: str
    ) -> tuple[PathReport, ...]:
        if not self._artifact.manifest.engine.native:
            return ()
        # No GPU has a kernel: there all runs are of the body.
        kernel = (generation() or BODY) if device == CPU else BODY
        ways = [(kernel, found.few), *([] if body is None else [(BODY, body)])]
        return tuple(
            PathReport(
                name,
                len(rows),
                rounded(float(np.abs(rows - expected.few).max()) / spread),
                rounded(cosine_about_mean(expected.few, rows)),
                rounded(cosine_about_mean(found.few, rows)),
            )
            for name, rows in ways
        )


@dataclasses.dataclass(frozen=True)
class _Scores:
    """Logits of the pairs of `Pairs` and of the golden ones, `(n, labels)` each, and the scores of the few."""

    ranked: Matrix
    edges: Matrix
    prompted: Matrix
    few: Matrix
    scores: Matrix
    golden: Matrix


def _golden(reference: Reference) -> Matrix:
    with on_one_thread():
        return reference.logits(golden_pairs(), prompt="")


def _of(reference: Reference, pairs: Sequence[Text], size: int | None) -> Matrix:
    """In batches of like length, as an encoder's plan forms them."""
    if size is not None:
        return reference.logits(pairs, prompt="", batch_size=size)
    order = sorted(range(len(pairs)), key=lambda index: sum(map(len, pairs[index])))
    found = reference.logits([pairs[index] for index in order], prompt="", batch_size=8)
    result = np.empty_like(found)
    result[order] = found
    return result


def _differ(scores: Matrix, spread: float) -> bool:
    return len(scores) > 1 and float(np.ptp(scores, axis=0).max()) > _ALIKE * spread


def _failures(report: ParityReport, padding: str) -> tuple[str, ...]:
    allowed = report.tolerance
    return (
        *too_large(_ERROR, report.max_abs_error, allowed.max_abs_error, f" ({report.worst_text!r})"),
        *too_small("min cosine of a query's scores", report.min_cosine, allowed.min_cosine),
        *too_small("mean cosine of a query's scores", report.mean_cosine, allowed.mean_cosine),
        *too_small("agreement of the ten best documents", report.neighbour_overlap, allowed.neighbour_overlap),
        *failures_of_invariance(report, padding),
    )


def _shown(pair: Text) -> str:
    return shortened(pair) if isinstance(pair, str) else f"{shortened(pair[0])} | {shortened(pair[1])}"
