"""`BatchEncoder`: the vectors of sentence-transformers in every kind of batch, one engine a process, clear refusals."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sentence_transformers.util import quantize_embeddings

from stcompile.bulk import BatchEncoder, batch
from stcompile.errors import ArtifactError, InputError, MissingExtraError, ProviderError
from stcompile.runtime.encoder import Encoder
from tests.conftest import Case, Compiled, load_case
from tests.test_golden import FLOAT32_ROUNDING, LARGEST_SHARE_OF_OTHER_LEVELS, scaled_error

CASE = "postprocessing"

# What float16 rounds a number to, of its size: half of the last of its 11 bits.
HALF_ROUNDING = 2.0**-11


@pytest.fixture(scope="module")
def case() -> Case:
    return load_case(CASE)


@pytest.fixture(scope="module")
def artifact(compiled: Compiled) -> Path:
    return compiled(CASE)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folder of each engine that is opened from here on; none is open before or after."""
    folders: list[Path] = []

    class Counted(Encoder):
        def __init__(self, artifact: Any, **options: Any) -> None:
            folders.append(artifact.folder)
            super().__init__(artifact, **options)

    monkeypatch.setattr(batch, "Encoder", Counted)
    monkeypatch.setattr(batch, "_opened", {})
    return folders


def assert_near(vectors: npt.NDArray[Any], expected: npt.NDArray[Any]) -> None:
    assert (vectors.dtype, vectors.shape) == (expected.dtype, expected.shape)
    if expected.dtype == np.float32:
        assert scaled_error(expected, vectors).max() <= FLOAT32_ROUNDING
    else:
        assert (vectors != expected).mean() <= LARGEST_SHARE_OF_OTHER_LEVELS


# Kinds of batches


def _flat(column: Any) -> npt.NDArray[Any]:
    """`(n, dim)` of a column of pyarrow, whose type is a list of fixed size."""
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return np.asarray(column.flatten()).reshape(len(column), column.type.list_size)


@dataclass(frozen=True)
class Kind:
    """A kind of batch: how one is made of columns, and how columns and vectors are had from one."""

    make: Callable[[dict[str, list[Any]]], Any]
    columns: Callable[[Any], dict[str, list[Any]]]
    vectors: Callable[[Any], npt.NDArray[Any]]


KINDS = {
    "table": Kind(pa.table, lambda table: table.select(["id", "text"]).to_pydict(), lambda table: _flat(table["v"])),
    "chunks": Kind(
        lambda columns: pa.concat_tables([pa.table(columns).slice(0, 5), pa.table(columns).slice(5)]),
        lambda table: table.select(["id", "text"]).to_pydict(),
        lambda table: _flat(table["v"]),
    ),
    "dictionary": Kind(
        lambda columns: pa.table({**columns, "text": pa.array(columns["text"]).dictionary_encode()}),
        lambda table: table.select(["id", "text"]).to_pydict(),
        lambda table: _flat(table["v"]),
    ),
    "record batch": Kind(
        pa.RecordBatch.from_pydict,
        lambda rows: rows.select(["id", "text"]).to_pydict(),
        lambda rows: _flat(rows.column("v")),
    ),
    "pandas": Kind(
        lambda columns: pd.DataFrame(columns, index=range(50, 50 + len(columns["id"]))),
        lambda frame: frame[["id", "text"]].to_dict("list"),
        lambda frame: _flat(pa.array(frame["v"])),
    ),
    "pandas objects": Kind(
        lambda columns: pd.DataFrame(columns, dtype=object),
        lambda frame: frame[["id", "text"]].to_dict("list"),
        lambda frame: _flat(pa.array(frame["v"])),
    ),
    "polars": Kind(
        pl.DataFrame,
        lambda frame: frame.select("id", "text").to_dict(as_series=False),
        lambda frame: frame["v"].to_numpy(),
    ),
    "arrays": Kind(
        lambda columns: {name: np.array(values) for name, values in columns.items()},
        lambda arrays: {name: values.tolist() for name, values in arrays.items() if name != "v"},
        lambda arrays: arrays["v"],
    ),
}


