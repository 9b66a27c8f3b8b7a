"""What flows through a float32 graph on the calibration texts: the rows that layers read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from stcompile.compiler.quantize.calibration import Batch
from stcompile.compiler.trace.running import RunningGraph, opened

Array = NDArray[np.float32]

# Rows kept of each tensor: rounding that compensates wants more of them than a weight is wide.
_ROWS = 4096
_BYTES = 32 << 20

# Tokens of a run: what all layers read is in memory at once.
_RUN_TOKENS = 256


@dataclass(frozen=True)
class Recording:
    """What one tensor held on the calibration texts; its rows are in a file until they are asked for.

    Attributes:
        file: the rows, float32.
        low: smallest value of each channel over all rows, `(width,)`.
        high: largest value of each channel over all rows, `(width,)`.
    """

    file: Path
    low: Array
    high: Array

    @property
    def rows(self) -> Array:
        """An even sample of its rows, read anew, float32 `(n, width)`: as many of each text as of every other."""
        return np.fromfile(self.file, dtype=np.float32).reshape(-1, len(self.low))

    @property
    def largest(self) -> Array:
        """Largest magnitude of each channel, `(width,)`."""
        found: Array = np.maximum(np.abs(self.low), np.abs(self.high))
        return found


def record(model: ir.Model, values: Sequence[ir.Value], batches: Sequence[Batch], folder: Path) -> list[Recording]:
    """Runs a float32 graph on the calibration texts, and keeps of each tensor, `(..., width)`, what layers read of it.

    The rows are in files of the folder: those of all layers together are larger than the model. The graph is left as
    it was.
    """
    names = [str(value.name) for value in values]
    texts = sum(len(batch.rows) for batch in batches)
    with _watching(model, values) as outputs:
        alike = _same_for_all_texts(outputs, batches)
        samples = [_Sample(folder / f"{index}.rows", name in alike) for index, name in enumerate(names)]
        for batch in batches:
            for start, part in _parts(batch):
                share = slice(start, start + len(part.rows))
                for sample, array in zip(samples, outputs(part), strict=True):
                    sample.add(array.reshape(-1, array.shape[-1]), share, len(batch.rows), texts)
    return [sample.recording() for sample in samples]


def _parts(batch: Batch) -> Iterator[tuple[int, Batch]]:
    """A batch in runs of few tokens, each with the position of its first text."""
    count = len(batch.rows)
    step = max(1, _RUN_TOKENS * count // max(1, batch.tokens))
    for start in range(0, count, step):
        yield start, _texts_of(batch, start, min(start + step, count))


def _texts_of(batch: Batch, start: int, end: int) -> Batch:
    return batch if end - start == len(batch.rows) else batch.part(slice(start, end))


def _same_for_all_texts(outputs: _Outputs, batches: Sequence[Batch]) -> set[str]:
    """Tensors that have no more rows for two texts than for one: relative positions, for one."""
    several = [batch for batch in batches if len(batch.rows) > 1]
    if not several:
        return set()
    batch = min(several, key=lambda batch: batch.tokens)
    one, two = (outputs(_texts_of(batch, 0, count)) for count in (1, 2))
    return {name for name, few, many in zip(outputs.names, one, two, strict=True) if few.size == many.size}


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
        with opened(model) as graph:
            yield _Outputs(graph, tuple(str(value.name) for value in values))
    finally:
        for _ in extra:
            model.graph.outputs.pop()
        for value in untyped:
            value.type = None


@dataclass(frozen=True)
class _Outputs:
    graph: RunningGraph
    names: tuple[str, ...]

    def __call__(self, batch: Batch) -> list[Array]:
        return self.graph.run(batch.feeds, self.names)


class _Sample:
    """Rows of one tensor as they come by; where they are `alike`, they are the same however many texts a run has."""

    def __init__(self, file: Path, alike: bool) -> None:
        file.write_bytes(b"")
        self._file = file
        self._alike = alike
        self._low: Array | None = None
        self._high: Array | None = None

    def add(self, rows: Array, part: slice, texts: int, all_texts: int) -> None:
        """Takes the share of the sample, evenly spread, that belongs to a batch of `texts` of `all_texts` texts.

        The rows, `(n, width)`, are of a run with a part of the batch's texts.
        """
        low, high = rows.min(axis=0), rows.max(axis=0)
        self._low = low if self._low is None else np.minimum(self._low, low)
        self._high = high if self._high is None else np.maximum(self._high, high)
        if self._alike and part.start:
            return
        first, total = 0, len(rows)
        if not self._alike:
            each = len(rows) // (part.stop - part.start)
            first, total = part.start * each, texts * each
        wanted = min(_ROWS, max(1, _BYTES // (4 * rows.shape[1])))
        share = min(total, max(1, round(wanted * texts / all_texts)))
        taken = np.linspace(0, total - 1, share).astype(np.int64) - first
        with self._file.open("ab") as stream:
            rows[taken[(taken >= 0) & (taken < len(rows))]].tofile(stream)

    def recording(self) -> Recording:
        """What was kept."""
        assert self._low is not None
        assert self._high is not None
        return Recording(self._file, self._low, self._high)
