"""A layer's weights in 8 or 4 bits, rounded once, however many graphs a search writes with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from stcompile.compiler.quantize.rounding import compensated_blocks, compensated_columns
from stcompile.compiler.quantize.weights import Blocks, quantize_blocks, quantize_columns

Array = NDArray[np.float32]
Columns = tuple[NDArray[np.int8], Array]


@dataclass(frozen=True, eq=False)
class RoundedWeights:
    """The weights of one layer under one plan.

    Attributes:
        matrices: the weights, float32 `(in, out)` each.
        rows: makes what they are multiplied with, float32 `(n, in)`; None rounds each weight to its nearest level.
        smoothing: what each input channel's weights are multiplied by first; None for nothing.
        pair_safe: see `quantize_columns`.
        bits: of blocks.
        block: inputs that share a scale, of blocks.
    """

    matrices: tuple[Array, ...]
    rows: Callable[[], Array] | None
    smoothing: Array | None = None
    pair_safe: bool = True
    bits: int = 8
    block: int = 0

    @cached_property
    def columns(self) -> list[Columns]:
        """Each matrix in 8 bits per output column: levels `(in, out)` and scales `(out,)`."""
        if self.rows is None:
            return [quantize_columns(matrix, pair_safe=self.pair_safe) for matrix in self._smoothed()]
        joined = np.concatenate([*self._smoothed()], axis=1)
        levels, scale = compensated_columns(joined, self.rows(), pair_safe=self.pair_safe)
        ends = np.cumsum([matrix.shape[1] for matrix in self.matrices])[:-1]
        parts = zip(np.split(levels, ends, axis=1), np.split(scale, ends), strict=True)
        return [(np.ascontiguousarray(part), scales) for part, scales in parts]

    @cached_property
    def blocks(self) -> list[Blocks]:
        """Each matrix in blocks."""
        if self.rows is None:
            return [quantize_blocks(matrix, self.bits, self.block) for matrix in self._smoothed()]
        rows = self.rows()
        return [compensated_blocks(matrix, rows, self.bits, self.block) for matrix in self._smoothed()]

    def _smoothed(self) -> Iterator[Array]:
        """One by one, and made anew: those of all layers would be the whole model again."""
        for matrix in self.matrices:
            yield np.ascontiguousarray(matrix if self.smoothing is None else matrix * self.smoothing[:, None])