@pytest.fixture(scope="module")
def columns(case: Case) -> dict[str, list[Any]]:
    return {"id": list(range(len(case.texts))), "text": list(case.texts)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_gets_a_column_of_vectors(kind: str, columns: dict[str, list[Any]], case: Case, artifact: Path) -> None:
    how = KINDS[kind]
    given = how.make(columns)
    found = BatchEncoder(artifact, output="v")(given)
    assert type(found) is type(given)
    assert how.columns(found) == columns
    assert_near(how.vectors(found), case.expected())
    # What was passed stays what it was.
    assert how.columns(given) == columns
    assert "v" not in (given.schema.names if hasattr(given, "schema") and kind != "polars" else given)


def test_lists_get_vectors_alone_for_datasets_to_merge(
    columns: dict[str, list[Any]], case: Case, artifact: Path
) -> None:
    found = BatchEncoder(artifact)(columns)
    assert list(found) == ["embedding"]
    assert_near(np.asarray(found["embedding"]), case.expected())


def test_a_text_with_a_nul_comes_back_whole(artifact: Path) -> None:
    texts = ["in\0side", "outside"]
    found = BatchEncoder(artifact)({"text": np.array(texts), "title": np.array(texts)})
    assert pa.array(found["text"]).to_pylist() == pa.array(found["title"]).to_pylist() == texts


@pytest.mark.parametrize("kind", KINDS)
def test_no_row_is_a_batch_too(kind: str, artifact: Path) -> None:
    how = KINDS[kind]
    found = how.vectors(BatchEncoder(artifact, output="v", precision="ubinary")(how.make({"id": [], "text": []})))
    assert (found.dtype, found.shape) == (np.dtype(np.uint8), (0, 4))


def test_spark_gets_lists_in_batches_as_they_came(columns: dict[str, list[Any]], case: Case, artifact: Path) -> None:
    encoder = BatchEncoder(artifact)
    table = pa.table(columns)
    found = encoder(iter(table.to_batches(max_chunksize=10)))
    assert isinstance(found, Iterator)
    batches = list(found)
    assert [rows.num_rows for rows in batches] == [10, 10, 8]
    assert {rows.schema.field("embedding").type for rows in batches} == {pa.list_(pa.float32())}
    assert_near(np.array(pa.Table.from_batches(batches)["embedding"].to_pylist(), np.float32), case.expected())
    (frame,) = encoder(iter([table.to_pandas()]))
    assert_near(np.array(frame["embedding"].tolist(), np.float32), case.expected())


@pytest.mark.parametrize(
    ("precision", "kind"),
    [("float32", pa.list_(pa.float32())), ("binary", pa.list_(pa.int8())), ("ubinary", pa.binary())],
)
def test_spark_has_no_other_types(precision: Any, kind: Any, case: Case, artifact: Path) -> None:
    encoder = BatchEncoder(artifact, precision=precision)
    rows = pa.RecordBatch.from_pydict({"text": case.texts})
    (found,) = encoder(iter([rows]))
    (frame,) = encoder(iter([rows.to_pandas()]))
    assert found.schema.field("embedding").type == pa.array(frame["embedding"]).type == kind
    expected = case.expected({"float32": "default"}.get(precision, precision))
    values = found.column("embedding").to_pylist()
    numbers = [list(value) for value in values]
    assert_near(np.array(numbers, dtype=expected.dtype), expected)
    assert frame["embedding"].tolist() == values


def test_a_batch_is_encoded_when_it_is_asked_for(artifact: Path) -> None:
    asked: list[str] = []

    def batches() -> Iterator[Any]:
        for text in "abc":
            asked.append(text)
            yield pa.RecordBatch.from_pydict({"text": [text]})

    found = BatchEncoder(artifact)(batches())
    assert asked == []
    next(found)
    assert asked == ["a"]


# Options

RUNS: dict[str, dict[str, Any]] = {
    "default": {},
    "normalized": {"normalize_embeddings": True},
    "truncate_16": {"truncate_dim": 16},
    "truncate_16_normalized": {"truncate_dim": 16, "normalize_embeddings": True},
    "truncate_99": {"truncate_dim": 99},
    "batch_5": {"batch_size": 5},
    "binary": {"precision": "binary"},
    "truncate_20_ubinary": {"truncate_dim": 20, "precision": "ubinary"},
}
OF_MODELS: list[Any] = [
    ("pool_mean_with_prompt", "default", {"prompt_name": "query"}),
    ("pool_mean_with_prompt", "explicit", {"prompt": "search  "}),
    ("router_different_widths", "key_query", {"task": "query"}),
    ("router_different_widths", "key_document", {"task": "document"}),
    pytest.param("truncate_dim_in_config", "default", {}, marks=pytest.mark.more_models),
]


def _assert_run(encoder: BatchEncoder, case: Case, run: str) -> None:
    expected = case.expected(run)
    assert encoder.dim == expected.shape[1]
    assert_near(_flat(encoder(pa.table({"text": case.texts}))["embedding"]), expected)


@pytest.mark.parametrize("run", RUNS)
def test_an_option_means_what_it_means_to_encode(run: str, case: Case, artifact: Path) -> None:
    _assert_run(BatchEncoder(artifact, **RUNS[run]), case, run)


@pytest.mark.parametrize(("name", "run", "options"), OF_MODELS)
def test_prompts_and_tasks_are_the_models_own(name: str, run: str, options: dict[str, Any], compiled: Compiled) -> None:
    _assert_run(BatchEncoder(compiled(name), **options), load_case(name), run)


def test_float16_is_float32_rounded(case: Case, artifact: Path) -> None:
    found = _flat(BatchEncoder(artifact, precision="float16")(pa.table({"text": case.texts}))["embedding"])
    expected = case.expected()
    assert found.dtype == np.float16
    lengths = np.linalg.norm(expected, axis=1, keepdims=True)

    def are_rounded(numbers: npt.NDArray[np.float16]) -> bool:
        allowed = HALF_ROUNDING * np.abs(expected) + FLOAT32_ROUNDING * lengths
        return bool((np.abs(numbers.astype(np.float32) - expected) <= allowed).all())

    assert are_rounded(found)
    assert not are_rounded(np.nextafter(found, np.float16(0)))


@pytest.mark.parametrize("precision", ["int8", "uint8"])
def test_int8_is_cut_by_the_ranges_that_are_passed(precision: Any, case: Case, artifact: Path) -> None:
    expected = case.expected()
    # No value itself, which a rounding error would move over the edge of a level; some lie outside.
    ranges = expected.mean(axis=0) + np.array([[-1], [1]], np.float32) * expected.std(axis=0)
    encoder = BatchEncoder(artifact, precision=precision, ranges=ranges)
    table = pa.table({"text": case.texts})
    found = _flat(encoder(table)["embedding"])
    assert_near(found, np.asarray(quantize_embeddings(expected, precision, ranges=ranges)))
    limits = np.iinfo(precision)
    assert {limits.min, limits.max} < set(found.ravel().tolist())
    # A row's vector does not depend on its batch.
    alone = [_flat(encoder(table.slice(row, 1))["embedding"]) for row in range(len(case.texts))]
    assert (np.concatenate(alone) != found).mean() <= LARGEST_SHARE_OF_OTHER_LEVELS
    assert pickle.dumps(pickle.loads(pickle.dumps(encoder))) == pickle.dumps(encoder)


def test_what_float16_cannot_hold_is_no_infinity(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.array([[1, -np.inf], [65504, 2], [3, -65536]], np.float32)
    monkeypatch.setattr(batch, "_encoder", lambda *_: SimpleNamespace(encode=lambda texts, **_: vectors[: len(texts)]))
    encoder = BatchEncoder(artifact, precision="float16")
    assert encoder({"text": ["a", "b"]})["embedding"].tolist() == [[1, -np.inf], [65504, 2]]
    with pytest.raises(InputError, match="row 2 of a batch has numbers above 65504"):
        encoder({"text": ["a", "b", "c"]})


# Types that are told beforehand


@pytest.mark.parametrize("precision", ["float32", "float16", "binary", "ubinary"])
def test_what_is_told_of_the_result_is_true(precision: Any, columns: dict[str, list[Any]], artifact: Path) -> None:
    encoder = BatchEncoder(artifact, precision=precision)
    frame = pl.DataFrame(columns)
    found = encoder(frame)
    assert encoder.polars_schema(frame.schema) == found.schema
    assert encoder.return_dtype == found.schema["embedding"] == encoder(frame["text"]).dtype
    pandas = pd.DataFrame(columns)
    meta = encoder.meta(pandas)
    assert len(meta) == 0
    pd.testing.assert_series_equal(meta.dtypes, encoder(pandas).dtypes)


def test_polars_maps_lazy_frames_and_expressions(columns: dict[str, list[Any]], case: Case, artifact: Path) -> None:
    encoder = BatchEncoder(artifact)
    frame = pl.LazyFrame(columns)
    schema = encoder.polars_schema(frame.collect_schema())
    lazy = frame.map_batches(encoder, schema=schema, streamable=True)
    assert lazy.collect_schema() == schema
    texts = pl.col("text").map_batches(encoder, return_dtype=encoder.return_dtype, is_elementwise=True)
    for query in (lazy, frame.with_columns(embedding=texts)):
        for engine in ("in-memory", "streaming"):
            found = query.collect(engine=engine)
            assert found.schema == schema
            assert found["id"].to_list() == columns["id"]
            assert_near(found["embedding"].to_numpy(), case.expected())


def test_sparks_schema_as_text(artifact: Path) -> None:
    assert BatchEncoder(artifact).spark_schema("id bigint, text string") == (
        "id bigint, text string, `embedding` array<float>"
    )
    quoted = BatchEncoder(artifact, output="a `vector`", precision="ubinary").spark_schema("text string")
    assert quoted == "text string, `a ``vector``` binary"


# Processes


def test_what_is_pickled_is_the_same_before_and_after_a_call(artifact: Path) -> None:
    encoder = BatchEncoder(artifact)
    before = pickle.dumps(encoder)
    encoder(pa.table({"text": ["hello"]}))
    assert pickle.dumps(encoder) == before == pickle.dumps(pickle.loads(before))
    # A path, a hash and options: no session, no tokenizer.
    assert len(before) < 2_000


def test_a_process_opens_an_artifact_once(artifact: Path, compiled: Compiled, opened: list[Path]) -> None:
    table = pa.table({"text": ["hello"]})
    encoder = BatchEncoder(artifact)
    assert opened == []
    same = [encoder, pickle.loads(pickle.dumps(encoder)), BatchEncoder(artifact, output="v", precision="binary")]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda one: one(table), same * 8))
    assert opened == [artifact]
    BatchEncoder(artifact, threads=1)(table)
    BatchEncoder(compiled("pool_mean_with_prompt"))(table)
    assert len(opened) == 3


