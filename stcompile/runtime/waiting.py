"""Vectors that wait for the ranges of all: int8 and uint8 take them from every text of a call."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stcompile.artifact.writing import no_scratch

# Bytes of float32 vectors that are held in memory; more than that waits in a file of the temporary folder.
HELD: Final = 32 << 20


class Waiting:
    """float32 vectors, written batch by batch and read again in the same batches: a result of int8 holds none of them.

    A context manager: at its end they are gone, and where the process is killed too (the file has no name).
    """

    def __init__(self, dim: int) -> None:
        """Of none.

        Args:
            dim: width of a vector.
        """
        self._dim = dim
        self._rows: list[NDArray[np.int64]] = []
        self._file = tempfile.SpooledTemporaryFile(max_size=HELD, prefix="stcompile-ranges-")  # noqa: SIM115
        self._low = np.full(dim, np.inf, dtype=np.float32)
        self._high = np.full(dim, -np.inf, dtype=np.float32)

    def __enter__(self) -> Waiting:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def ranges(self) -> NDArray[np.float32]:
        """float32 `(2, dim)`: the lowest and the highest value of each dimension so far."""
        return np.stack([self._low, self._high])

    def add(self, rows: Sequence[int], vectors: NDArray[np.float32]) -> None:
        """One batch more.

        Args:
            rows: what the vectors are of.
            vectors: float32 `(len(rows), dim)`.

        Raises:
            StcompileError: the temporary folder is full or cannot be written.
        """
        np.minimum(self._low, vectors.min(axis=0), out=self._low)
        np.maximum(self._high, vectors.max(axis=0), out=self._high)
        self._rows.append(np.asarray(rows, dtype=np.int64))
        try:
            self._file.write(np.ascontiguousarray(vectors, dtype=np.float32).tobytes())
        except OSError as error:
            raise no_scratch(error, tempfile.tempdir) from error

    def batches(self) -> Iterator[tuple[list[int], NDArray[np.float32]]]:
        """Every batch as it was added.

        Raises:
            StcompileError: the temporary folder is full: the last bytes are written when they are read.
        """
        try:
            self._file.seek(0)
        except OSError as error:
            raise no_scratch(error, tempfile.tempdir) from error
        for rows in self._rows:
            read = self._file.read(rows.size * self._dim * 4)
            yield rows.tolist(), np.frombuffer(read, dtype=np.float32).reshape(rows.size, self._dim)
