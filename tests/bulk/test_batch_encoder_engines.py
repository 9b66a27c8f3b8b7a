"""`BatchEncoder` as it is in real engines, each on this machine: Ray, Spark, datasets, Dask."""

from __future__ import annotations

import os
import pickle
import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stcompile.bulk import BatchEncoder, batch
from stcompile.errors import InputError
from tests.bulk.test_batch_encoder import assert_near
from tests.conftest import Case, Compiled, load_case

pytestmark = pytest.mark.engines

CASE = "postprocessing"

# So often: under load its parts may take longer to find each other than they wait.
_STARTS_OF_RAY = 3

_FIXED = pa.list_(pa.field("element", pa.float32()), 32)


@pytest.fixture(scope="module", autouse=True)
def _environment() -> Iterator[None]:
    """Given back as it was: Ray and Dask add to it, and datasets puts a copy in its place after it has changed it."""
    environment, before = os.environ, dict(os.environ)
    yield
    os.environ = environment  # noqa: B003 - what is removed from the copy stays in the process
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def case() -> Case:
    return load_case(CASE)


@pytest.fixture(scope="module")
def artifact(compiled: Compiled) -> Path:
    return compiled(CASE)


@pytest.fixture(scope="module")
def texts(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The case's texts in Parquet, with their places as ids."""
    file = tmp_path_factory.mktemp("texts") / "texts.parquet"
    pq.write_table(pa.table({"id": range(len(case.texts)), "text": case.texts}), file)
    return file


@pytest.fixture(scope="module")
def encoder(artifact: Path) -> BatchEncoder:
    return BatchEncoder(artifact, threads=1)


def _assert_rows(rows: list[dict[str, Any]], case: Case, run: str = "default") -> None:
    """Every id once, with its text and its vector."""
    rows = sorted(rows, key=lambda row: int(row["id"]))
    assert [row["id"] for row in rows] == list(range(len(case.texts)))
    assert [row["text"] for row in rows] == case.texts
    expected = case.expected(run)
    assert_near(_matrix([row["embedding"] for row in rows], expected.dtype), expected)


def _matrix(vectors: list[Any], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    return np.array([list(vector) for vector in vectors], dtype=dtype)


def _assert_written(folder: Path, case: Case, kind: pa.DataType = _FIXED) -> None:
    table = pq.read_table(folder)
    assert table.schema.field("embedding").type == kind
    _assert_rows(table.select(["id", "text", "embedding"]).to_pylist(), case)


# Ray


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        import ray
        import ray.data

        for start in range(_STARTS_OF_RAY):
            try:
                ray.init(
                    num_cpus=2,
                    object_store_memory=200 << 20,
                    include_dashboard=False,
                    log_to_driver=False,
                    address="local",
                )
                break
            except Exception:
                ray.shutdown()
                if start == _STARTS_OF_RAY - 1:
                    raise
                time.sleep(5)
        ray.data.DataContext.get_current().enable_progress_bars = False
        yield ray
        ray.shutdown()


@pytest.mark.parametrize("batch_format", ["pyarrow", "pandas", "numpy"])
def test_ray_maps_batches_by_a_function(
    batch_format: str, ray: Any, encoder: BatchEncoder, texts: Path, case: Case, tmp_path: Path
) -> None:
    found = ray.data.read_parquet(str(texts)).map_batches(encoder, batch_format=batch_format, batch_size=10)
    _assert_rows(found.take_all(), case)
    if batch_format != "numpy":  # of which Ray makes tensors of its own
        found.write_parquet(str(tmp_path / "out"))
        _assert_written(tmp_path / "out", case)


@pytest.mark.parametrize("batch_format", ["pyarrow", "pandas", "numpy"])
def test_ray_maps_batches_by_actors(batch_format: str, ray: Any, artifact: Path, texts: Path, case: Case) -> None:
    found = ray.data.read_parquet(str(texts)).map_batches(
        BatchEncoder,
        fn_constructor_args=[artifact],
        fn_constructor_kwargs={"threads": 1, "normalize_embeddings": True},
        batch_format=batch_format,
        batch_size=10,
        compute=ray.data.ActorPoolStrategy(size=1),
    )
    _assert_rows(found.take_all(), case, "normalized")


def test_ray_says_which_row_has_no_text(ray: Any, encoder: BatchEncoder) -> None:
    rows = ray.data.from_arrow(pa.table({"text": ["a", None]}))
    with pytest.raises(Exception, match="of 2 rows, counted from 0: item 1 is NoneType, not text"):
        rows.map_batches(encoder, batch_format="pyarrow").take_all()


# Spark


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if not (shutil.which("java") or "JAVA_HOME" in os.environ):
        pytest.skip("Spark runs on Java 17 or later, which is not here")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        from pyspark.sql import SparkSession

        session = (
            SparkSession.builder.master("local[2]")
            .config("spark.ui.enabled", "false")
            .config("spark.driver.bindAddress", "127.0.0.1")
            .config("spark.driver.host", "127.0.0.1")
            .config("spark.driver.memory", "1g")
            .config("spark.sql.warehouse.dir", str(tmp_path_factory.mktemp("warehouse")))
            .config("spark.sql.execution.arrow.maxRecordsPerBatch", "5")
            .getOrCreate()
        )
        session.sparkContext.setLogLevel("OFF")
        yield session
        session.stop()


@pytest.mark.parametrize("method", ["mapInArrow", "mapInPandas"])
@pytest.mark.parametrize("precision", ["float32", "binary", "ubinary"])
def test_spark_maps_iterators(
    precision: Any, method: str, spark: Any, artifact: Path, texts: Path, case: Case, tmp_path: Path
) -> None:
    encoder = BatchEncoder(artifact, threads=1, precision=precision)
    frame = spark.read.parquet(str(texts)).repartition(3)
    schema = encoder.spark_schema(frame.schema)
    found = getattr(frame, method)(encoder, schema)
    assert found.schema == schema
    _assert_rows([row.asDict() for row in found.collect()], case, {"float32": "default"}.get(precision, precision))
    if precision == "float32":
        found.write.parquet(str(tmp_path / "out"))
        _assert_written(tmp_path / "out", case, pa.list_(pa.field("element", pa.float32())))


def test_sparks_two_kinds_of_schemas_are_one(spark: Any, artifact: Path, texts: Path, case: Case) -> None:
    encoder = BatchEncoder(artifact, threads=1, output="a `vector`")
    frame = spark.read.parquet(str(texts))
    found = frame.mapInArrow(encoder, encoder.spark_schema("id bigint, text string"))
    assert found.schema == encoder.spark_schema(frame.schema)
    _assert_rows([{**row.asDict(), "embedding": row["a `vector`"]} for row in found.collect()], case)


def test_sparks_schema_must_have_texts_and_room(spark: Any, encoder: BatchEncoder) -> None:
    with pytest.raises(InputError, match="no column 'text'"):
        encoder.spark_schema(spark.createDataFrame([(1,)], "id bigint").schema)
    with pytest.raises(InputError, match="a column 'embedding' already"):
        encoder.spark_schema(spark.createDataFrame([("a", 1)], "text string, embedding bigint").schema)


def test_spark_says_which_row_has_no_text(spark: Any, encoder: BatchEncoder) -> None:
    rows = spark.createDataFrame([("a",), (None,)], "text string").coalesce(1)
    with pytest.raises(Exception, match="of 2 rows, counted from 0: item 1 is NoneType, not text"):
        rows.mapInArrow(encoder, encoder.spark_schema(rows.schema)).collect()


# datasets


@pytest.fixture
def dataset(texts: Path, tmp_path: Path) -> Any:
    import datasets

    datasets.disable_progress_bars()
    return datasets.Dataset.from_parquet(str(texts), cache_dir=str(tmp_path))


@pytest.mark.parametrize("kind", [None, "numpy", "arrow", "pandas", "polars"])
def test_datasets_map_in_every_format(kind: str | None, dataset: Any, encoder: BatchEncoder, case: Case) -> None:
    features = encoder.features(dataset.features)
    found = dataset.with_format(kind).map(encoder, batched=True, batch_size=10, features=features)
    assert found.features == features
    assert found.data.schema.field("embedding").type == pa.list_(pa.float32(), 32)
    _assert_rows(found.with_format(None).to_list(), case)


@pytest.mark.parametrize(
    ("precision", "numbers"), [("float16", pa.float16()), ("binary", pa.int8()), ("ubinary", pa.uint8())]
)
def test_datasets_keep_the_precision(precision: Any, numbers: pa.DataType, dataset: Any, artifact: Path) -> None:
    encoder = BatchEncoder(artifact, precision=precision)
    found = dataset.map(encoder, batched=True, features=encoder.features(dataset.features))
    assert found.data.schema.field("embedding").type == pa.list_(numbers, encoder.dim)
    expected = encoder(dataset.data.table)["embedding"].to_pylist()
    assert found.data["embedding"].to_pylist() == expected


def test_datasets_take_a_second_map_from_their_cache(
    dataset: Any, encoder: BatchEncoder, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = dataset.map(encoder, batched=True)
    monkeypatch.setattr(batch, "_encoder", None)  # nobody encodes
    again = dataset.map(BatchEncoder(artifact, threads=1), batched=True)
    assert again._fingerprint == first._fingerprint
    assert again.to_list() == first.to_list()
    with pytest.raises(TypeError):
        dataset.map(BatchEncoder(artifact, threads=1, normalize_embeddings=True), batched=True)


def test_datasets_map_in_several_processes(dataset: Any, encoder: BatchEncoder, case: Case) -> None:
    _assert_rows(dataset.map(encoder, batched=True, batch_size=5, num_proc=2).to_list(), case)


def test_datasets_drop_columns_of_lists_and_streams(dataset: Any, encoder: BatchEncoder, case: Case) -> None:
    for found in (dataset, dataset.to_iterable_dataset()):
        rows = list(found.map(encoder, batched=True, remove_columns=["text"]))
        assert [list(row) for row in rows] == [["id", "embedding"]] * len(case.texts)
        assert_near(_matrix([row["embedding"] for row in rows], np.float32), case.expected())


def test_datasets_of_single_rows_are_told_to_pass_batches(dataset: Any, encoder: BatchEncoder) -> None:
    with pytest.raises(InputError, match=r"whole batches, with map_batches or map\(batched=True\)"):
        dataset.map(encoder)


# Dask


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_dask_maps_partitions(scheduler: str, encoder: BatchEncoder, texts: Path, case: Case, tmp_path: Path) -> None:
    import dask
    import dask.dataframe as dd

    frame = dd.from_pandas(pd.read_parquet(texts), npartitions=3)
    found = frame.map_partitions(encoder, meta=encoder.meta(frame))
    with dask.config.set(scheduler=scheduler):
        computed = found.compute()
        pd.testing.assert_series_equal(computed.dtypes, found.dtypes)
        _assert_rows(computed.to_dict("records"), case)
        found.to_parquet(tmp_path / "out")
    _assert_written(tmp_path / "out", case)


def test_dask_knows_equal_encoders(encoder: BatchEncoder, artifact: Path) -> None:
    from dask.base import tokenize

    assert tokenize(encoder) == tokenize(pickle.loads(pickle.dumps(encoder)))
    assert tokenize(encoder) != tokenize(BatchEncoder(artifact, threads=1, truncate_dim=8))


# What the documentation shows


def test_the_documented_lines_run(
    ray: Any, spark: Any, artifact: Path, texts: Path, case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    out = tmp_path / "out"
    out.mkdir()
    page = (Path(__file__).parents[2] / "docs" / "scale.md").read_text(encoding="utf-8")
    _, section = page.split("## In a pipeline of your own")
    shown = re.findall(r"```python\n(.*?)```", section.partition("\n## ")[0], re.DOTALL)
    code = "".join(shown)
    # Ray's workers started in another folder.
    for name, path in {'"minilm-int8': artifact, '"texts.parquet': texts, '"out': out}.items():
        assert name in code
        code = code.replace(name, f'"{path}')
    names: dict[str, Any] = {"spark": spark}
    exec(code, names)
    written = {path.stem: pq.read_table(path) for path in out.iterdir()}
    assert sorted(written) == ["column", "dask", "frame", "ray-actors", "ray-tasks", "spark"]
    for name, table in written.items():
        rows = table.select(["id", "text", "embedding"]).to_pylist()
        _assert_rows(rows, case, "normalized" if name == "ray-actors" else "default")
    _assert_rows(names["rows"].to_list(), case)