def test_what_is_closed_opens_again(artifact: Path, opened: list[Path]) -> None:
    table = pa.table({"text": ["hello"]})
    encoder = BatchEncoder(artifact)
    encoder.close()
    expected = encoder(table)
    encoder.close()
    assert encoder(table) == expected
    assert opened == [artifact, artifact]


def _answer(encoder: BatchEncoder, place: Any) -> None:
    place.send(_flat(encoder(pa.table({"text": ["hello", "größer"]}))["embedding"]).tolist())


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.servers)])
def test_another_process_gives_the_same_vectors(method: str, artifact: Path) -> None:
    context: Any = multiprocessing.get_context(method)
    encoder = BatchEncoder(artifact, threads=1)
    here = _flat(encoder(pa.table({"text": ["hello", "größer"]}))["embedding"]).tolist()
    receiver, sender = context.Pipe(duplex=False)
    # Somebody opens an artifact at the moment of the fork.
    with batch._opening:
        child = context.Process(target=_answer, args=(encoder, sender))
        child.start()
    assert receiver.poll(60)
    assert receiver.recv() == here
    child.join()


def test_another_artifact_in_the_folder_is_noticed(artifact: Path, compiled: Compiled, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(artifact, folder)
    encoder = BatchEncoder(folder)
    shutil.rmtree(folder)
    shutil.copytree(compiled("pool_mean_with_prompt"), folder)
    with pytest.raises(ArtifactError, match="holds another artifact"):
        encoder({"text": ["hello"]})
    assert pickle.dumps(BatchEncoder(folder)) != pickle.dumps(encoder)


_ALONE = """
import json, sys
for name in "torch transformers onnx sentence_transformers pyarrow pandas polars datasets pyspark dask ray".split():
    sys.modules[name] = None
import stcompile.bulk
assert "numpy" not in sys.modules
from stcompile.bulk import BatchEncoder
import numpy as np
found = BatchEncoder(sys.argv[1])({"text": np.array(["hello"])})
print(json.dumps(found["embedding"].tolist()))
"""


def test_nothing_is_imported_that_was_not_passed(artifact: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _ALONE, artifact], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert_near(
        np.array(json.loads(done.stdout), np.float32),
        BatchEncoder(artifact)({"text": np.array(["hello"])})["embedding"],
    )


# Refusals


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"precision": "int8"}, InputError, r"each batch would have others: pass ranges=, \(2, 32\)"),
        ({"ranges": np.zeros((2, 32))}, InputError, "ranges are for int8 and uint8, not for float32: leave them out"),
        ({"precision": "int8", "ranges": np.zeros((2, 31))}, InputError, r"\(2, 32\), .*got shape \(2, 31\)"),
        ({"precision": "int8", "ranges": [[1] * 32, [0] * 32]}, InputError, "the lowest values and the highest"),
        ({"precision": "int8", "ranges": np.full((2, 32), np.nan)}, InputError, "finite"),
        ({"precision": "int8", "ranges": "all"}, InputError, r"ranges must be numbers \(2, 32\)"),
        ({"precision": "uint8"}, InputError, "each batch would have others"),
        ({"precision": "int4"}, InputError, "unknown precision 'int4'"),
        ({"prompt_name": "nobody"}, InputError, "unknown prompt"),
        ({"truncate_dim": 0}, InputError, "truncate_dim must be"),
        ({"batch_size": 0}, InputError, "batch_size must be"),
        ({"threads": 0}, InputError, "threads must be"),
        ({"device": "tpu"}, ProviderError, "unknown device"),
        ({"column": ""}, InputError, "column must be the name of a column"),
        ({"output": 3}, InputError, "output must be the name of a column, got 3"),
        ({"output": "text"}, InputError, "column and output are both 'text'"),
    ],
)
def test_a_wrong_option_is_refused_before_there_is_a_batch(
    options: dict[str, Any], error: type[Exception], said: str, artifact: Path
) -> None:
    with pytest.raises(error, match=said):
        BatchEncoder(artifact, **options)


