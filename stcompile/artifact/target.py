"""Targets: what a graph is compiled for, how close to torch it must stay, and what it is good for."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib.util import find_spec

from stcompile.artifact.fields import Real
from stcompile.errors import TargetError
from stcompile.kernels import native
from stcompile.kernels.cpu_features import adds_int8_products, computes_bfloat16

STATIC = "static"
FUSED = "fused"

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

    max_abs_error: Real | None
    min_cosine: Real
    mean_cosine: Real
    batch_invariance: Real | None


@dataclass(frozen=True)
class Target:
    """One row of the table of targets.

    Attributes:
        runtime: the engine's family, `onnx` or `openvino`.
        precision: `fp32`, `bf16`, `fp16`, `int8` or `int4`.
        scheme: the recipe's name where one is spelled out (`dynamic`); empty means the recommended recipe.
        recipe: the recipe that is run, whatever the name says.
        purpose: one line for `stcompile targets`.
        tolerance: how far from torch the compiled graph may be.
        calibrates: whether the recipe chooses by calibration texts; only then can an accuracy budget steer it.
        computes_in: the number type the engine is told to compute in.
        half_weights: OpenVINO alone: store weights as float16.
    """

    runtime: str
    precision: str
    scheme: str
    recipe: str
    purpose: str
    tolerance: Tolerance
    calibrates: bool = False
    computes_in: str = "float32"
    half_weights: bool = False

    @property
    def batch_invariant(self) -> bool:
        """Whether a text's vector is independent of its batch mates."""
        return self.tolerance.batch_invariance is not None

    @property
    def distills(self) -> bool:
        """Whether the model is replaced by static embeddings that imitate it."""
        return self.scheme == STATIC

    @property
    def is_fused(self) -> bool:
        """Whether whole encoder layers are operators of the package's own."""
        return self.scheme == FUSED

    @property
    def is_openvino(self) -> bool:
        """Whether OpenVINO runs it, rather than ONNX Runtime."""
        return self.runtime == "openvino"

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
        package, extra = ("openvino", "openvino") if self.is_openvino else ("onnxruntime", "cpu")
        reasons = []
        if find_spec(package) is None:
            reasons.append(f"{package} is not installed: pip install 'stcompile[{extra}]'")
        if self.computes_in == "bfloat16" and computes_bfloat16() is False:
            reasons.append("this CPU does not compute in bfloat16 (AVX512-BF16 or AMX): use openvino-fp32")
        return (*reasons, *(native.refusals() if self.is_fused else ()))

    def caveats(self) -> tuple[str, ...]:
        """What makes the target slower here than elsewhere, one sentence each."""
        if self.precision not in ("int8", "int4") or adds_int8_products() is not False:
            return ()
        if self.is_openvino or self.scheme == "weights":
            return ("no faster than fp32 here: this CPU has no VNNI",)
        return ("slower here than on a CPU with VNNI",)


# Each tolerance is what was measured, with room for models that were not: docs/targets.md has the numbers.
_INT8_DYNAMIC_TOLERANCE = Tolerance(max_abs_error=None, min_cosine=0.94, mean_cosine=0.985, batch_invariance=None)

_INT8_TOLERANCE = Tolerance(max_abs_error=None, min_cosine=0.98, mean_cosine=0.995, batch_invariance=0.99999)

_INT8_WEIGHTS_TOLERANCE = Tolerance(max_abs_error=None, min_cosine=0.985, mean_cosine=0.998, batch_invariance=0.99999)

_INT4_WEIGHTS_TOLERANCE = Tolerance(max_abs_error=None, min_cosine=0.85, mean_cosine=0.96, batch_invariance=0.9999)

_FLOAT32_TOLERANCE = Tolerance(
    max_abs_error=1.5e-6, min_cosine=0.999999, mean_cosine=0.999999, batch_invariance=0.999999
)

_FLOAT16_TOLERANCE = Tolerance(max_abs_error=None, min_cosine=0.9999, mean_cosine=0.99995, batch_invariance=0.99999)

