"""`BatchEncoder`: an artifact as one callable for Ray Data, Spark, Dask, datasets and Polars.

Their types are looked up in packages that are imported already: whoever passes one has imported its package.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex, TypeVar, cast, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stcompile.artifact import open_artifact
from stcompile.artifact.folder import name_of
from stcompile.bulk.precision import TOO_LARGE, in_precision, too_large
from stcompile.errors import InputError
from stcompile.extras import require
from stcompile.runtime.arguments import check_threads
from stcompile.runtime.device import CPU, Device
from stcompile.runtime.encoder import Encoder
from stcompile.runtime.hub import located
from stcompile.runtime.opened import Origin
from stcompile.runtime.options import EncodeOptions
from stcompile.runtime.options import Precision as EncodePrecision
from stcompile.runtime.postprocess import empty
from stcompile.runtime.route import route_of

if TYPE_CHECKING:
    from pathlib import Path

Precision = Literal["float32", "float16", "int8", "uint8", "binary", "ubinary"]

# Those that are cut from float32, by ranges.
_RANGED = ("int8", "uint8")

# Precision to Spark's type: it takes no float16, no unsigned numbers of 8 bits and no lists of a fixed size.
_SPARK_TYPES = {"float32": "array<float>", "int8": "array<tinyint>", "binary": "array<tinyint>", "ubinary": "binary"}

# A table, a frame, a column, a dict of columns, or an iterator of these.
Batch = TypeVar("Batch")


class BatchEncoder:
    """A callable that gives batches of rows a column of embeddings, whatever kind of batch it is passed.

    For Ray Data's `map_batches`, Spark's `mapInArrow` and `mapInPandas`, Dask's `map_partitions`, `map(batched=True)`
    of datasets, and Polars' `map_batches`. It may be pickled, and what is pickled is the folder's path, the hash of its
    manifest and the options: the same bytes before and after a call. Each process opens the artifact on its first call
    and keeps it open for all encoders of the same artifact, device and threads, until `close`.

    Args:
        artifact: what `stcompile export` wrote, at the same path on every machine that gets batches.
        column: which column holds the texts.
        output: the new column's name.
        device: as of `stcompile.load`; each process computes there.
        threads: engine threads of each process; None takes the CPUs it may use. Where a machine runs several
            processes, its CPUs by their number.
        prompt_name, prompt, batch_size, normalize_embeddings, truncate_dim, task: as of `Encoder.encode`.
        precision: `float32`; `float16`, the same numbers rounded; `int8` or `uint8`, by `ranges`; `binary` or
            `ubinary`, the signs of 8 dimensions in an int8 or uint8.
        ranges: of `int8` and `uint8`, `(2, dim)`: the lowest and highest value of each dimension, such as those of a
            sample; what is outside is cut. As of `sentence_transformers.util.quantize_embeddings`.

    Attributes:
        column: as passed.
        output: as passed.
        precision: of the vectors.
        dim: numbers in a vector, after `truncate_dim`; an eighth of the dimensions for `binary` and `ubinary`.

    Raises:
        ArtifactError: the folder is missing, incomplete or of a newer schema. What its files hold is checked where they
            are first opened.
        InputError: an option is wrong, or ranges are missing, superfluous or of another width.
        ProviderError: there is no device of that name.
    """

    def __init__(
        self,
        artifact: str | Path,
        *,
        column: str = "text",
        output: str = "embedding",
        device: str = CPU,
        threads: int | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: SupportsIndex | None = None,
        normalize_embeddings: bool = False,
        truncate_dim: SupportsIndex | None = None,
        precision: Precision | None = "float32",
        ranges: ArrayLike | None = None,
        task: str | None = None,
    ) -> None:
        check_threads(threads)
        self.column, self.output = _name("column", column), _name("output", output)
        if column == output:
            raise InputError(f"column and output are both {column!r}: name another output")
        self.precision: Precision = precision or "float32"
        opened = open_artifact(located(artifact), check_integrity=False)
        manifest = opened.manifest
        self._origin = Origin.of(opened.folder, check_integrity=True)
        here = Device.parse(device)
        self._device = str(here)
        self._threads = threads
        self._options = EncodeOptions(
            prompt_name=prompt_name,
            prompt=prompt,
            batch_size=cast("int | None", batch_size),
            show_progress_bar=False,
            normalize_embeddings=normalize_embeddings,
            truncate_dim=cast("int | None", truncate_dim),
            precision="float32" if self.precision in ("float16", *_RANGED) else cast("EncodePrecision", self.precision),
            task=task,
        ).settled(manifest, here)
        route = route_of(manifest.routing, task)
        (dim,) = (manifest.dim_of(graph) for graph in manifest.graphs if graph.route == route)
        keep = self._options.truncate_dim
        self.dim = int(empty(0, dim if keep is None else min(keep, dim), self.precision).shape[1])
        self._ranges = _checked_ranges(ranges, self.precision, self.dim)

    @overload
    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]: ...

    @overload
    def __call__(self, batch: Batch) -> Batch: ...

    def __call__(self, batch: Any) -> Any:
        """The batch with one more column, of its texts' embeddings.

        Args:
            batch: one of

                - a pyarrow Table or RecordBatch, which gets a `fixed_size_list[dim]`;
                - a pandas DataFrame, which gets the same as `pandas.ArrowDtype`;
                - a polars DataFrame, which gets an `Array`, or a Series of texts, which becomes one;
                - a dict of numpy arrays, which gets an array `(n, dim)`;
                - any other mapping of columns, for which a dict of that array alone comes back: datasets merges it;
                - an iterator of the first two, as Spark passes them, for which an iterator comes back; what it gives
                  has Spark's `array<float>`, `array<tinyint>` for `int8` and `binary`, `binary` for `ubinary`.

        Returns:
            what was passed, with the column `output` behind the others, in their order.

        Raises:
            InputError: it is nothing of that; it has no column of texts, or a column `output` already; a row has no
                text; a number is too large for float16; float16 or uint8 for Spark.
            ArtifactError, ProviderError, MissingExtraError: as of `stcompile.load`; or the folder holds another
                artifact by now.
        """
        return self._each(batch) if isinstance(batch, Iterator) else self._answered(batch)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({name_of(self._origin.folder)!r}, {self.column!r} to {self.output!r}, "
            f"dim={self.dim}, precision={self.precision!r}, device={self._device!r}, threads={self._threads})"
        )

    def close(self) -> None:
        """Lets go of this process's engine and its memory; whoever encodes next opens it again."""
        _opened.pop(self._key, None)

    @property
    def return_dtype(self) -> Any:
        """Polars' type of the embeddings: of an expression's `map_batches`, its `return_dtype`."""
        import polars as pl  # noqa: PLC0415 - for who has it

        return pl.Array(pl.Series(self._none[:, 0]).dtype, self.dim)

    def polars_schema(self, schema: Mapping[str, Any]) -> Any:
        """Polars' schema of the result: of a LazyFrame's `map_batches`, its `schema`.

        Args:
            schema: of the input, `frame.collect_schema()`.

        Raises:
            InputError: it has no column of texts, or a column `output` already.
        """
        import polars as pl  # noqa: PLC0415 - for who has it

        self._check_names(schema)
        return pl.Schema({**schema, self.output: self.return_dtype})

    def meta(self, frame: Any) -> Any:
        """An empty pandas frame with the columns of the result: of Dask's `map_partitions`, its `meta`.

        Args:
            frame: the input, of Dask or pandas.

        Raises:
            InputError: it is no frame; it has no column of texts, or a column `output` already.
        """
        frame = getattr(frame, "_meta", frame)
        if not _is_a(frame, "pandas", "DataFrame"):
            raise InputError(f"meta takes a frame of Dask or pandas, got {_kind(frame)}")
        self._check_names(frame.columns)
        return self._appended_pandas(frame.iloc[:0], self._none)

    def features(self, features: Any) -> Any:
        """The features of the result: of `map` of datasets, its `features`. Without, its lists have no fixed length.

        Args:
            features: of the input, `dataset.features`.

        Raises:
            InputError: they are none; they have no column of texts, or a column `output` already.
        """
        if not _is_a(features, "datasets", "Features"):
            raise InputError(f"features takes the features of a dataset, dataset.features, got {_kind(features)}")
        import datasets  # noqa: PLC0415 - who has features has it

        self._check_names(features)
        numbers = datasets.Value(self._none.dtype.name)
        return datasets.Features({**features, self.output: datasets.List(numbers, length=self.dim)})

    def spark_schema(self, schema: Any) -> Any:
        """Spark's schema of the result: of `mapInArrow` and `mapInPandas`, their `schema`.

        Args:
            schema: of the input: `frame.schema`, or its DDL ("id bigint, text string").

        Returns:
            a StructType for a StructType, DDL for DDL.

        Raises:
            InputError: it is none of both; it has no column of texts, or a column `output` already; Spark has no such
                precision.
        """
        name = self._spark_type()
        if isinstance(schema, str):
            return f"{schema}, `{self.output.replace('`', '``')}` {name}"
        if not _is_a(schema, "pyspark.sql.types", "StructType"):
            raise InputError(f"spark_schema takes frame.schema, or DDL as text, got {_kind(schema)}")
        from pyspark.sql import types  # noqa: PLC0415 - who has a StructType has it

        self._check_names(schema.names)
        made = {
            "array<float>": types.ArrayType(types.FloatType()),
            "array<tinyint>": types.ArrayType(types.ByteType()),
            "binary": types.BinaryType(),
        }
        return types.StructType([*schema.fields, types.StructField(self.output, made[name])])

    @property
    def _key(self) -> tuple[Origin, str, int | None]:
        return self._origin, self._device, self._threads

    @property
    def _none(self) -> NDArray[Any]:
        """The embeddings of no text, `(0, dim)`."""
        return np.empty((0, self.dim), dtype=empty(0, 0, self.precision).dtype)

    def _each(self, batches: Iterator[Any]) -> Iterator[Any]:
        self._spark_type()
        for batch in batches:
            yield self._answered(batch, for_spark=True)

    def _answered(self, batch: Any, *, for_spark: bool = False) -> Any:
        if _is_a(batch, "pyarrow", "Table", "RecordBatch"):
            self._check_names(batch.schema.names)
            column = batch.column(self.column)
            vectors = self._vectors(_decoded(column, self.column), self.column)
            return batch.append_column(self.output, self._arrow(vectors, for_spark))
        if _is_a(batch, "pandas", "DataFrame"):
            self._check_names(batch.columns)
            vectors = self._vectors(batch[self.column].tolist(), self.column)
            return self._appended_pandas(batch, vectors, for_spark)
        if for_spark:
            raise InputError(
                f"an iterator of batches must be of pyarrow's or pandas', as of mapInArrow and mapInPandas, got one of "
                f"{_kind(batch)}: pass the batches one by one"
            )
        if _is_a(batch, "polars", "DataFrame"):
            self._check_names(batch.columns)
            vectors = self._vectors(batch[self.column].to_list(), self.column)
            return batch.with_columns(self._polars(self.output, vectors))
        if _is_a(batch, "polars", "Series"):
            return self._polars(batch.name, self._vectors(batch.to_list(), batch.name))
        if isinstance(batch, Mapping):
            return self._mapping(batch)
        raise InputError(
            "BatchEncoder takes a table of pyarrow, a DataFrame of pandas or polars, a Series of polars, a dict of "
            f"columns, or an iterator of the first two, got {_kind(batch)}: for texts there is stcompile.load"
        )

    def _mapping(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        self._check_names(batch)
        texts = batch[self.column]
        if not isinstance(texts, (list, np.ndarray)):
            raise InputError(
                f"column {self.column!r} is {_kind(texts)}, not a list or array of texts: pass whole batches, with "
                "map_batches or map(batched=True)"
            )
        found = {self.output: self._vectors(texts, self.column)}
        return {**_as_objects(batch), **found} if isinstance(texts, np.ndarray) else found

    def _vectors(self, texts: Sequence[Any] | NDArray[Any], column: str) -> NDArray[Any]:
        try:
            vectors: NDArray[Any] = _encoder(*self._key).encode(cast("Any", texts), **vars(self._options))
        except InputError as error:
            raise InputError(f"{_where(column, len(texts))}: {error}") from error
        return _in_precision(vectors, self.precision, self._ranges)

    def _arrow(self, vectors: NDArray[Any], for_spark: bool) -> Any:
        pa: Any = require("pyarrow", "BatchEncoder on frames of pandas")
        from stcompile.bulk.vectors import as_column  # noqa: PLC0415 - imports pyarrow

        count, dim = vectors.shape
        if for_spark and self.precision == "ubinary":
            fixed = pa.FixedSizeBinaryArray.from_buffers(pa.binary(dim), count, [None, pa.py_buffer(vectors)])
            return fixed.cast(pa.binary())
        fixed = as_column(vectors)
        return fixed.cast(pa.list_(fixed.type.value_type)) if for_spark else fixed

    def _appended_pandas(self, frame: Any, vectors: NDArray[Any], for_spark: bool = False) -> Any:
        import pandas as pd  # noqa: PLC0415 - who has a frame has it

        return frame.assign(**{self.output: pd.arrays.ArrowExtensionArray(self._arrow(vectors, for_spark))})

    def _polars(self, name: str, vectors: NDArray[Any]) -> Any:
        import polars as pl  # noqa: PLC0415 - who has a frame has it

        return pl.Series(name, vectors, dtype=self.return_dtype)

    def _check_names(self, names: Any) -> None:
        names = list(names)
        if names.count(self.column) != 1:
            problem = "several columns" if self.column in names else "no column"
            known = ", ".join(map(repr, names)) or "none"
            raise InputError(f"there is {problem} {self.column!r} (there are: {known}): pass column=")
        if self.output in names:
            raise InputError(f"there is a column {self.output!r} already: drop it, or pass another output=")

    def _spark_type(self) -> str:
        if self.precision not in _SPARK_TYPES:
            raise InputError(f"Spark has no {self.precision}: ask for {', '.join(_SPARK_TYPES)}")
        return _SPARK_TYPES[self.precision]


_opened: dict[tuple[Origin, str, int | None], Encoder] = {}
_opening = Lock()


def _encoder(origin: Origin, device: str, threads: int | None) -> Encoder:
    """This process's encoder of an artifact."""
    with _opening:
        key = origin, device, threads
        if key not in _opened:
            _opened[key] = Encoder(origin.open(), device=device, threads=threads)
        return _opened[key]


def _after_fork() -> None:
    global _opening  # noqa: PLW0603 - whoever held it is not here
    _opening = Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _checked_ranges(ranges: ArrayLike | None, precision: str, dim: int) -> NDArray[np.float32] | None:
    """Float32 `(2, dim)` for the precisions that need them, None for the others."""
    if precision not in _RANGED:
        if ranges is not None:
            raise InputError(f"ranges are for {' and '.join(_RANGED)}, not for {precision}: leave them out")
        return None
    if ranges is None:
        raise InputError(
            f"precision={precision!r} takes its ranges from all texts of a call, and each batch would have others: "
            f"pass ranges=, (2, {dim}), the lowest and highest of a sample, or ask for float16, binary or ubinary"
        )
    try:
        found = np.array(ranges, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"ranges must be numbers (2, {dim}) ({error})") from error
    if found.shape != (2, dim) or not np.isfinite(found).all() or (found[0] > found[1]).any():
        raise InputError(
            f"ranges must be finite numbers (2, {dim}), the lowest values and the highest, got shape {found.shape}"
        )
    return found


def _where(column: str, rows: int) -> str:
    return f"column {column!r} of a batch of {rows} rows, counted from 0"


def _decoded(column: Any, name: str) -> list[Any]:
    """The items of a column of pyarrow, which does not look whether its texts are any."""
    try:
        return cast("list[Any]", column.to_pylist())
    except UnicodeDecodeError:
        for row in range(len(column)):
            try:
                column[row].as_py()
            except UnicodeDecodeError as error:
                raise InputError(f"{_where(name, len(column))}: item {row} is not UTF-8 ({error}); drop it") from error
        raise


def _as_objects(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays whose texts are Python's own: of numpy's, pyarrow 26 keeps what stands before a NUL."""
    return {
        name: values.astype(object) if isinstance(values, np.ndarray) and values.dtype.kind == "U" else values
        for name, values in arrays.items()
    }


def _in_precision(vectors: NDArray[Any], precision: str, ranges: NDArray[np.float32] | None) -> NDArray[Any]:
    found = in_precision(vectors, precision, ranges)
    lost = too_large(vectors, found)
    if lost.any():
        raise InputError(f"row {int(lost.argmax())} of a batch has {TOO_LARGE}")
    return found


def _name(what: str, name: object) -> str:
    if not isinstance(name, str) or not name:
        raise InputError(f"{what} must be the name of a column, got {name!r}")
    return name


def _is_a(thing: object, package: str, *names: str) -> bool:
    """Whether it is of a type of some package, which nobody needs to import to know that it is not."""
    module = sys.modules.get(package)
    return any(isinstance(thing, getattr(module, name, ())) for name in names)


def _kind(thing: object) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}".removeprefix("builtins.")
