"""Targets: what a graph is compiled for, how close to torch it must stay, and what it is good for."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from importlib.util import find_spec

from stcompile.artifact.fields import Real
from stcompile.errors import TargetError
from stcompile.kernels.cpu_features import adds_int8_products, computes_bfloat16

STATIC = "static"
NNCF = "nncf"
ADOPTED = "adopted"

# Names that targets had, and what they are now.
FORMER = {f"onnx-{precision}-fused": f"onnx-{precision}" for precision in ("int8", "bf16", "fp32")}

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
        active_overlap: of sparse vectors, smallest mean share of the numbers that are not zero in both; None of others.
        agreement: the caller's own smallest cosine between what kernels and the standard operators in their place make;
            None takes the target's.
        neighbour_overlap: the caller's own smallest share of the ten nearest texts that both agree on; None judges it
            not.
    """

    max_abs_error: Real | None
    min_cosine: Real
    mean_cosine: Real
    batch_invariance: Real | None
    active_overlap: Real | None = None
    agreement: Real | None = None
    neighbour_overlap: Real | None = None

    def accepting(self, min_cosine: float | None) -> Tolerance:
        """The same with the caller's own least cosine in the place of all that is judged by cosines and errors."""
        if min_cosine is None:
            return self
        invariance = self.batch_invariance
        return replace(
            self,
            max_abs_error=None,
            min_cosine=min_cosine,
            mean_cosine=min_cosine,
            batch_invariance=None if invariance is None else min(invariance, min_cosine),
            agreement=min_cosine,
        )

    def least_agreement(self, usual: float) -> float:
        """The smallest cosine that is allowed between two ways of computing one artifact.

        Both round to the same levels, but what stands at the edge of two tips over: a caller who accepts vectors that
        far from torch's accepts as much between them.
        """
        return usual if self.agreement is None else min(usual, self.agreement)