_BFLOAT16_TOLERANCE = Tolerance(max_abs_error=None, min_cosine=0.9995, mean_cosine=0.9999, batch_invariance=0.9999)

# OpenVINO's sums depend on the length of a row unless it is a multiple of its widest vector (16 floats of AVX-512): by
# 2e-7 in float32, but a rounding to 8 bits that tips over carries on, and cosines between batches fell to .9999.
OPENVINO_LENGTH_MULTIPLE = 16

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
        tolerance=_FLOAT16_TOLERANCE,
    ),
    Target(
        runtime="onnx",
        precision="int8",
        scheme="",
        recipe="int8",
        purpose="the recommended one for CPU: a quarter of the size, calibrated and smoothed layer by layer",
        tolerance=_INT8_TOLERANCE,
        calibrates=True,
    ),
    Target(
        runtime="onnx",
        precision="int8",
        scheme=FUSED,
        recipe="int8-fused",
        purpose="the fastest: whole encoder layers in one operator, on CPUs with AVX512-VNNI and AVX512-BF16",
        tolerance=_INT8_TOLERANCE,
        calibrates=True,
    ),
    Target(
        runtime="onnx",
        precision="bf16",
        scheme=FUSED,
        recipe="bf16-fused",
        purpose="the same in bfloat16: half the size of fp32, twice as fast, nearly exact",
        tolerance=_BFLOAT16_TOLERANCE,
    ),
    Target(
        runtime="onnx",
        precision="fp32",
        scheme=FUSED,
        recipe="fp32-fused",
        purpose="the same in float32: exact, and faster than onnx-fp32",
        tolerance=_FLOAT32_TOLERANCE,
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
        precision="int8",
        scheme="weights",
        recipe="int8-weights",
        purpose="weights in blocks of 32: a quarter of the size, nearer to torch than onnx-int8, slower",
        tolerance=_INT8_WEIGHTS_TOLERANCE,
        calibrates=True,
    ),
    Target(
        runtime="onnx",
        precision="int4",
        scheme="weights",
        recipe="int4-weights",
        purpose="weights in blocks of 32 four-bit numbers: the smallest, at a loss to be checked",
        tolerance=_INT4_WEIGHTS_TOLERANCE,
        calibrates=True,
    ),
    Target(
        runtime="openvino",
        precision="fp32",
        scheme="",
        recipe="float32",
        purpose="exact, on OpenVINO",
        tolerance=_FLOAT32_TOLERANCE,
    ),
    Target(
        runtime="openvino",
        precision="bf16",
        scheme="",
        recipe="float32",
        purpose="half the size and twice as fast as fp32, nearly exact, on CPUs with AVX512-BF16 or AMX",
        tolerance=_BFLOAT16_TOLERANCE,
        computes_in="bfloat16",
        half_weights=True,
    ),
    Target(
        runtime="openvino",
        precision="fp16",
        scheme="",
        recipe="float32",
        purpose="half the size, computed in float32",
        tolerance=_FLOAT16_TOLERANCE,
        half_weights=True,
    ),
    Target(
        runtime="openvino",
        precision="int8",
        scheme="",
        recipe="int8-openvino",
        purpose="the recommended one for OpenVINO: a quarter of the size, fast on CPUs with VNNI",
        tolerance=_INT8_TOLERANCE,
        calibrates=True,
    ),
    Target(
        runtime="openvino",
        precision="int8",
        scheme="weights",
        recipe="int8-weights-openvino",
        purpose="int8 weights per channel, computed in float32: a quarter of the size, nearer to torch",
        tolerance=_INT8_WEIGHTS_TOLERANCE,
        calibrates=True,
    ),
    Target(
        runtime="openvino",
        precision="int4",
        scheme="weights",
        recipe="int4-weights",
        purpose="weights in blocks of 32 four-bit numbers: the smallest, at a loss to be checked",
        tolerance=_INT4_WEIGHTS_TOLERANCE,
        calibrates=True,
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
