"""What flows through a float32 graph on the calibration texts: the rows that layers read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from stcompile.quantize.calibration import Batch
from stcompile.runtime.engines.onnxruntime import OnnxRuntimeEngine
from stcompile.trace.running import opened

Array = NDArray[np.float32]

# Rows kept of each tensor: rounding that compensates wants more of them than a weight is wide.
_ROWS = 4096
_BYTES = 32 << 20


@dataclass(frozen=True)
class Recording:
    """What one tensor held on the calibration texts.

    Attributes:
        rows: an even sample of its rows, float32 `(n, width)`: as many of each text as of every other.
        low: smallest value of each channel over all rows, `(width,)`.
        high: largest value of each channel over all rows, `(width,)`.
    """

    rows: Array
    low: Array
    high: Array


def record(model: ir.Model, values: Sequence[ir.Value], batches: Sequence[Batch]) -> dict[ir.Value, Recording]:
    """Runs the graph and keeps what the layers read.

    Args:
        model: a float32 graph; it is left as it was.
        values: tensors of the graph, `(..., width)`.
        batches: the calibration texts.

    Returns:
        one recording per tensor.
    """
    names = [str(value.name) for value in values]
    found = {name: _Sample() for name in names}
    texts = sum(len(batch.rows) for batch in batches)
    with _watching(model, values) as outputs:
        for arrays, batch in ((outputs(batch), batch) for batch in batches):
            for name, array in zip(names, arrays, strict=True):
                found[name].add(array.reshape(-1, array.shape[-1]), len(batch.rows), texts)
    return {value: found[name].recording() for value, name in zip(values, names, strict=True)}


@contextmanager
def _watching(model: ir.Model, values: Sequence[ir.Value]) -> Iterator[_Outputs]:
    """Runs the graph with some of its tensors as outputs."""
    before = list(model.graph.outputs)
    extra = [value for value in values if value not in before]
    untyped = [value for value in extra if value.dtype is None]
    for value in untyped:
        value.dtype = ir.DataType.FLOAT
    model.graph.outputs.extend(extra)
    try:
        with opened(model) as engine:
            yield _Outputs(engine, tuple(str(value.name) for value in values))
    finally:
        for _ in extra:
            model.graph.outputs.pop()
        for value in untyped:
            value.type = None


@dataclass(frozen=True)
class _Outputs:
    engine: OnnxRuntimeEngine
    names: tuple[str, ...]

    def __call__(self, batch: Batch) -> list[Array]:
        return self.engine.run(batch.feeds, self.names)


class _Sample:
    """Rows of one tensor as they come by."""

    def __init__(self) -> None:
        self._rows: list[Array] = []
        self._low: Array | None = None
        self._high: Array | None = None

    def add(self, rows: Array, texts: int, all_texts: int) -> None:
        """Takes the share of the sample that belongs to `texts` of `all_texts` texts, evenly spread."""
        wanted = min(_ROWS, max(1, _BYTES // (4 * rows.shape[1])))
        share = min(len(rows), max(1, round(wanted * texts / all_texts)))
        self._rows.append(rows[np.linspace(0, len(rows) - 1, share).astype(np.int64)].copy())
        low, high = rows.min(axis=0), rows.max(axis=0)
        self._low = low if self._low is None else np.minimum(self._low, low)
        self._high = high if self._high is None else np.maximum(self._high, high)

    def recording(self) -> Recording:
        """What was kept."""
        assert self._low is not None
        assert self._high is not None
        return Recording(np.concatenate(self._rows), self._low, self._high)
