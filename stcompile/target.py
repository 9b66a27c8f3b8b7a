"""Targets: what a graph is compiled for, how close to torch it must stay, and what it is good for."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib.util import find_spec

from stcompile.errors import TargetError

STATIC = "static"

# What target static keeps of the network's dimensions, model2vec's own default.
PCA_DIMS = 256


@dataclass(frozen=True)
class Tolerance:
    """How far a target may be from torch before nothing is published.

    All three are judged on rows scaled by the length of the torch row, so that a stack without a final
    Normalize is held to the same standard as one with it.

    Attributes:
        max_abs_error: largest absolute difference of any component, or None where cosine is the measure.
        min_cosine: smallest cosine similarity of any text's two vectors.
        mean_cosine: smallest mean of those cosine similarities.
        batch_invariance: smallest cosine between a text's vectors alone and in a mixed batch, or None where the
            recipe cannot hold it. Not judged for a model whose torch vectors depend on padding themselves.
    """

    max_abs_error: float | None
    min_cosine: float
    mean_cosine: float
    batch_invariance: float | None


@dataclass(frozen=True)
class Target:
    """One row of the table of targets.

    Attributes:
        runtime: the engine's family, `onnx`; left out of the name of a target that is known by its scheme alone.
        precision: `fp32`, `fp16` or `int8`.
        scheme: the recipe's name where one is spelled out (`dynamic`); empty means the recommended recipe.
        recipe: the recipe that is run, whatever the name says.
        purpose: one line for `stcompile targets`.
        tolerance: how far from torch the compiled graph may be.
    """

    runtime: str
    precision: str
    scheme: str
    recipe: str
    purpose: str
    tolerance: Tolerance

    @property
    def batch_invariant(self) -> bool:
        """Whether a text's vector is independent of its batch mates."""
        return self.tolerance.batch_invariance is not None

    @property
    def distills(self) -> bool:
        """Whether the model is replaced by static embeddings that imitate it."""
        return self.scheme == STATIC

    @property
    def name(self) -> str:
        if self.distills:
            return STATIC
        return "-".join(part for part in (self.runtime, self.precision, self.scheme) if part)

    @classmethod
    def parse(cls, name: str) -> Target:
        """The target called `name`. Raises `TargetError` naming the nearest ones when there is none."""
        name = str(name)
        target = TARGETS.get(name)
        if target is not None:
            return target
        near = difflib.get_close_matches(name, TARGETS, n=2, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise TargetError(f"unknown target {name!r}: {hint}Known targets: {', '.join(TARGETS)}")

    def refusals(self) -> tuple[str, ...]:
        """Why this machine cannot run the target, one sentence each; empty when it can."""
        if find_spec("onnxruntime") is None:
            return ("onnxruntime is not installed: pip install 'stcompile[cpu]'",)
        return ()


# Each tolerance is what was measured, with room for models that were not: docs/targets.md has the numbers.
_INT8_DYNAMIC_TOLERANCE = Tolerance(max_abs_error=None, min_cosine=0.94, mean_cosine=0.985, batch_invariance=None)

_FLOAT32_TOLERANCE = Tolerance(
    max_abs_error=1.5e-6, min_cosine=0.999999, mean_cosine=0.999999, batch_invariance=0.999999
)

_TABLE = (
    Target(
        runtime="onnx",
        precision="fp32",
        scheme="",
        recipe="float32",
        purpose="exact: float32 rounding is all that separates it from torch",
        tolerance=_FLOAT32_TOLERANCE,
    ),
    Target(
        runtime="onnx",
        precision="fp16",
        scheme="",
        recipe="float16",
        purpose="half the size, for CUDA; on CPU the engine computes it through float32",
        tolerance=Tolerance(max_abs_error=None, min_cosine=0.9999, mean_cosine=0.99995, batch_invariance=0.99999),
    ),
    Target(
        runtime="onnx",
        precision="int8",
        scheme="",
        recipe="dynamic",
        purpose="the recommended int8 recipe, today onnx-int8-dynamic: a quarter of the size, fast on CPU",
        tolerance=_INT8_DYNAMIC_TOLERANCE,
    ),
    Target(
        runtime="onnx",
        precision="int8",
        scheme="dynamic",
        recipe="dynamic",
        purpose="int8 weights per channel, activations quantized per batch as they come: NOT batch-invariant",
        tolerance=_INT8_DYNAMIC_TOLERANCE,
    ),
    Target(
        runtime="onnx",
        precision="fp32",
        scheme=STATIC,
        recipe="float32",
        purpose="distilled into static embeddings: far faster and smaller, at a loss of quality the export prints",
        tolerance=_FLOAT32_TOLERANCE,
    ),
)

TARGETS = {target.name: target for target in _TABLE}
