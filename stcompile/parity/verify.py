"""Parity: the shipped runtime, text to vector, against the torch stack."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcompile.artifact import Artifact, open_artifact
from stcompile.errors import InputError, ModelFolderError
from stcompile.manifest import SENTENCE, TOKENS
from stcompile.parity.metrics import Distance, distance, neighbour_overlap
from stcompile.parity.probes import over_length_text, probe_texts, texts_sha256
from stcompile.parity.report import ParityReport, shortened
from stcompile.parity.runner import Run, run_shipped
from stcompile.stack.load import load_stack
from stcompile.stack.module_stack import ModuleStack
from stcompile.target import Target, Tolerance

_BATCH = 32
_INVARIANCE_TEXTS = 48
_PROMPT_TEXTS = 8

# Below this a model's own torch vectors depend on how much padding they got (left-padded absolute positions).
REFERENCE_INVARIANT = 0.99999

Matrix = NDArray[np.float32]


def verify_artifact(
    artifact: str | Path,
    against: Any,
    *,
    texts: Sequence[str] | None = None,
    min_cosine: float | None = None,
    provider: str = "cpu",
    revision: str | None = None,
    cache_dir: str | None = None,
    trust_remote_code: bool = False,
) -> ParityReport:
    """Checks a published artifact against its model, as the export did.

    Args:
        artifact: the artifact's folder.
        against: the model: folder, hub id or SentenceTransformer.
        texts: what to encode; None takes the project's probe texts.
        min_cosine: replaces the target's smallest allowed cosine, and its largest absolute error.
        provider: execution provider to run the artifact on.
        revision: hub revision of the model.
        cache_dir: where the hub's files are kept.
        trust_remote_code: let the model's network run code that comes with it.

    Returns:
        the report; `passed` is the verdict.

    Raises:
        ArtifactError: the artifact cannot be opened.
        ModelFolderError: the model cannot be read, or has another width.
        UnsupportedError: the model cannot be loaded as a module stack.
    """
    opened = open_artifact(artifact)
    stack = load_stack(against, revision=revision, cache_dir=cache_dir, trust_remote_code=trust_remote_code)
    tolerance = tolerance_for(Target.parse(opened.manifest.target), min_cosine)
    return check_parity(opened, stack, texts=texts, tolerance=tolerance, provider=provider)


def tolerance_for(target: Target, min_cosine: float | None) -> Tolerance:
    """The target's tolerance, or the caller's own smallest cosine in place of it.

    Raises:
        InputError: `min_cosine` is not between 0 and 1.
    """
    if min_cosine is None:
        return target.tolerance
    if not isinstance(min_cosine, (int, float)) or not 0 < min_cosine <= 1:
        raise InputError(f"min_cosine must lie between 0 and 1, got {min_cosine}")
    invariance = target.tolerance.batch_invariance
    return dataclasses.replace(
        target.tolerance,
        max_abs_error=None,
        min_cosine=min_cosine,
        mean_cosine=min_cosine,
        batch_invariance=None if invariance is None else min(invariance, min_cosine),
    )


def _checked_texts(texts: Sequence[str]) -> list[str]:
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise InputError("the texts to judge parity on must be a list of strings")
    if not texts:
        raise InputError("there is no text to judge parity on: pass at least one")
    return list(texts)


def check_parity(
    artifact: Artifact, stack: ModuleStack, *, texts: Sequence[str] | None, tolerance: Tolerance, provider: str
) -> ParityReport:
    """Encodes with both and compares. Arguments and errors as `verify_artifact`."""
    manifest = artifact.manifest
    if manifest.dim != stack.dim:
        raise ModelFolderError(
            f"the artifact has {manifest.dim} dimensions and the model {stack.dim}: it was compiled from another model"
        )
    chosen = _checked_texts(probe_texts() if texts is None else texts)
    longest = over_length_text(chosen, manifest.text.max_seq_length)
    plan = _Plan(artifact, chosen, longest, _BATCH)
    reference = plan.reference(stack)
    if plan.invariance(reference) < REFERENCE_INVARIANT:
        # Torch itself gives these texts other vectors in other batches: only one by one is there a right answer.
        plan = _Plan(artifact, chosen, longest, 1)
        reference = plan.reference(stack)
    compiled = run_shipped(artifact.folder, plan.texts, plan.runs, provider=provider)
    distances = {name: distance(reference[name], compiled[name]) for name in plan.compared}
    everything = Distance(
        np.concatenate([item.abs_error for item in distances.values()]),
        np.concatenate([item.cosine for item in distances.values()]),
    )
    report = ParityReport(
        target=manifest.target,
        num_texts=len(everything.cosine),
        max_abs_error=_rounded(everything.abs_error.max()),
        min_cosine=_rounded(everything.cosine.min()),
        mean_cosine=_rounded(everything.cosine.mean()),
        neighbour_overlap=_rounded(neighbour_overlap(reference["batched"], compiled["batched"])),
        batch_invariance=_rounded(plan.invariance(compiled)),
        reference_batch_invariance=_rounded(plan.invariance(reference)),
        worst_text=_worst(plan, distances),
        tolerance=tolerance,
        failures=(),
        texts_sha256=texts_sha256(plan.texts),
    )
    return dataclasses.replace(report, failures=_failures(report))


class _Plan:
    """Which texts run how: all batched, some alone and together in one batch, some with each prompt."""

    def __init__(self, artifact: Artifact, texts: list[str], longest: list[str], batch_size: int) -> None:
        manifest = artifact.manifest
        self.texts = texts + longest
        # Spread over the list, so that the probe set's odd texts and its longest are all in.
        step = max(1, len(texts) // _INVARIANCE_TEXTS)
        some = [*range(0, len(texts), step)]
        few = some[:: max(1, len(some) // _PROMPT_TEXTS)][:_PROMPT_TEXTS]
        plain: dict[str, Any] = {"prompt": "", "truncate_dim": manifest.dim, "batch_size": batch_size}
        self.runs = {
            "batched": Run(range(len(texts)), plain),
            "alone": Run(some, {**plain, "batch_size": 1}),
            "together": Run(some[::-1], {**plain, "batch_size": len(some)}),
        }
        if longest:
            # Alone: a batch padded to it would cost torch gigabytes of attention scores.
            self.runs["over-length"] = Run(range(len(texts), len(self.texts)), {**plain, "batch_size": 1})
        prompts = sorted({text for text in manifest.prompts.values() if text})
        for index, prompt in enumerate(prompts):
            self.runs[f"prompt-{index}"] = Run(few, {**plain, "prompt": prompt})
        self.compared = [name for name in self.runs if name not in ("alone", "together")]
        if any(spec.name == TOKENS for spec in manifest.graphs[0].outputs):
            self.runs["tokens"] = Run(few, {"prompt": "", "batch_size": 1, "output_value": TOKENS})
            self.compared.append("tokens")

    def reference(self, stack: ModuleStack) -> dict[str, Matrix]:
        """The same runs in torch."""
        results = {}
        for name, run in self.runs.items():
            texts = [self.texts[index] for index in run.order]
            prompt, size = run.options["prompt"], run.options["batch_size"]
            if name == "tokens":
                rows = [stack.encode([text], prompt, 1, TOKENS)[0] for text in texts]
                results[name] = np.concatenate(rows)
            else:
                results[name] = stack.encode(texts, prompt, size, SENTENCE)
        return results

    def invariance(self, vectors: dict[str, Matrix]) -> float:
        """Smallest cosine between a text alone, batched, and in one mixed and reordered batch."""
        alone = vectors["alone"]
        others = (vectors["together"][::-1], vectors["batched"][list(self.runs["alone"].order)])
        return float(min(distance(alone, other).cosine.min() for other in others))


def _worst(plan: _Plan, distances: dict[str, Distance]) -> str:
    """The text with the smallest cosine; of those, the one with the largest error."""
    ranked = [
        (-cosine, error, plan.texts[index])
        for name, found in distances.items()
        if name != "tokens"
        for index, cosine, error in zip(plan.runs[name].order, found.cosine, found.abs_error, strict=True)
    ]
    return max(ranked)[2]


def _failures(report: ParityReport) -> tuple[str, ...]:
    allowed, worst = report.tolerance, shortened(report.worst_text)
    failures = []
    if allowed.max_abs_error is not None and not report.max_abs_error <= allowed.max_abs_error:
        failures.append(f"max abs error {report.max_abs_error:.2e} is above {allowed.max_abs_error:.1e} ({worst!r})")
    if not report.min_cosine >= allowed.min_cosine:
        failures.append(f"min cosine {report.min_cosine:.6f} is below {allowed.min_cosine:g} ({worst!r})")
    if not report.mean_cosine >= allowed.mean_cosine:
        failures.append(f"mean cosine {report.mean_cosine:.6f} is below {allowed.mean_cosine:g}")
    if allowed.batch_invariance is not None and report.reference_batch_invariance >= REFERENCE_INVARIANT:
        # As far from 1 as torch itself is, and the tolerance on top.
        least = report.reference_batch_invariance - (1 - allowed.batch_invariance)
        if not report.batch_invariance >= least:
            failures.append(f"batch invariance {report.batch_invariance:.7f} is below {least:.7f}")
    return tuple(failures)


def _rounded(value: float) -> float:
    """Seven significant digits: what float32 carries, and the same bytes on every run."""
    return float(f"{float(value):.7g}")
