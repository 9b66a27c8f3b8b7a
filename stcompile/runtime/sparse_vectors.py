"""Vectors of which most numbers are zeros, by what they have: positions and values, without scipy and torch."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, SupportsIndex, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stcompile.errors import InputError, MissingExtraError, one_line


@dataclass(frozen=True, eq=False)
class SparseVector:
    """One vector.

    Attributes:
        indices: where it is not zero, int32 `(active,)`, in ascending order.
        values: what it is there, float32 `(active,)`.
        dim: how long it is, zeros included.
    """

    indices: NDArray[np.int32]
    values: NDArray[np.float32]
    dim: int

    @property
    def shape(self) -> tuple[int]:
        """As of the dense vector: `(dim,)`."""
        return (self.dim,)

    def __len__(self) -> int:
        return self.dim

    def toarray(self) -> NDArray[np.float32]:
        """The dense vector, float32 `(dim,)`."""
        result = np.zeros(self.dim, np.float32)
        result[self.indices] = self.values
        return result

    def to_dict(self) -> dict[str, list[Any]]:
        """`indices` and `values` as lists, which is Qdrant's form of a sparse vector."""
        return {"indices": self.indices.tolist(), "values": self.values.tolist()}


@dataclass(frozen=True, eq=False)
class SparseVectors:
    """Several vectors of one length, as compressed sparse rows (CSR).

    Attributes:
        indices: where they are not zero, int32 `(active,)`, of one vector after the other, each in ascending order.
        values: what they are there, float32 `(active,)`.
        indptr: where each begins in the two, and the last ends: int64 `(n + 1,)`.
        dim: how long each is, zeros included.
    """

    indices: NDArray[np.int32]
    values: NDArray[np.float32]
    indptr: NDArray[np.int64]
    dim: int

    @classmethod
    def of(cls, rows: Sequence[SparseVector], dim: int) -> SparseVectors:
        """Vectors of that length, one after the other."""
        counts = [0, *(len(row.indices) for row in rows)]
        return cls(
            np.concatenate([np.zeros(0, np.int32), *(row.indices for row in rows)]),
            np.concatenate([np.zeros(0, np.float32), *(row.values for row in rows)]),
            np.cumsum(counts, dtype=np.int64),
            dim,
        )

    @property
    def shape(self) -> tuple[int, int]:
        """As of the dense matrix: `(n, dim)`."""
        return len(self), self.dim

    @property
    def nnz(self) -> int:
        """How many numbers are not zero, of all vectors together."""
        return len(self.values)

    def __len__(self) -> int:
        return len(self.indptr) - 1

    @overload
    def __getitem__(self, place: SupportsIndex) -> SparseVector: ...

    @overload
    def __getitem__(self, place: slice) -> SparseVectors: ...

    def __getitem__(self, place: SupportsIndex | slice) -> SparseVector | SparseVectors:
        if isinstance(place, slice):
            return SparseVectors.of([self[index] for index in range(*place.indices(len(self)))], self.dim)
        index = operator.index(place)
        if not -len(self) <= index < len(self):
            raise IndexError(f"there are {len(self)} vectors, and no number {index}")
        start, end = self.indptr[index % len(self)], self.indptr[index % len(self) + 1]
        return SparseVector(self.indices[start:end], self.values[start:end], self.dim)

    def __iter__(self) -> Iterator[SparseVector]:
        return (self[index] for index in range(len(self)))

    def toarray(self) -> NDArray[np.float32]:
        """The dense matrix, float32 `(n, dim)`: of a vocabulary of 30,522 tokens 122 kB a vector."""
        result = np.zeros(self.shape, np.float32)
        result[self.rows, self.indices] = self.values
        return result

    def toscipy(self) -> Any:
        """The same as `scipy.sparse.csr_array`, which shares memory with this.

        Raises:
            MissingExtraError: scipy is not installed.
        """
        try:
            # Who does not ask for it needs no scipy.
            from scipy.sparse import csr_array  # noqa: PLC0415
        except ImportError as error:
            raise MissingExtraError("toscipy needs scipy, which is not installed: pip install scipy") from error
        return csr_array((self.values, self.indices, self.indptr), shape=self.shape)

    def save_npz(self, file: Any) -> None:
        """Writes them to a file, a path or what is open for bytes, as `scipy.sparse.load_npz` reads them."""
        np.savez_compressed(
            file,
            indices=self.indices,
            indptr=self.indptr,
            format=np.array(b"csr"),
            shape=np.array(self.shape),
            data=self.values,
        )

    @property
    def rows(self) -> NDArray[np.int64]:
        """Which vector each number belongs to, int64 `(active,)`."""
        return np.repeat(np.arange(len(self)), np.diff(self.indptr))