def test_a_missing_artifact_and_task_are_refused_at_once(tmp_path: Path, compiled: Compiled) -> None:
    with pytest.raises(ArtifactError, match="there is no artifact at"):
        BatchEncoder(tmp_path / "nothing")
    with pytest.raises(InputError, match="this model needs a task"):
        BatchEncoder(compiled("router_no_default"))


_NOT_UTF8 = pa.StringArray.from_buffers(2, pa.array([0, 2, 4], pa.int32()).buffers()[1], pa.py_buffer(b"ok\xff\xfe"))

_MISSING = "column 'text' of a batch of 2 rows, counted from 0: item 1 is .*, not text: a missing value has no vector"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (pa.table({"text": ["a", None]}), _MISSING),
        (pd.DataFrame({"text": ["a", None]}), _MISSING),
        (pd.DataFrame({"text": ["a", None]}, dtype=object), _MISSING),
        (pl.DataFrame({"text": ["a", None]}), _MISSING),
        (pl.Series("text", ["a", None]), _MISSING),
        ({"text": np.array(["a", None])}, _MISSING),
        ({"text": ["a", None]}, _MISSING),
        (pa.table({"text": _NOT_UTF8}), "of 2 rows, counted from 0: item 1 is not UTF-8"),
        (pa.RecordBatch.from_arrays([_NOT_UTF8], ["text"]), "item 1 is not UTF-8"),
        (pa.table({"text": [7, 8]}), "item 0 is int, not text"),
        (pa.table({"text": [b"a"]}), "item 0 is bytes, not text"),
        ({"text": ["a", "\ud800"]}, "item 1 holds half of a surrogate pair"),
        (pa.table({"title": ["a"]}), r"no column 'text' \(there are: 'title'\): pass column="),
        (pd.DataFrame({"title": ["a"]}), "no column 'text'"),
        (pl.DataFrame({"title": ["a"]}), "no column 'text'"),
        ({}, r"no column 'text' \(there are: none\)"),
        (pa.Table.from_arrays([pa.array(["a"])] * 2, ["text", "text"]), "several columns 'text'"),
        (pa.table({"text": ["a"], "embedding": [1]}), "a column 'embedding' already: drop it, or pass another output="),
        (pl.DataFrame({"text": ["a"], "embedding": [1]}), "a column 'embedding' already"),
        (
            {"text": "a"},
            r"column 'text' is str, not a list or array of texts: pass whole batches, .*map\(batched=True\)",
        ),
        ({"text": None}, "column 'text' is NoneType"),
        ({"text": np.array([["a", "b", "c"]])}, "pass one column of it"),
        ("a", "got str: for texts there is stcompile.load"),
        (["a"], "BatchEncoder takes a table of pyarrow, .*got list"),
        (pd.Series(["a"]), r"got pandas\..*Series"),
        (None, "got NoneType"),
    ],
)
def test_what_is_no_batch_of_texts_is_refused(given: Any, said: str, artifact: Path) -> None:
    with pytest.raises(InputError, match=said):
        BatchEncoder(artifact)(given)


