"""What an artifact makes of a text, as a column: a dense vector, a sparse one, several, or some of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stcompile.artifact.manifest import ENCODER
from stcompile.bulk.options import BulkOptions
from stcompile.bulk.precision import TOO_LARGE, encode_precision, in_precision, too_large
from stcompile.bulk.vectors import as_column
from stcompile.errors import InputError
from stcompile.runtime.encoder import Encoder
from stcompile.runtime.hybrid_embeddings import DENSE, MULTI_VECTOR, SPARSE, HybridEmbeddings
from stcompile.runtime.hybrid_encoder import HybridEncoder
from stcompile.runtime.late_interaction import behind_each_other
from stcompile.runtime.loaded import Loaded
from stcompile.runtime.multi_vector_encoder import MultiVectorEncoder
from stcompile.runtime.of_kind import check_of_kind
from stcompile.runtime.sparse_encoder import SparseEncoder
from stcompile.runtime.sparse_vectors import SparseVectors

# Of a column of sparse vectors, how long they are, zeros included.
DIM = "dim"


class Form(Protocol):
    """How the results of a job are asked for, by which method of the encoder, and kept."""

    method: str
    asked: dict[str, Any]

    def field(self, name: str, column: pa.Array, found: Any) -> pa.Field:
        """The column's name and type, and what else readers need to know of it."""

    def joined(self, parts: Sequence[Any]) -> Any:
        """What `encode` gave in several calls, as one."""

    def column(self, found: Any, ranges: NDArray[np.float32] | None) -> tuple[pa.Array, dict[int, str]]:
        """A column of the results, and rows that it cannot hold, by their place, with the reason.

        Args:
            found: what `encode` gave.
            ranges: of 8 bits, see `in_precision`.
        """


