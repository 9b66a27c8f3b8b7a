"""Which texts parity runs, and how: to compare with the reference, and the artifact with itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from stcompile.artifact import Artifact
from stcompile.artifact.manifest import MULTI_VECTOR, NO_PADDING, SPARSE, TOKENS, GraphSpec
from stcompile.compiler.metrics import Distance, Matrix, compared, distance, together
from stcompile.compiler.parity.bounds import REFERENCE_INVARIANT
from stcompile.compiler.parity.evidence import Evidence, judged_of, similarities
from stcompile.compiler.parity.golden import Answered, golden_of, golden_texts, on_one_thread
from stcompile.compiler.parity.probes import long_texts
from stcompile.compiler.parity.reference import Reference
from stcompile.compiler.parity.runner import Run, task_of
from stcompile.compiler.stack.route import Route
from stcompile.errors import InputError
from stcompile.kernels.native import BODY, library
from stcompile.runtime.route import FRONT_ENDS
from stcompile.runtime.text.base import TextFrontEnd

_BATCH = 32

# Texts of a batch of the reference, and how short its shortest may be beside its longest. What torch pads it also
# computes: in batches of 32 by their characters, as sentence-transformers forms them, two thirds are padding.
_REFERENCE_BATCH, _LIKE = 8, 0.75

_INVARIANCE_TEXTS = 48
_FEW_TEXTS = 8

# Texts of a batch where they have other mates than in `_BATCH`, and the runs that are only compared with each other.
_REGROUPED = 5

# Tokens of the longest text that the reference's own invariance is judged beside, and ours of most texts: what is
# padded to the longest of all costs as much as that, and thirty of them at once gigabytes.
_BESIDE = 128

# Runs without kernels, of an artifact that has operators with a body, and the same with them.
_LONG_BODY = "long-body"
_WITH_KERNELS = {BODY: "alone", _LONG_BODY: "long"}

# Runs that are only compared with the one of each text alone, and that one.
_OTHERWISE = ("regrouped", "beside", "padded")
_SAME_AGAIN = ("alone", *_WITH_KERNELS, *_OTHERWISE)

# Texts of the artifact's own, that are in no verdict: others may be judged on.
_GOLDEN = "golden"

# Tokens whose sum the tolerances were measured on: rounding grows with what is added up. A mean over 4096 words behind
# a CNN is 6.6e-6 from torch's, where a mask, a window or positions that are wrong move it by 1e-3 and more.
_ROUNDED = 512

# Texts with each prompt that our own modules read too.
_PROMPTS_READ = 2

Answers = dict[str, Matrix]


class Plan:
    """What to run of one route: the texts, long ones besides, in runs that `label` tells from those of other routes.

    Raises:
        InputError: its tokenizer cannot read a text.
    """

    def __init__(
        self, artifact: Artifact, graph: GraphSpec, texts: Sequence[str], label: str, own: Sequence[str] = ()
    ) -> None:
        manifest = artifact.manifest
        spec = manifest.text_of(graph)
        front = FRONT_ENDS[spec.kind](artifact.folder, spec, [item.name for item in graph.inputs])
        is_flat = any(item.name == "offsets" for item in graph.inputs)
        try:
            self._lengths = [len(row) for row in front.tokenize(texts, None)]
        except Exception as error:  # tokenizers raises bare Exception
            raise InputError(
                f"the model's tokenizer cannot read a text that parity is judged on ({error}): leave it out"
            ) from error
        self._golden = [text for text in golden_texts(own) if _reads(front, text)]
        long = long_texts(texts, spec.max_seq_length, lambda text: len(front.tokenize([text], None)[0]), flat=is_flat)
        self.label = label
        self.texts = [*texts, *long]
        self._dim = manifest.dim_of(graph)
        self._is_sparse = manifest.kind == SPARSE
        # All that the model makes is compared.
        keeps = {SPARSE: "max_active_dims", MULTI_VECTOR: None}.get(manifest.kind, "truncate_dim")
        self._all: dict[str, Any] = {} if keeps is None else {keeps: self._dim}
        self._task = task_of(manifest.routing, graph.route)
        self._long = range(len(texts), len(self.texts))
        self._sums = np.maximum(1, [len(row) / _ROUNDED for row in front.tokenize(long, None)])
        # Spread over the list, so that the probe set's odd texts and its longest are all in.
        self._some = [*range(0, len(texts), max(1, len(texts) // _INVARIANCE_TEXTS))]
        self._few = self._some[:: max(1, len(self._some) // _FEW_TEXTS)][:_FEW_TEXTS]
        self._prompts = sorted({text for text in manifest.prompts.values() if text})
        self._makes_tokens = any(spec.name == TOKENS for spec in graph.outputs[1:])
        self._alone_only = manifest.padding == NO_PADDING
        # Of weights of tokens sentence-transformers loses, in a padded batch, a [PAD] that a text spells out.
        self._reference_alone = is_flat and self._is_sparse
        self._has_body = manifest.engine.portable and library() is not None
        self.runs = self._runs(1 if self._alone_only else _BATCH)

    def answers(self, reference: Reference) -> tuple[Answers, float]:
        """What the reference makes of all that it is compared on, and its own batch invariance.

        Where it gives a text another vector in another batch, only one by one is there a right answer, and the
        artifact too is then run one by one.
        """
        invariance = 1.0
        if not self._alone_only and not self._reference_alone:
            invariance = self._invariance_of(reference)
            self._alone_only = invariance < REFERENCE_INVARIANT
        if self._alone_only:
            self.runs = self._runs(1)
        return self._answers(reference), invariance

    def own_answers(self, route: Route) -> Answers:
        """What our own modules make of a few of the texts: enough to tell a misread folder from a wrong graph."""
        found = {}
        for name, places in self._read():
            run = self.runs[name]
            texts = [self.texts[run.order[place]] for place in places]
            found[name] = route.encode(texts, run.options["prompt"], 1, route.answers[0])
        return found

    def own_distances(self, reference: Answers, own: Answers) -> dict[str, tuple[Sequence[int], Distance]]:
        """How far our own modules' answers are from the reference's: positions of the texts, run by run."""
        return {
            name: ([self.runs[name].order[place] for place in places], compared(reference[name][places], own[name]))
            for name, places in self._read()
        }

    def distances(self, reference: Answers, found: Answers) -> dict[str, Distance]:
        """How far the compiled rows are from the reference's, run by run; of texts above 2048 tokens, for each 512."""
        judged = [name for name in self.runs if name not in (_GOLDEN, *_SAME_AGAIN)]
        apart = {name: compared(reference[name], found[name]) for name in judged}
        if len(self._long) > 1:
            long = apart["long"]
            apart["long"] = Distance(long.abs_error / self._sums, long.cosine)
        return apart

    def paths(self, reference: Answers, found: Answers) -> dict[str, tuple[Distance, Distance]]:
        """How far texts one by one are from the reference's vectors, and from those by kernels."""
        rows = reference["batched"][[*self.runs["alone"].order]]
        expected = {"alone": rows, **({"long": reference["long"]} if self._long else {})}
        apart = {}
        for name, runs in (("alone", [*expected]), (BODY, [run for run in _WITH_KERNELS if run in self.runs])):
            if not runs:
                continue
            same = [_WITH_KERNELS.get(run, run) for run in runs]
            made = np.concatenate([found[run] for run in runs])
            known = np.concatenate([expected[run] for run in same])
            sums = np.concatenate([self._sums if run == "long" else np.ones(len(expected[run])) for run in same])
            away = compared(known, made)
            kernels = compared(np.concatenate([found[run] for run in same]), made)
            apart[name] = Distance(away.abs_error / sums, away.cosine), kernels
        return apart

    @property
    def all_texts(self) -> list[str]:
        """What `runs` count from: texts that are judged, then those that the artifact is to be checked by later."""
        return [*self.texts, *self._golden]

    def golden(self, reference: Answers, found: Answers) -> Answered:
        """What the artifact is to be checked by later, and how near it is now."""
        texts = [[text] for text in self._golden]
        if not texts:
            return Answered((), 1.0)
        known = golden_of(texts, self._task, reference[_GOLDEN], sparse=self._is_sparse)
        return Answered(tuple(known), float(compared(reference[_GOLDEN], found[_GOLDEN]).cosine.min()))

    def invariance(self, found: Answers) -> float:
        """Smallest cosine of a text alone to itself batched, reordered with other mates, and beside longer ones."""
        alone = dict(zip(self.runs["alone"].order, found["alone"], strict=True))
        smallest = 1.0
        for name in ("batched", *_OTHERWISE):
            both = [
                (alone[index], row)
                for index, row in zip(self.runs[name].order, found[name], strict=True)
                if index in alone
            ]
            left, right = (together(rows) for rows in zip(*both, strict=True))
            smallest = min(smallest, float(distance(left, right).cosine.min()))
        return smallest

    def worst(self, distances: dict[str, Distance]) -> tuple[float, float, str]:
        """The text with the smallest cosine; of those, the one with the largest error; and what to compare it by."""
        ranked = [
            (-cosine, error, self.texts[index])
            for name, found in distances.items()
            if name != "tokens"
            for index, cosine, error in zip(self.runs[name].order, found.cosine, found.abs_error, strict=True)
        ]
        return max(ranked)

    def evidence(self, distances: dict[str, Distance], reference: Answers, found: Answers) -> Evidence:
        """Every text of every run beside the reference, and the similarities of some texts with each other."""
        judged = [
            one
            for name, apart in distances.items()
            if name != "tokens"
            for one in judged_of(
                [self.texts[index] for index in self.runs[name].order],
                f"{self.label} {name}".removeprefix("route-0 "),
                apart.abs_error.tolist(),
                apart.cosine.tolist(),
            )
        ]
        return Evidence(
            tuple(judged),
            similarities("cosine similarity of two texts", reference["batched"], found["batched"]),
        )

    def _runs(self, batch_size: int) -> dict[str, Run]:
        plain: dict[str, Any] = {"prompt": "", **self._all, "batch_size": batch_size, "task": self._task}
        widest = max(range(len(self._lengths)), key=self._lengths.__getitem__)
        # Each in one batch, padded to its longest text.
        beside = self._short()[::-1]
        padded = [*dict.fromkeys((*self._few, *(index for index in self._some if index not in beside), widest))]
        runs = {
            "batched": Run(range(len(self._lengths)), plain),
            "alone": Run(self._some, {**plain, "batch_size": 1}),
            "beside": Run(beside, {**plain, "batch_size": len(beside)}),
            "padded": Run(padded, {**plain, "batch_size": len(padded)}),
            "regrouped": Run(self._some[::-1], {**plain, "batch_size": _REGROUPED}),
        }
        if self._has_body:
            runs[BODY] = Run(self._some, {**plain, "batch_size": 1}, kernels=False)
        if self._long:
            # Alone: a batch padded to one would cost gigabytes of attention scores.
            runs["long"] = Run(self._long, {**plain, "batch_size": 1})
            if self._has_body:
                runs[_LONG_BODY] = dataclasses.replace(runs["long"], kernels=False)
        if self._golden:
            start = len(self.texts)
            runs[_GOLDEN] = Run(range(start, start + len(self._golden)), {**plain, "batch_size": 1})
        for index, prompt in enumerate(self._prompts):
            runs[f"prompt-{index}"] = Run(self._few, {**plain, "prompt": prompt})
        if self._makes_tokens:
            options = {"prompt": "", "batch_size": 1, "output_value": TOKENS, "task": self._task}
            runs["tokens"] = Run(self._few, options)
        return runs

    def _answers(self, reference: Reference) -> Answers:
        found = {}
        for name, run in self.runs.items():
            if name in _SAME_AGAIN:
                continue
            texts, prompt = [self.all_texts[index] for index in run.order], run.options["prompt"]
            if name == "tokens":
                found[name] = reference.tokens(texts, prompt=prompt, task=self._task)
            elif name == _GOLDEN:
                with on_one_thread():
                    found[name] = self._encode(reference, texts)
            elif name == "batched" and not self._alone_only and not self._reference_alone:
                found[name] = self._batched(reference, texts)
            else:
                found[name] = self._encode(reference, texts, prompt=prompt)
        return found

    def _batched(self, reference: Reference, texts: Sequence[str]) -> Matrix:
        places, rows = [], []
        for batch in _of_like_length(self._lengths):
            places += batch
            rows.append(self._encode(reference, [texts[index] for index in batch], batch_size=len(batch)))
        return np.concatenate(rows)[np.argsort(places)]

    def _invariance_of(self, reference: Reference) -> float:
        short = self._short()
        few = short[:: max(1, len(short) // _FEW_TEXTS)][:_FEW_TEXTS]
        mates = [self.texts[index] for index in (*few, max(short, key=self._lengths.__getitem__))]
        alone = self._encode(reference, mates)
        together = self._encode(reference, mates, batch_size=len(mates))
        return float(compared(alone, together).cosine.min())

    def _short(self) -> list[int]:
        return [index for index in self._some if self._lengths[index] <= _BESIDE] or self._some

    def _encode(self, reference: Reference, texts: Sequence[str], *, prompt: str = "", batch_size: int = 1) -> Matrix:
        return reference.encode(texts, prompt=prompt, task=self._task, dim=self._dim, batch_size=batch_size)

    def _read(self) -> Iterator[tuple[str, list[int]]]:
        """Runs, and which of their rows our own modules read too; above 2048 tokens their attention costs gigabytes."""
        yield "batched", self._few
        if len(self._long) == 1:
            yield "long", [0]
        for index in range(len(self._prompts)):
            yield f"prompt-{index}", [*range(len(self._few))][:_PROMPTS_READ]


def _reads(front: TextFrontEnd, text: str) -> bool:
    try:
        front.tokenize([text], None)
    except Exception:  # tokenizers raises bare Exception
        return False
    return True


def _of_like_length(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Batches of texts in which little is padded; a text without a token has no mates of some."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) == _REFERENCE_BATCH or lengths[batch[0]] < _LIKE * lengths[index]):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
