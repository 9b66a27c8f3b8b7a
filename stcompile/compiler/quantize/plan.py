"""The plan: how each layer of a graph is to be computed, and why."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stcompile.artifact.report import LayerSummary
from stcompile.compiler.quantize.layers import Layer
from stcompile.compiler.quantize.rounded import RoundedWeights
from stcompile.compiler.quantize.schemes import PerToken, StaticRange

Array = NDArray[np.float32]

# Names of the schemes, as the manifest records them.
STATIC, PER_TOKEN, PER_BATCH, WEIGHTS, FLOAT32 = "static", "per-token", "per-batch", "weights", "float32"


@dataclass(frozen=True, eq=False)
class LayerPlan:
    """One layer's scheme and everything it needs.

    Attributes:
        layer: which.
        scheme: `static`, `per-token`, `per-batch`, `weights` or `float32`.
        bits: of the weights.
        smoothing: SmoothQuant's divisor of each input channel, which its weights are multiplied by; None without.
        strength: SmoothQuant's strength behind it.
        static: of `static`: the levels.
        per_token: of `per-token`: the zero point.
        observer: of `static`: what chose the range.
        weights: the weights in 8 or 4 bits, rounded when they are first asked for; None for `float32`.
        error: relative error of the output on the calibration rows; None where it was not measured.
        sensitivity: what the layer alone costs the sentence embedding; None where it was not measured.
        reason: why it is not computed the cheapest way; empty where it is.
    """

    layer: Layer
    scheme: str
    bits: int = 8
    smoothing: Array | None = None
    strength: float | None = None
    static: StaticRange | None = None
    per_token: PerToken | None = None
    observer: str = ""
    weights: RoundedWeights | None = None
    error: float | None = None
    sensitivity: float | None = None
    reason: str = ""

    def summary(self, route: str) -> LayerSummary:
        """What the manifest records."""
        return LayerSummary(
            name=self.layer.name,
            route=route,
            matmuls=len(self.layer.nodes),
            scheme=self.scheme,
            bits=32 if self.scheme == FLOAT32 else self.bits,
            observer=self.observer,
            smoothing=self.strength,
            error=_rounded(self.error),
            sensitivity=_rounded(self.sensitivity),
            reason=self.reason,
        )


def _rounded(value: float | None) -> float | None:
    # Three digits: more would differ between CPUs, whose float32 sums do.
    return None if value is None else float(f"{value:.3g}")
