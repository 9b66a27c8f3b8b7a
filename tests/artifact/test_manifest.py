"""The manifest: what is written is what is read, and anything else is refused in one sentence."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

from stcompile.artifact.image import ImageSpec
from stcompile.artifact.manifest import (
    SCHEMA_VERSION,
    ChatTemplate,
    EngineSpec,
    FileEntry,
    GraphSpec,
    ImageRoute,
    Manifest,
    QueryExpansion,
    RoutingSpec,
    TensorSpec,
    TokenRows,
    TokenWeights,
    _digest,
)
from stcompile.artifact.space import VectorSpace
from stcompile.errors import ArtifactError
from tests.artifact.rules import put, untried

Change = dict[str, Any]

_CHAT = ChatTemplate("<user>", "<system>", "</system><user>", "</user>", (3, 4))


def _body(manifest: Manifest) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(manifest.to_json())
    del body["digest"]
    return body


def _signed(body: dict[str, Any]) -> str:
    """What a release of stcompile that writes this body would have written."""
    return json.dumps({**body, "digest": _digest(body)})


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"truncate_dim": 4, "default_prompt_name": "query", "batch_invariant": False},
        {"engine": EngineSpec("openvino", "bfloat16")},
        {"routing": RoutingSpec({"query": ""}, None, "")},
        {"files": (FileEntry("model.onnx", "cd" * 32, 7),)},
    ],
    ids=lambda change: "-".join(change) or "plain",
)
def test_what_is_written_is_what_is_read(change: Change, manifest: Manifest) -> None:
    written = dataclasses.replace(manifest, **change)
    assert Manifest.from_json(written.to_json()) == written


@pytest.mark.parametrize(
    "change", [{"chat": _CHAT}, {"max_seq_length": None}, {"special_ids": ()}, {"length_multiple": 16}], ids=str
)
def test_the_text_front_end_survives(change: Change, manifest: Manifest) -> None:
    written = dataclasses.replace(manifest, text=dataclasses.replace(manifest.text, **change))
    assert Manifest.from_json(written.to_json()) == written


def test_the_same_manifest_is_the_same_bytes(manifest: Manifest) -> None:
    shuffled = dataclasses.replace(manifest, prompts=dict(reversed(manifest.prompts.items())))
    assert shuffled.to_json() == manifest.to_json()
    assert "größer: " in dataclasses.replace(manifest, prompts={"query": "größer: "}).to_json()


def test_an_older_manifest_may_lack_what_has_a_default(manifest: Manifest) -> None:
    body = _body(manifest)
    del body["files"], body["text"]["chat"]
    assert Manifest.from_json(_signed(body)) == manifest


@pytest.mark.parametrize(
    ("schema", "scheme", "saturates"),
    [(1, "dynamic", True), (2, "dynamic", True), (2, "int8", False), (3, "dynamic", False), (2, None, False)],
)
def test_an_older_manifest_means_onnx_runtime_in_float32(
    schema: int, scheme: str | None, saturates: bool, manifest: Manifest
) -> None:
    """It knew no other engine, and padded to the longest alone; what was done stood in it."""
    body = _body(dataclasses.replace(manifest, schema_version=schema))
    del body["engine"], body["text"]["length_multiple"]
    body["quantization"] = None if scheme is None else {"scheme": scheme, "matmuls": 12, "embeddings": 3}
    read = Manifest.from_json(_signed(body))
    assert read.engine == EngineSpec("onnxruntime", "float32", saturates=saturates)
    assert read.text.length_multiple == 1


@pytest.mark.parametrize(
    ("key", "value"), [("engine", []), ("engine", None), ("quantization", []), ("quantization", 1)]
)
def test_an_older_manifest_is_checked_as_todays(key: str, value: Any, manifest: Manifest) -> None:
    body = {**_body(dataclasses.replace(manifest, schema_version=1)), "quantization": {"scheme": []}, key: value}
    if key == "engine":
        with pytest.raises(ArtifactError, match="engine must be an object"):
            Manifest.from_json(_signed(body))
    else:
        assert not Manifest.from_json(_signed(body)).engine.saturates


# What contradicts what: a change of the manifest's graph, of its text, or of itself.
CONTRADICTIONS: dict[str, tuple[Callable[[Manifest], Change], str]] = {
    "dim": (lambda _: {"dim": 9}, "dim is 9, and the graph's '8'"),
    "no graph": (lambda _: {"graphs": ()}, "it has no graph"),
    "two graphs": (lambda of: {"graphs": of.graphs * 2}, "two graphs have one route"),
    "no such route": (lambda _: {"routing": RoutingSpec({"query": "q"}, "", None)}, "no graph has the route 'q'"),
    "no such prompt": (lambda _: {"default_prompt_name": "passage"}, "no prompt is called 'passage', the default"),
    "itself": (lambda _: {"files": (FileEntry("manifest.json", "cd" * 32, 7),)}, "it lists itself"),
    "a file twice": (lambda _: {"files": (FileEntry("model.onnx", "cd" * 32, 7),) * 2}, "it lists a file twice"),
    "no ids": (lambda of: _graph(of, inputs=of.graphs[0].inputs[1:]), "a graph takes attention_mask"),
    "an input twice": (
        lambda of: _graph(of, inputs=of.graphs[0].inputs * 2),
        "a graph takes input_ids, attention_mask",
    ),
    "no output": (lambda of: _graph(of, outputs=()), "a graph makes nothing"),
    "another output": (
        lambda of: _graph(of, outputs=(dataclasses.replace(of.graphs[0].outputs[0], name="logits"),)),
        "a graph makes logits",
    ),
    "weights of none": (
        lambda of: _graph(of, weights=TokenWeights(9)),
        "a graph makes sentence_embedding, and says something of weights",
    ),
    "weights that nothing is said of": (
        lambda of: _graph(of, outputs=(*of.graphs[0].outputs, TensorSpec("token_weights", "float32", ()))),
        "a graph makes sentence_embedding, token_weights, and says nothing of weights",
    ),
    "vectors of tokens of an encoder": (
        lambda of: _graph(
            of, outputs=(*of.graphs[0].outputs, TensorSpec("token_vectors", "float32", ())), rows=TokenRows(1)
        ),
        "it is a encoder, and a graph makes sentence_embedding, token_vectors",
    ),
    "a hybrid encoder of one kind": (
        lambda _: {"kind": "hybrid encoder"},
        "it is a hybrid encoder, and a graph makes sentence_embedding",
    ),
    "rows of a flat text": (
        lambda of: {"text": dataclasses.replace(of.text, kind="static")},
        "its text is of kind static, and the graph takes input_ids, attention_mask",
    ),
}


def _graph(of: Manifest, **change: Any) -> Change:
    return {"graphs": (dataclasses.replace(of.graphs[0], **change),)}


@pytest.mark.parametrize(("change", "reason"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_a_manifest_that_contradicts_itself_is_refused(
    change: Callable[[Manifest], Change], reason: str, manifest: Manifest
) -> None:
    written = dataclasses.replace(manifest, **change(manifest))
    with pytest.raises(ArtifactError, match=rf"contradicts itself \({reason}.*export the model again"):
        Manifest.from_json(written.to_json())


# Where a value lies, what it is, and what it must be: every rule, by the values just outside.
_ANY_NUMBER = 10**400
OUT_OF_RANGE: list[tuple[str, Any, str]] = [
    ("kind", "oracle", "one of encoder, reranker, sparse encoder"),
    ("schema_version", 0, f"a whole number from 1 to {SCHEMA_VERSION}"),
    ("engine.name", "tensorrt", "one of onnxruntime, openvino"),
    ("engine.name", "", "one of onnxruntime, openvino"),
    ("engine.precision", "float8", "one of float32, bfloat16"),
    ("padding", "shortest", "one of longest, none"),
    ("optimization_level", "extended", "one of disabled, basic, all"),
    ("similarity", "hello", "one of cosine, dot, euclidean, manhattan"),
    ("similarity", 1, "text"),
    ("prompts.query", 5, "text"),
    ("prompts.query", None, "text"),
    ("default_prompt_name", 1, "text"),
    ("dim", 0, "a whole number from 1 to"),
    ("dim", 2**31, "a whole number from 1 to"),
    ("truncate_dim", 0, "a whole number from 1 to"),
    ("truncate_dim", -1, "a whole number from 1 to"),
    ("truncate_dim", 1.5, "a whole number"),
    ("text.tokenizer", "../tokenizer.json", "a file inside the artifact"),
    ("text.max_seq_length", 0, "a whole number from 1 to"),
    ("text.max_seq_length", _ANY_NUMBER, "a whole number from 1 to"),
    ("text.padding_side", "both", "one of right, left"),
    ("text.truncation_side", "", "one of right, left"),
    ("text.pad_id", -1, "a whole number from 0 to"),
    ("text.pad_id", 2**31, "a whole number from 0 to"),
    ("text.pad_type_id", -1, "a whole number from 0 to"),
    ("text.special_ids.0", -1, "a whole number from 0 to"),
    ("text.special_ids.0", "[CLS]", "a whole number"),
    ("text.special_ids", {}, "a list"),
    ("text.min_seq_length", 0, "a whole number from 1 to"),
    ("text.min_seq_length", 2**16 + 1, "a whole number from 1 to"),
    ("text.length_multiple", -1, "a whole number from 1 to"),
    ("text.length_multiple", 2**16 + 1, "a whole number from 1 to"),
    ("text.chat", {"prefix": ""}, "text.chat.system_prefix is missing"),
    ("text.chat", [], "an object"),
    ("text.chat.tail_ids.0", -3, "a whole number from 0 to"),
    ("text.chat.prefix", None, "text"),
    ("graphs.0.file", "/etc/hostname", "a file inside the artifact"),
    ("graphs.0.file", "", "a file inside the artifact"),
    ("graphs.0.external_data", "a/../b", "a file inside the artifact"),
    ("graphs.0.external_data", "..\\b", "a file inside the artifact"),
    ("graphs.0.external_data", "./b", "a file inside the artifact"),
    ("graphs.0.dim", 0, "a whole number from 1 to"),
    ("graphs.0.token_budget", 0, "a whole number from 1 to"),
    ("graphs.0.max_active_dims", 0, "a whole number from 1 to"),
    ("graphs.0.inputs.0.dtype", "object", "one of bool"),
    ("graphs.0.inputs.0.axes", "ab", "a list"),
    ("graphs.0.inputs.0.axes.0", 1, "text"),
    ("files.0.path", "a//b", "a file inside the artifact"),
    ("files.0.path", "a\0b", "a file inside the artifact"),
    ("files.0.sha256", "xy", "64 hexadecimal digits"),
    ("files.0.size", -1, "a whole number from 0 to"),
    ("engine.saturates", 1, "true or false"),
    ("routing.tasks.query", 1, "text"),
    ("text.expansion.length", 0, "a whole number from 1 to 65536"),
    ("text.expansion.token_id", -1, "a whole number from 0 to"),
    ("space.weights", "0000000", "8 hexadecimal digits"),
    ("space.modules", "0000000X", "8 hexadecimal digits"),
    ("space.tokens", "", "8 hexadecimal digits"),
    ("space.prompts", 8, "text"),
    ("space.dim", 0, "a whole number from 1 to"),
    ("space.precision", "int7", "one of fp32, fp16, bf16, int8, int4"),
    ("graphs.0.weights.dim", 0, "a whole number from 1 to"),
    ("graphs.0.weights.skipped_ids.0", -1, "a whole number from 0 to"),
    ("graphs.0.rows.leading", -1, "a whole number from 0 to"),
    ("graphs.0.rows.skipped_ids.0", -1, "a whole number from 0 to"),
    ("graphs.0.rows.kept_ids.0", "a", "a whole number"),
    ("graphs.0.rows.pool_factor", 0.5, "a number from 1"),
    ("graphs.0.rows.num_protected_tokens", -1, "a whole number from 0 to"),
    ("image.batch_size", 0, "a whole number from 1 to"),
    ("image.graph.file", "../model.onnx", "a file inside the artifact"),
    ("image.processing.height", 0, "a whole number from 1 to 8192"),
    ("image.processing.width", 8193, "a whole number from 1 to 8192"),
    ("image.processing.resample", "cubic", "one of nearest, lanczos, bilinear, bicubic, box, hamming"),
    ("image.processing.shortest_edge", -1, "a whole number from 1 to 8192"),
    ("image.processing.resized_height", 0, "a whole number from 1 to 8192"),
    ("image.processing.resized_width", 0, "a whole number from 1 to 8192"),
    ("image.processing.scale", _ANY_NUMBER, "a finite number"),
    ("image.processing.mean.0", _ANY_NUMBER, "a finite number"),
    ("image.processing.std.0", "1", "a number"),
]

_STEPS = ImageSpec(16, 24, "bicubic", 20, None, None, True, 0.5, (0.1, 0.2, 0.3), (0.5, 0.5, 0.5))
_IMAGE = ImageRoute(
    GraphSpec(
        "image",
        "model-1-image.onnx",
        None,
        (TensorSpec("pixel_values", "float32", ("batch", "3", "16", "24")),),
        (TensorSpec("sentence_embedding", "float32", ("batch", "8")),),
    ),
    _STEPS,
)


def _full(manifest: Manifest) -> dict[str, Any]:
    """The body of a manifest in which every field is filled."""
    return _body(
        dataclasses.replace(
            manifest,
            text=dataclasses.replace(manifest.text, chat=_CHAT, expansion=QueryExpansion(8, 4, True)),
            files=(FileEntry("model.onnx", "cd" * 32, 7),),
            routing=RoutingSpec({"query": ""}, "", None),
            image=_IMAGE,
            space=VectorSpace("00000001", "00000002", "00000003", "00000004", 3, "int8"),
        )
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"width": 16}, "its pictures become 3x16x16 numbers, and their graph takes something else"),
        ({"resized_height": 20, "resized_width": 20}, "its pictures are resized in several ways, or in none"),
        ({"resized_height": 20, "shortest_edge": None}, "its pictures are resized in several ways, or in none"),
        ({"resample": None}, "its pictures are resized in several ways, or in none"),
        ({"crops": False}, "its pictures have several sizes"),
        ({"mean": (0.5,)}, "its pictures are not normalized by 3 channels"),
        ({"std": None}, "its pictures are not normalized by 3 channels"),
        ({"std": (1.0, 0.0, 1.0)}, "its pictures are divided by zero"),
    ],
)
def test_steps_from_a_picture_that_contradict_each_other_are_refused(
    change: Change, reason: str, manifest: Manifest
) -> None:
    image = dataclasses.replace(_IMAGE, processing=dataclasses.replace(_STEPS, **change))
    with pytest.raises(ArtifactError, match=f"contradicts itself .{reason}"):
        Manifest.from_json(dataclasses.replace(manifest, image=image).to_json())


def test_a_graph_of_images_has_the_width_of_texts(manifest: Manifest) -> None:
    wider = dataclasses.replace(_IMAGE.graph.outputs[0], axes=("batch", "9"))
    image = dataclasses.replace(_IMAGE, graph=dataclasses.replace(_IMAGE.graph, outputs=(wider,)))
    with pytest.raises(ArtifactError, match="dim is 8, and the graph of images makes something else"):
        Manifest.from_json(dataclasses.replace(manifest, image=image).to_json())


def test_a_manifest_with_every_field_is_read(manifest: Manifest) -> None:
    Manifest.from_json(_signed(_full(manifest)))


@pytest.mark.parametrize(("path", "value", "wanted"), OUT_OF_RANGE, ids=lambda value: str(value)[:40])
def test_a_value_out_of_its_range_is_named_with_what_it_must_be(
    path: str, value: Any, wanted: str, manifest: Manifest
) -> None:
    body = _full(manifest)
    # Of a kind of its own.
    body["graphs"][0]["rows"] = {**dataclasses.asdict(TokenRows()), "skipped_ids": [3], "kept_ids": [4]}
    body["graphs"][0]["weights"] = {"dim": 9, "skipped_ids": [3]}
    put(body, path, value)
    with pytest.raises(ArtifactError, match="is malformed") as caught:
        Manifest.from_json(_signed(body))
    assert wanted in str(caught.value)
    assert len(str(caught.value)) < 250
    assert "\n" not in str(caught.value)


def test_everything_that_is_checked_by_its_range_is_tried() -> None:
    """A field that is added with a rule is missed here, not by whoever crafts a manifest."""
    # its neighbour has the same rule
    assert untried(Manifest, {path for path, _, _ in OUT_OF_RANGE}) <= {"graphs.outputs.dtype"}


@pytest.mark.parametrize(
    "text",
    [
        '{"schema_version": NaN}',
        '{"schema_version": 1, "dim": Infinity}',
        "[" * 100_000,
        '{"schema_version": 1, "a": ' + "[" * 100_000,
        '{"schema_version": 1' + "0" * 5000 + "}",
        '{"schema_version": 1, "digest": "\\ud800", "a": "\\ud800"}',
        '{"schema_version": 1, "a": 1e999}',
    ],
    ids=["NaN", "infinity", "deep", "deeper", "digits", "half a character", "beyond floats"],
)
def test_what_json_readers_stumble_over_is_one_sentence(text: str) -> None:
    with pytest.raises(ArtifactError, match=r"is not valid JSON|schema version"):
        Manifest.from_json(text)


@pytest.mark.parametrize("levels", [100, 900])
def test_a_deep_value_is_one_sentence(levels: int, manifest: Manifest) -> None:
    body = _body(manifest)
    deep: Any = 0
    for _ in range(levels):
        deep = [deep]
    body["prompts"] = {"deep": deep}
    with pytest.raises(ArtifactError, match=r"malformed \(more than 64 levels\)"):
        Manifest.from_json(_signed(body))


def test_keys_of_a_later_release_are_left_alone(manifest: Manifest) -> None:
    assert Manifest.from_json(_signed({**_body(manifest), "added_later": [1]})) == manifest


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not valid JSON"),
        ('{"schema_version": 1', "not valid JSON"),
        ("[]", "not an stcompile manifest"),
        ('{"version": 1}', "not an stcompile manifest"),
        ('{"schema_version": "1"}', "not an stcompile manifest"),
        (
            f'{{"schema_version": {SCHEMA_VERSION + 1}}}',
            rf"schema version {SCHEMA_VERSION + 1}.*reads up to {SCHEMA_VERSION}: pip install --upgrade",
        ),
        (f'{{"schema_version": {SCHEMA_VERSION}}}', "changed after the export"),
    ],
)
def test_what_is_no_manifest_is_named(text: str, reason: str) -> None:
    with pytest.raises(ArtifactError, match=reason):
        Manifest.from_json(text)


@pytest.mark.parametrize("key", [field.name for field in dataclasses.fields(Manifest) if field.name != "files"])
def test_a_changed_value_is_noticed(key: str, manifest: Manifest) -> None:
    body = json.loads(manifest.to_json())
    body[key] = 0 if key == "schema_version" else "changed"
    with pytest.raises(ArtifactError, match="changed after the export"):
        Manifest.from_json(json.dumps(body))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dim", "8"),
        ("dim", True),
        ("dim", None),
        ("batch_invariant", 1),
        ("prompts", []),
        ("text", "transformer"),
        ("graphs", [1]),
        ("graphs", 3),
        ("routing", {}),
        ("files", [{"path": "model.onnx"}]),
        ("engine", None),
        ("engine", "openvino"),
    ],
)
def test_a_malformed_value_is_named(key: str, value: Any, manifest: Manifest) -> None:
    with pytest.raises(ArtifactError, match="is malformed"):
        Manifest.from_json(_signed({**_body(manifest), key: value}))


# What later schemas added has a default, so that older manifests are still read.
REQUIRED = [field.name for field in dataclasses.fields(Manifest) if field.default is field.default_factory]


@pytest.mark.parametrize("key", REQUIRED)
def test_a_missing_key_is_named(key: str, manifest: Manifest) -> None:
    body = _body(manifest)
    del body[key]
    with pytest.raises(ArtifactError, match="schema_version" if key == "schema_version" else key):
        Manifest.from_json(_signed(body))