Sparse = SparseVector | SparseVectors | ArrayLike | Sequence[Any]


def rows_of(dense: NDArray[np.float32], keep: int | None) -> list[SparseVector]:
    """Dense rows `(n, dim)` by what they have; of each the `keep` largest by their size, of equal ones the first."""
    count, dim = dense.shape
    rows, columns = np.nonzero(dense)
    values = dense[rows, columns]
    ends = np.cumsum(np.bincount(rows, minlength=count))
    found = []
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        indices, some = columns[start:end].astype(np.int32), values[start:end]
        if keep is not None and len(some) > keep:
            kept = np.sort(np.argsort(-np.abs(some), kind="stable")[:keep])
            indices, some = indices[kept], some[kept]
        found.append(SparseVector(indices, some, dim))
    return found


def as_sparse(what: str, vectors: Any) -> tuple[SparseVectors, bool]:
    """Vectors of any form, and whether it was one by itself.

    Args:
        what: who takes them, for an error.
        vectors: ours, lists of ours, what scipy, torch and numpy have.

    Raises:
        InputError: it is something else, or of several lengths.
    """
    if isinstance(vectors, SparseVectors):
        return vectors, False
    if isinstance(vectors, SparseVector):
        return SparseVectors.of([vectors], vectors.dim), True
    if isinstance(vectors, (list, tuple)) and not vectors:
        # Of no vectors nobody knows the width: it is that of the others.
        return SparseVectors.of([], 0), False
    if isinstance(vectors, (list, tuple)) and all(isinstance(item, SparseVector) for item in vectors):
        dims = {item.dim for item in vectors}
        if len(dims) > 1:
            raise InputError(f"{what} takes vectors of one width, got {', '.join(map(str, sorted(dims)))}")
        return SparseVectors.of(vectors, dims.pop()), False
    try:
        if (rows := _of_scipy(vectors)) is not None or (rows := _of_torch(vectors)) is not None:
            return rows
        array = np.asarray(_dense(vectors), dtype=np.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{what} takes what encode gives, or vectors (dim,) or matrices (n, dim) that numpy can read "
            f"({one_line(error, 200)})"
        ) from error
    if array.ndim not in (1, 2):
        raise InputError(f"{what} takes vectors (dim,) or matrices (n, dim), got shape {array.shape}")
    matrix = np.atleast_2d(array)
    return SparseVectors.of(rows_of(matrix, None), matrix.shape[1]), array.ndim == 1


def _of_scipy(vectors: Any) -> tuple[SparseVectors, bool] | None:
    """A sparse matrix or array of scipy, of whatever form, without its zeros."""
    if not callable(change := getattr(vectors, "tocsr", None)):
        return None
    rows = change(copy=True)
    rows.sum_duplicates()
    rows.eliminate_zeros()
    dim, single = int(rows.shape[-1]), len(rows.shape) == 1
    indptr = np.array([0, len(rows.data)]) if single else rows.indptr
    values = rows.data.astype(np.float32)
    return SparseVectors(rows.indices.astype(np.int32), values, np.asarray(indptr, np.int64), dim), single


def _of_torch(vectors: Any) -> tuple[SparseVectors, bool] | None:
    """A sparse tensor of torch in coordinates, without its zeros."""
    if not getattr(vectors, "is_sparse", False) or vectors.dim() not in (1, 2):
        return None
    tensor = vectors.detach().cpu().coalesce()
    places, values = tensor.indices().numpy(), tensor.values().float().numpy()
    taken = values != 0
    places, single = places[:, taken], tensor.dim() == 1
    counts = [places.shape[1]] if single else np.bincount(places[0], minlength=int(tensor.shape[0]))
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return SparseVectors(places[-1].astype(np.int32), values[taken], indptr, int(tensor.shape[-1])), single


def _dense(vectors: Any) -> Any:
    if isinstance(vectors, (list, tuple)):
        return [_dense(item) for item in vectors]
    if isinstance(vectors, (SparseVector, SparseVectors)) or callable(getattr(vectors, "tocsr", None)):
        return vectors.toarray()
    if callable(getattr(vectors, "detach", None)):  # torch's, also those that remember how they were made
        return vectors.detach().cpu().to_dense().float().numpy()
    return vectors