@dataclass(frozen=True)
class Target:
    """One row of the table of targets.

    Attributes:
        runtime: the engine's family, `onnx` or `openvino`.
        precision: `fp32`, `bf16`, `fp16`, `int8` or `int4`.
        scheme: the recipe's name where one is spelled out (`dynamic`), or whose it is (`nncf`); empty means the
            recommended recipe.
        recipe: the recipe that is run, whatever the name says.
        tolerance: how far from torch the compiled graph may be.
        calibrates: whether the recipe chooses by calibration texts; only then can an accuracy budget steer it.
        computes_in: the number type the engine is told to compute in.
        half_weights: OpenVINO alone: store weights as float16.
    """

    runtime: str
    precision: str
    scheme: str
    recipe: str
    tolerance: Tolerance
    calibrates: bool = False
    computes_in: str = "float32"
    half_weights: bool = False

    @property
    def purpose(self) -> str:
        """What it is for, in one line of `stcompile targets`."""
        return _PURPOSES[self.name]

    @property
    def batch_invariant(self) -> bool:
        """Whether a text's vector is independent of its batch mates."""
        return self.tolerance.batch_invariance is not None

    @property
    def distills(self) -> bool:
        """Whether the model is replaced by static embeddings that imitate it."""
        return self.scheme == STATIC

    @property
    def adopts(self) -> bool:
        """Whether a graph of somebody else's is kept as it is."""
        return self.recipe == ADOPTED

    @property
    def needs_operators(self) -> bool:
        """Whether it is nothing without operators of the package's own."""
        return self.recipe == "bfloat16"

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
        target = {**TARGETS, **OF_GRAPHS}.get(name)
        if target is not None:
            return target
        if name in FORMER:
            raise TargetError(f"target {name} is {FORMER[name]} now: say that")
        near = difflib.get_close_matches(name, [*TARGETS, *OF_GRAPHS], n=2, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise TargetError(f"unknown target {name!r}: {hint}Known targets: {', '.join([*TARGETS, *OF_GRAPHS])}")

    def refusals(self) -> tuple[str, ...]:
        """Why this machine cannot make or run the target, one sentence each; empty when it can both."""
        package, extra = ("openvino", "openvino") if self.is_openvino else ("onnxruntime", "cpu")
        reasons = []
        if find_spec(package) is None:
            reasons.append(f"{package} is not installed: pip install 'stcompile[{extra}]'")
        # To make it; it runs without.
        if self.scheme == NNCF and find_spec("nncf") is None:
            reasons.append("nncf is not installed: pip install 'stcompile[nncf]'")
        if self.computes_in == "bfloat16" and computes_bfloat16() is False:
            reasons.append("this CPU does not compute in bfloat16 (AVX512-BF16 or AMX): use openvino-fp32")
        return tuple(reasons)

    def caveats(self) -> tuple[str, ...]:
        """What makes the target slower here than elsewhere, one sentence each."""
        if self.precision not in ("int8", "int4") or adds_int8_products() is not False:
            return ()
        if self.is_openvino or self.scheme == "weights":
            return ("no faster than fp32 here: this CPU has no VNNI",)
        return ("slower here than on a CPU with VNNI",)


# Each tolerance is what was measured, with room for models that were not: docs/targets.md has the numbers.
_INT8_DYNAMIC = Tolerance(max_abs_error=None, min_cosine=0.94, mean_cosine=0.985, batch_invariance=None)
_INT8 = Tolerance(max_abs_error=None, min_cosine=0.98, mean_cosine=0.995, batch_invariance=0.99999)
_INT8_WEIGHTS = Tolerance(max_abs_error=None, min_cosine=0.985, mean_cosine=0.998, batch_invariance=0.99999)
_INT4_WEIGHTS = Tolerance(max_abs_error=None, min_cosine=0.85, mean_cosine=0.96, batch_invariance=0.9999)
_INT8_NNCF = Tolerance(max_abs_error=None, min_cosine=0.94, mean_cosine=0.985, batch_invariance=0.99999)
_INT4_NNCF = Tolerance(max_abs_error=None, min_cosine=0.8, mean_cosine=0.93, batch_invariance=0.9999)
# To the same graph in ONNX Runtime: nothing says that its own numbers do not depend on a batch.
_ADOPTED = Tolerance(max_abs_error=None, min_cosine=0.9999, mean_cosine=0.9999, batch_invariance=None)
_FLOAT32 = Tolerance(max_abs_error=1.5e-6, min_cosine=0.999999, mean_cosine=0.999999, batch_invariance=0.999999)
_FLOAT16 = Tolerance(max_abs_error=None, min_cosine=0.9999, mean_cosine=0.99995, batch_invariance=0.99999)
_BFLOAT16 = Tolerance(max_abs_error=None, min_cosine=0.9995, mean_cosine=0.9999, batch_invariance=0.9999)

# OpenVINO's sums depend on the length of a row unless it is a multiple of its widest vector (16 floats of AVX-512): by
# 2e-7 in float32, but a rounding to 8 bits that tips over carries on, and cosines between batches fell to .9999.
OPENVINO_LENGTH_MULTIPLE = 16

# What each target is for.
_PURPOSES = {
    "onnx-fp32": "exact: float32 rounding is all that separates it from torch",
    "onnx-fp16": "half the size, for CUDA; on CPU the engine computes it through float32",
    "onnx-int8": "the recommended one for CPU: a quarter of the size, calibrated and smoothed layer by layer",
    "onnx-bf16": "half the size of fp32, nearly exact; twice as fast on CPUs with AMX, or of AMD with AVX512-BF16",
    "onnx-int8-dynamic": "int8 weights per channel, activations quantized per batch as they come: NOT batch-invariant",
    "onnx-int8-weights": "weights in blocks of 32: a quarter of the size, nearer to torch than onnx-int8, slower",
    "onnx-int4-weights": "weights in blocks of 32 four-bit numbers: the smallest, at a loss to be checked",
    "openvino-fp32": "exact, on OpenVINO",
    "openvino-bf16": "half the size and twice as fast as fp32, nearly exact, on CPUs with AVX512-BF16 or AMX",
    "openvino-fp16": "half the size, computed in float32",
    "openvino-int8": "the recommended one for OpenVINO: a quarter of the size, fast on CPUs with VNNI",
    "openvino-int8-weights": "int8 weights per channel, computed in float32: a quarter of the size, nearer to torch",
    "openvino-int4-weights": "weights in blocks of 32 four-bit numbers: the smallest, at a loss to be checked",
    "openvino-int8-nncf": "NNCF's static int8: a little faster than openvino-int8 and three times as far from torch",
    "openvino-int4-nncf": "NNCF's int4 weights: as fast as openvino-int4-weights, 3 % smaller and further from torch",
    "onnx-adopted": "an ONNX graph of somebody else's, kept as it is, with the rest of its stack behind it",
    "static": "distilled into static embeddings: far faster and smaller, at a loss of quality the export prints",
}

# Runtime, precision, scheme, recipe and tolerance.
_TABLE = (
    Target("onnx", "fp32", "", "float32", _FLOAT32),
    Target("onnx", "fp16", "", "float16", _FLOAT16),
    Target("onnx", "int8", "", "int8", _INT8, calibrates=True),
    Target("onnx", "bf16", "", "bfloat16", _BFLOAT16),
    Target("onnx", "int8", "dynamic", "dynamic", _INT8_DYNAMIC),
    Target("onnx", "int8", "weights", "int8-weights", _INT8_WEIGHTS, calibrates=True),
    Target("onnx", "int4", "weights", "int4-weights", _INT4_WEIGHTS, calibrates=True),
    Target("openvino", "fp32", "", "float32", _FLOAT32),
    Target("openvino", "bf16", "", "float32", _BFLOAT16, computes_in="bfloat16", half_weights=True),
    Target("openvino", "fp16", "", "float32", _FLOAT16, half_weights=True),
    Target("openvino", "int8", "", "int8-openvino", _INT8, calibrates=True),
    Target("openvino", "int8", "weights", "int8-weights-openvino", _INT8_WEIGHTS, calibrates=True),
    Target("openvino", "int4", "weights", "int4-weights", _INT4_WEIGHTS, calibrates=True),
    Target("openvino", "int8", NNCF, "int8-nncf", _INT8_NNCF, calibrates=True),
    Target("openvino", "int4", NNCF, "int4-nncf", _INT4_NNCF, calibrates=True),
    Target("onnx", "fp32", STATIC, "float32", _FLOAT32),
)

TARGETS = {target.name: target for target in _TABLE}

# What only a folder with a graph can be compiled to.
OF_GRAPHS = {"onnx-adopted": Target("onnx", ADOPTED, "", ADOPTED, _ADOPTED)}