class DenseForm:
    """Arrays `(n, dim)` as fixed-size lists.

    Args:
        options: of the job.
    """

    method = "encode"

    def __init__(self, options: BulkOptions) -> None:
        self._precision = options.precision
        self.asked = {**options.encoding, "precision": encode_precision(options.precision)}

    def field(self, name: str, column: pa.Array, found: NDArray[Any]) -> pa.Field:
        """As `Form.field`."""
        return pa.field(name, column.type)

    def joined(self, parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """As `Form.joined`."""
        return np.concatenate(list(parts))

    def column(self, found: NDArray[Any], ranges: NDArray[np.float32] | None) -> tuple[pa.Array, dict[int, str]]:
        """As `Form.column`."""
        vectors = in_precision(found, self._precision, ranges)
        return as_column(vectors), dict.fromkeys(np.flatnonzero(too_large(found, vectors)).tolist(), TOO_LARGE)


class SparseForm:
    """`SparseVectors` as structs of two lists, `indices` (int32) and `values` (float32).

    Args:
        options: of the job.
    """

    method = "encode"

    def __init__(self, options: BulkOptions) -> None:
        names = ("normalize_embeddings", "truncate_dim")
        asked = {name: value for name, value in options.encoding.items() if name not in names}
        self.asked = {**asked, "max_active_dims": options.max_active_dims}

    def field(self, name: str, column: pa.Array, found: SparseVectors) -> pa.Field:
        """As `Form.field`: with how many dimensions there are, as `dim`."""
        return pa.field(name, column.type, metadata={DIM: str(found.dim)})

    def joined(self, parts: Sequence[SparseVectors]) -> SparseVectors:
        """As `Form.joined`."""
        return SparseVectors.of([vector for part in parts for vector in part], parts[0].dim)

    def column(self, found: SparseVectors, ranges: NDArray[np.float32] | None) -> tuple[pa.Array, dict[int, str]]:
        """As `Form.column`."""
        return _sparse_column(found), {}


class MultiVectorForm:
    """Of each text an array `(tokens, dim)`, as a list of fixed-size lists.

    Args:
        options: of the job.
        dim: width of a vector.
    """

    method = "encode"

    def __init__(self, options: BulkOptions, dim: int) -> None:
        self._dim = dim
        self.asked = {name: value for name, value in options.encoding.items() if name != "truncate_dim"}

    def field(self, name: str, column: pa.Array, found: Sequence[NDArray[np.float32]]) -> pa.Field:
        """As `Form.field`."""
        return pa.field(name, column.type)

    def joined(self, parts: Sequence[Sequence[NDArray[np.float32]]]) -> list[NDArray[np.float32]]:
        """As `Form.joined`."""
        return [vectors for part in parts for vectors in part]

    def column(
        self, found: Sequence[NDArray[np.float32]], ranges: NDArray[np.float32] | None
    ) -> tuple[pa.Array, dict[int, str]]:
        """As `Form.column`."""
        return _ragged_column(found, self._dim), {}


class HybridForm:
    """`HybridEmbeddings` as structs of `dense`, `sparse` and `multi_vector`, each as of its own form.

    Args:
        options: of the job.
        dim: width of a token's vector.
    """

    method = "encode_hybrid"

    def __init__(self, options: BulkOptions, dim: int) -> None:
        self._dim = dim
        names = ("normalize_embeddings", "truncate_dim")
        asked = {name: value for name, value in options.encoding.items() if name not in names}
        self.asked = {**asked, "outputs": options.outputs}

    def field(self, name: str, column: pa.Array, found: HybridEmbeddings) -> pa.Field:
        """As `Form.field`: with how many dimensions sparse vectors have, as `dim`."""
        metadata = None if found.sparse is None else {DIM: str(found.sparse.dim)}
        return pa.field(name, column.type, metadata=metadata)

    def joined(self, parts: Sequence[HybridEmbeddings]) -> HybridEmbeddings:
        """As `Form.joined`."""
        first = parts[0]
        return HybridEmbeddings(
            None if first.dense is None else np.concatenate([part.dense for part in parts if part.dense is not None]),
            None
            if first.sparse is None
            else SparseVectors.of([vector for part in parts for vector in part.sparse], first.sparse.dim),
            None if first.multi_vector is None else [vectors for part in parts for vectors in part.multi_vector],
        )

    def column(self, found: HybridEmbeddings, ranges: NDArray[np.float32] | None) -> tuple[pa.Array, dict[int, str]]:
        """As `Form.column`."""
        columns = {}
        if found.dense is not None:
            columns[DENSE] = as_column(found.dense)
        if found.sparse is not None:
            columns[SPARSE] = _sparse_column(found.sparse)
        if found.multi_vector is not None:
            columns[MULTI_VECTOR] = _ragged_column(found.multi_vector, self._dim)
        return pa.StructArray.from_arrays([*columns.values()], [*columns]), {}


def _sparse_column(found: SparseVectors) -> pa.Array:
    if found.nnz > np.iinfo(np.int32).max:
        raise InputError(f"a shard would hold {found.nnz} numbers, more than a list of Parquet: lower --shard-rows")
    offsets = pa.array(found.indptr.astype(np.int32))
    lists = [pa.ListArray.from_arrays(offsets, pa.array(each)) for each in (found.indices, found.values)]
    return pa.StructArray.from_arrays(lists, ["indices", "values"])


def _ragged_column(found: Sequence[NDArray[np.float32]], dim: int) -> pa.Array:
    vectors, offsets = behind_each_other(found, dim)
    if offsets[-1] > np.iinfo(np.int32).max:
        raise InputError(f"a shard would hold {offsets[-1]} vectors, more than a list of Parquet: lower --shard-rows")
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), as_column(vectors))


def form_of(loaded: Loaded, options: BulkOptions) -> tuple[Encoder | SparseEncoder | MultiVectorEncoder, Form]:
    """An opened artifact as what makes a vector of a text, and its form.

    Raises:
        InputError: it makes none, or the options are of another form.
    """
    if not isinstance(loaded, (Encoder, SparseEncoder, MultiVectorEncoder)):
        raise InputError(f"a {loaded.kind} makes no vectors: pass an encoder's artifact, or use `stcompile rerank`")
    if isinstance(loaded, HybridEncoder):
        if options.outputs != (DENSE,):
            check_of_kind(
                loaded.kind, {**options.of_kinds, **({".npy": "format npy"} if options.format == "npy" else {})}
            )
            return loaded, HybridForm(options, loaded.token_dim)
        options = replace(options, outputs=None)
    check_of_kind(ENCODER if isinstance(loaded, Encoder) else loaded.kind, options.of_kinds)
    if isinstance(loaded, SparseEncoder):
        return loaded, SparseForm(options)
    if isinstance(loaded, MultiVectorEncoder):
        return loaded, MultiVectorForm(options, loaded.get_embedding_dimension())
    return loaded, DenseForm(options)
