"""Routes of a compiled Router: which graph answers which task, and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import stcompile
from stcompile.artifact import open_artifact
from stcompile.errors import ArtifactError, InputError
from tests.conftest import MODELS, Compiled, load_case
from tests.test_golden import FLOAT32_ROUNDING, scaled_error
from tests.tiers import marked

TWO, SHARED, WIDTHS = "router_two_encoders", "router_shared_encoder", "router_different_widths"
NO_DEFAULT, MAPPED, STATIC_QUERY = "router_no_default", "router_route_mappings", "router_first_static_query"

Call = Callable[[stcompile.Encoder, list[str]], Any]

SAME_TASK: dict[str, Call] = {
    "encode_query": lambda encoder, texts: encoder.encode_query(texts),
    "task": lambda encoder, texts: encoder.encode(texts, task="query"),
    "keys": lambda encoder, texts: encoder.encode([{"query": text} for text in texts]),
    "keys in a tuple": lambda encoder, texts: encoder.encode(tuple({"query": text} for text in texts)),
    "keys and the same task": lambda encoder, texts: encoder.encode([{"query": text} for text in texts], task="query"),
    "one by one": lambda encoder, texts: np.stack([encoder.encode({"query": text}) for text in texts]),
    "another method, but the task wins": lambda encoder, texts: encoder.encode_document(texts, task="query"),
}


@pytest.mark.parametrize("how", SAME_TASK)
def test_every_way_to_name_a_task_takes_its_route(how: str, compiled: Compiled) -> None:
    case = load_case(NO_DEFAULT)
    vectors = SAME_TASK[how](stcompile.load(compiled(NO_DEFAULT)), case.texts)
    expected = case.expected("encode_query")
    assert vectors.shape == expected.shape
    assert scaled_error(expected, vectors).max() <= FLOAT32_ROUNDING
    assert scaled_error(case.expected("encode_document"), vectors).max() > 0.1, "both routes give the same"


@pytest.mark.parametrize(
    ("case", "tasks", "longest", "dim"),
    [
        (TWO, ("query", "document"), 64, 32),
        (WIDTHS, ("query", "document"), None, 32),
        (NO_DEFAULT, ("query", "document"), None, 16),
        (MAPPED, ("a", "b", "query", "document"), 64, 16),
        ("asym_legacy", ("query", "doc"), 64, 16),
        ("static", (), None, 24),
    ],
)
def test_what_an_encoder_tells_of_its_routes(
    case: str, tasks: tuple[str, ...], longest: int | None, dim: int, compiled: Compiled
) -> None:
    encoder = stcompile.load(compiled(case))
    assert set(encoder.tasks) == set(tasks)
    assert encoder.max_seq_length == longest
    assert encoder.get_sentence_embedding_dimension() == dim


@pytest.mark.more_models
def test_routes_have_their_own_width(compiled: Compiled) -> None:
    encoder = stcompile.load(compiled(WIDTHS))
    for texts, rows in (([], 0), (["hello", "x"], 2)):
        assert encoder.encode_query(texts).shape == (rows, 16)
        assert encoder.encode_document(texts).shape == (rows, 32)
        assert encoder.encode(texts).shape == (rows, 32)
    assert encoder.encode_query("hello", truncate_dim=20).shape == (16,)
    with pytest.raises(InputError, match="vectors of one width, got 16 and 32"):
        encoder.similarity(encoder.encode_query("hello"), encoder.encode_document("hello"))


@pytest.mark.more_models
def test_a_mapping_without_a_task_takes_every_task_without_a_mapping(compiled: Compiled) -> None:
    case = load_case(MAPPED)
    encoder = stcompile.load(compiled(MAPPED))
    for task in ("b", "unheard of"):
        assert scaled_error(case.expected(), encoder.encode(case.texts, task=task)).max() <= FLOAT32_ROUNDING


def test_a_task_means_nothing_without_routes(compiled: Compiled) -> None:
    encoder = stcompile.load(compiled("static"))
    assert np.array_equal(encoder.encode(["hello"], task="query"), encoder.encode(["hello"]))


REFUSED: dict[str, tuple[str, Callable[[Any], Any], str]] = {
    "unknown task": (TWO, lambda e: e.encode("x", task="passage"), "no route for task 'passage'.*'document', 'query'"),
    "unknown key": (TWO, lambda e: e.encode([{"passage": "x"}]), "no route for task 'passage'.*'document', 'query'"),
    "task of another type": (TWO, lambda e: e.encode("x", task=["query"]), "'document', 'query'"),
    "no method for the task": ("asym_legacy", lambda e: e.encode_document("x"), "no route for task 'document'.*'doc'"),
    "no default": (NO_DEFAULT, lambda e: e.encode("x"), "needs a task.*'document', 'query'"),
    "no default, no text": (NO_DEFAULT, lambda e: e.encode([]), "needs a task"),
    "mixed keys": (TWO, lambda e: e.encode([{"query": "x"}, {"document": "x"}]), "must all have the same one"),
    "keys for some": (TWO, lambda e: e.encode([{"query": "x"}, "x"]), "must all have the same one"),
    "two keys": (TWO, lambda e: e.encode({"query": "x", "document": "x"}), "must all have the same one"),
    "no key": (TWO, lambda e: e.encode([{}]), "must all have the same one"),
    "key and task": (TWO, lambda e: e.encode([{"query": "x"}], task="document"), "key 'query', but task='document'"),
    "no text behind the key": (TWO, lambda e: e.encode([{"query": 5}]), "item 0 is int, not text"),
    "keys without routes": ("static", lambda e: e.encode([{"query": "x"}]), "item 0 is dict, not text"),
    "one key without routes": ("static", lambda e: e.encode({"query": "x"}), "item 0 is dict, not text"),
    "pair for static": ("static", lambda e: e.encode([("a", "b")]), "cannot take pairs"),
    "pair for words": ("wordemb_lstm_bi", lambda e: e.encode([("a", "b")]), "cannot take pairs"),
    "pair for bow": ("bow_binary", lambda e: e.encode([("a", "b")]), "cannot take pairs"),
    "pair for a static route": (STATIC_QUERY, lambda e: e.encode_query([("a", "b")]), "cannot take pairs"),
}


# Of a folder of its own; a task without a route is refused in each run of the tests.
LEGACY = ("no method for the task",)


@pytest.mark.parametrize("name", marked(REFUSED, LEGACY, pytest.mark.more_models))
def test_what_is_ambiguous_is_refused(name: str, compiled: Compiled) -> None:
    case, call, sentence = REFUSED[name]
    with pytest.raises(InputError, match=sentence):
        call(stcompile.load(compiled(case)))


def test_pairs_go_to_the_route_that_takes_them(compiled: Compiled) -> None:
    encoder: Any = stcompile.load(compiled(STATIC_QUERY))
    assert encoder.encode_document([("a", "b")]).shape == (1, 16)
    assert encoder.encode([{"document": ("a", "b")}]).shape == (1, 16)


@pytest.mark.more_models
def test_what_routes_share_is_stored_once(compiled: Compiled) -> None:
    artifact = open_artifact(compiled(SHARED))
    assert sorted(graph.route for graph in artifact.manifest.graphs) == ["document", "query"]
    assert {graph.external_data for graph in artifact.manifest.graphs} == {"weights.data"}
    encoder = (MODELS / SHARED / "query_0_Transformer/model.safetensors").stat().st_size
    first, second = (stored(artifact.folder / graph.file) for graph in artifact.manifest.graphs)
    # Of a network this narrow, panels of 64 columns are half empty: more than the encoder's own size.
    assert (artifact.folder / "weights.data").stat().st_size < 1.1 * sum(first.values()) < 2 * encoder
    both = first.keys() & second.keys()
    assert sum(first[place] for place in both) > 0.8 * encoder
    assert [path.name for path in artifact.folder.glob("tokenizer*")] == ["tokenizer.json"]


def stored(graph: Path) -> dict[int, int]:
    """Offset and length of every weight that is not in the graph itself."""
    found = {}
    for tensor in onnx.load(graph, load_external_data=False).graph.initializer:
        place = {entry.key: entry.value for entry in tensor.external_data}
        if place:
            assert place["location"] == "weights.data"
            found[int(place["offset"])] = int(place["length"])
    return found


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("file", ["weights.data", "tokenizer_1.json", "model-1-document.onnx"])
@pytest.mark.parametrize(
    ("tamper", "sentence"), [(flip, "is corrupt or was changed"), (Path.unlink, "incomplete: .* is missing")]
)
def test_a_changed_file_is_noticed(
    file: str, tamper: Callable[[Path], object], sentence: str, compiled: Compiled, tmp_path: Path
) -> None:
    artifact = shutil.copytree(compiled(TWO), tmp_path / "artifact")
    tamper(artifact / file)
    with pytest.raises(ArtifactError, match=sentence):
        stcompile.load(artifact)


def test_weights_that_are_cut_off_are_noticed_without_hashing(compiled: Compiled, tmp_path: Path) -> None:
    artifact = shutil.copytree(compiled(TWO), tmp_path / "artifact")
    weights = artifact / "weights.data"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ArtifactError, match=r"weights\.data"):
        stcompile.load(artifact, check_integrity=False)
