"""Observers: which range of an activation its 256 levels should cover, from what was seen on calibration texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from onnxruntime.quantization.calibrate import HistogramCollector

Array = NDArray[np.float32]
Range = tuple[float, float]

# Share of the values that stay inside; the rest, outliers of single channels, are cut to the range.
_PERCENTILE = 99.99

# Bins of the histogram and of its coarse copy; onnxruntime's search takes time with the square of their ratio.
_BINS, _QUANTIZED_BINS = 512, 128


def min_max(rows: Array, low: float, high: float) -> Range:
    """Everything that was seen: nothing is cut, not even what the sample of rows does not hold."""
    return low, high


def percentile(rows: Array, low: float, high: float) -> Range:
    """All but the outermost 0.01 % of the sampled values."""
    cut = (100 - _PERCENTILE) / 2
    below, above = np.percentile(rows, [cut, 100 - cut])
    return float(below), float(above)


def entropy(rows: Array, low: float, high: float) -> Range:
    """The symmetric range whose coarse histogram tells most of the fine one (KL divergence, as TensorRT calibrates).

    onnxruntime's own search, `HistogramCollector.get_entropy_threshold`.
    """
    largest = float(np.abs(rows).max()) or 1.0
    counts, edges = np.histogram(rows, bins=_BINS, range=(-largest, largest))
    collector = HistogramCollector("entropy", True, _BINS, _QUANTIZED_BINS, _PERCENTILE, "same")
    found = (counts, edges.astype(np.float32), rows.min(), rows.max(), np.float32(largest))
    below, above = collector.get_entropy_threshold(found, _QUANTIZED_BINS)
    return float(below), float(above)


# By the name that the report records. Tried in this order; a later one must be better to be taken.
OBSERVERS: Mapping[str, Callable[[Array, float, float], Range]] = MappingProxyType(
    {"min-max": min_max, "percentile": percentile, "entropy": entropy}
)