def test_what_spark_does_not_pass_is_refused(artifact: Path) -> None:
    with pytest.raises(InputError, match="as of mapInArrow and mapInPandas, got one of str"):
        list(BatchEncoder(artifact)(iter("ab")))
    ranges = np.stack([np.zeros(32), np.ones(32)])
    signed, unsigned = (BatchEncoder(artifact, precision=name, ranges=ranges) for name in ("int8", "uint8"))
    assert signed.spark_schema("text string").endswith("`embedding` array<tinyint>")
    with pytest.raises(InputError, match="Spark has no uint8"):
        unsigned.spark_schema("text string")
    half = BatchEncoder(artifact, precision="float16")
    with pytest.raises(InputError, match="Spark has no float16: ask for float32, int8, binary, ubinary"):
        half.spark_schema("text string")
    with pytest.raises(InputError, match="Spark has no float16"):
        list(half(iter(pa.table({"text": ["a"]}).to_batches())))


def test_what_has_no_schema_is_refused(artifact: Path) -> None:
    encoder = BatchEncoder(artifact)
    for ask in (encoder.meta, encoder.features, encoder.spark_schema):
        with pytest.raises(InputError, match="got dict"):
            ask({"text": "string"})
    with pytest.raises(InputError, match="no column 'text'"):
        encoder.polars_schema({"title": pl.String})
    with pytest.raises(InputError, match="already"):
        encoder.meta(pd.DataFrame({"text": ["a"], "embedding": [1]}))


def test_pandas_without_pyarrow_names_what_to_install(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pd.DataFrame({"text": ["a"]}, dtype=object)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'stcompile\[bulk\]'"):
        BatchEncoder(artifact)(frame)
