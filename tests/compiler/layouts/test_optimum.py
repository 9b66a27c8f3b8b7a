"""The folder that optimum's loaders read is an artifact like any other, and models they could not serve are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import stcompile
from stcompile.artifact.manifest import SENTENCE, TOKENS
from stcompile.artifact.report import read_report
from stcompile.compiler.layouts import with_outputs
from stcompile.errors import UnsupportedError
from tests.conftest import MODELS, Quick, load_case
from tests.test_golden import FLOAT32_ROUNDING, scaled_error

LAYOUT = "optimum"


@pytest.mark.parametrize(
    ("target", "place"), [("onnx-fp32", "onnx/model.onnx"), ("openvino-fp32", "openvino/openvino_model.xml")]
)
def test_it_is_an_artifact_too(target: str, place: str, quick: Quick) -> None:
    known, artifact = load_case("normalize"), quick("normalize", target, layout=LAYOUT)
    assert (artifact.folder / place).is_file()
    assert artifact.manifest.graphs[0].file == place
    assert [output.name for output in artifact.manifest.graphs[0].outputs] == [SENTENCE]
    assert read_report(artifact).layout == LAYOUT
    encoder = stcompile.load(artifact.folder, threads=1, self_test=True)
    assert scaled_error(known.expected(), encoder.encode(known.texts)).max() <= FLOAT32_ROUNDING


def test_the_models_own_files_lie_beside_but_no_weights(quick: Quick) -> None:
    folder, own = quick("normalize", "onnx-fp32", layout=LAYOUT).folder, MODELS / "normalize"
    for file in ("config.json", "tokenizer.json", "tokenizer_config.json", "1_Pooling/config.json"):
        assert (folder / file).read_bytes() == (own / file).read_bytes()
    assert not [*folder.rglob("*.safetensors"), *folder.rglob("*.bin")]
    # The graph that others read ends in both.
    graph = ir.load(folder / "onnx" / "model.onnx").graph
    assert [value.name for value in graph.outputs] == [SENTENCE, "last_hidden_state"]


def test_classes_are_called_as_every_release_knows_them(quick: Quick) -> None:
    """Those of sentence-transformers before 6, and of transformers before 5."""
    rows = json.loads((quick("normalize", "onnx-fp32", layout=LAYOUT).folder / "modules.json").read_text())
    own = json.loads((MODELS / "normalize" / "modules.json").read_text())
    assert [row["type"].rpartition(".")[2] for row in rows] == ["Transformer", "Pooling", "Normalize"]
    assert all(row["type"].startswith("sentence_transformers.models.") for row in rows)
    assert [{**row, "type": ""} for row in rows] == [{**row, "type": ""} for row in own]
    folder = quick("backbone_modernbert", "onnx-fp32", layout=LAYOUT).folder
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    known = json.loads((MODELS / "backbone_modernbert" / "tokenizer_config.json").read_text())
    assert (known["tokenizer_class"], settings["tokenizer_class"]) == ("TokenizersBackend", "PreTrainedTokenizerFast")
    assert {**settings, "tokenizer_class": ""} == {**known, "tokenizer_class": ""}


def test_token_embeddings_may_be_wanted_besides(quick: Quick) -> None:
    outputs = (SENTENCE, TOKENS)
    artifact = quick("normalize", "onnx-fp32", layout=LAYOUT, outputs=outputs)
    text = load_case("normalize").texts[0]
    encoder = stcompile.load(artifact.folder, threads=1)
    plain = stcompile.load(quick("normalize", "onnx-fp32", outputs=outputs).folder, threads=1)
    made, expected = (one.encode([text], output_value=TOKENS)[0] for one in (encoder, plain))
    assert np.array_equal(made, expected)


def test_outputs_are_renamed_or_there_twice() -> None:
    def ends(wanted: tuple[str, ...]) -> list[str | None]:
        x = ir.val("x", ir.DataType.FLOAT, (1,))
        made = [ir.node("Relu", [x]).outputs[0] for _ in range(2)]
        for value, name in zip(made, (SENTENCE, TOKENS), strict=True):
            value.name = name
        graph = ir.Graph([x], made, nodes=[value.producer() for value in made])  # type: ignore[misc]
        with_outputs(graph, {TOKENS: "hidden"}, wanted)
        return [value.name for value in graph.outputs]

    assert ends((SENTENCE,)) == [SENTENCE, "hidden"]
    assert ends((SENTENCE, TOKENS)) == [SENTENCE, TOKENS, "hidden"]


@pytest.mark.parametrize(
    ("case", "reasons"),
    [
        ("router_two_encoders", ["this model has 2 graphs"]),
        ("reranker_bert", ["this is a reranker", "they run a transformers network"]),
        ("pool_mean_exclude_prompt", ["the graph takes more than token ids"]),
        ("wordemb_mean", ["they run a transformers network"]),
        ("static", ["they run a transformers network"]),
        ("plain_chat_template", ["the model has a chat template"]),
        ("legacy_v1_subfolder", ["its network is in 0_Transformer"]),
        ("weighted_layer_pooling", ["they run a transformers network"]),
    ],
)
def test_what_they_could_not_serve_is_refused(case: str, reasons: list[str], tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError) as caught:
        stcompile.export_model(MODELS / case, tmp_path / "out", "onnx-fp32", layout=LAYOUT)
    told = caught.value.reasons
    for reason in reasons:
        assert any(one.startswith(f"optimum cannot read it: {reason}") for one in told), told
    assert all(one.endswith("; leave the layout out") for one in told)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_an_artifact_already_is_compiled_anew(tmp_path: Path) -> None:
    """Its weights in a graph are not read, but nothing of the earlier artifact is taken along."""
    folder = tmp_path / "model"
    shutil.copytree(MODELS / "normalize", folder)
    for name in ("manifest.json", "report.json", "self_test.json", "stcompile_tokenizer.json"):
        (folder / name).write_text("{}", encoding="utf-8")
    artifact = stcompile.export_model(folder, tmp_path / "out", "onnx-fp32", layout=LAYOUT)
    assert stcompile.load(artifact.folder, threads=1, self_test=True).encode(["a"]).shape == (1, artifact.manifest.dim)
    assert (artifact.folder / "stcompile_tokenizer.json").read_text(encoding="utf-8") != "{}"


def test_heads_that_no_row_names_are_left_behind(quick: Quick) -> None:
    folder = quick("bge_m3", "onnx-fp32", layout=LAYOUT).folder
    assert [row["type"].rpartition(".")[2] for row in json.loads((folder / "modules.json").read_text())] == [
        row["type"].rpartition(".")[2] for row in json.loads((MODELS / "bge_m3" / "modules.json").read_text())
    ]


def test_a_network_of_its_own_code_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(MODELS / "normalize", folder)
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    settings["auto_map"] = {"AutoTokenizer": "mine.Mine"}
    (folder / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(UnsupportedError, match="its network is code of its own"):
        stcompile.export_model(folder, tmp_path / "out", "onnx-fp32", layout=LAYOUT)
