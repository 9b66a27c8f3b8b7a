"""Model folders whose network is an ONNX or OpenVINO graph alone, as optimum and transformers write them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import stcompile
from golden.exported_folders import HERE
from stcompile.artifact.report import read_report
from stcompile.compiler import hub
from stcompile.compiler.inspection import inspect
from stcompile.compiler.modules import graph_weights
from stcompile.compiler.modules.graph_weights import SAME, weights_of
from stcompile.compiler.modules.onnx_file import OnnxFile
from stcompile.errors import InputError, ModelFolderError, UnsupportedError
from stcompile.reports.card import card
from tests.conftest import MODELS, load_case
from tests.test_golden import FLOAT32_ROUNDING, scaled_error

EXPORTED = HERE / "exported"
FOLDERS = sorted(folder for tool in EXPORTED.iterdir() for folder in tool.iterdir() if "reranker" not in folder.name)
ONE = EXPORTED / "optimum" / "normalize"
OF_OPENVINO = EXPORTED / "optimum_intel" / "normalize"


def name_of(folder: Path) -> str:
    return f"{folder.parent.name}-{folder.name}"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder to be damaged."""
    return Path(shutil.copytree(ONE, tmp_path / "model"))


@pytest.mark.parametrize("folder", FOLDERS, ids=name_of)
def test_it_is_the_model_that_was_exported(folder: Path) -> None:
    """In torch, against what sentence-transformers gave for the weights that the graph was made of."""
    known = load_case(folder.name)
    stack = stcompile.load_stack(folder)
    found = stack.encode(known.texts, stack.default_prompt)
    assert scaled_error(known.expected(), found).max() <= FLOAT32_ROUNDING
    usual = "openvino/openvino_model.xml" if folder.parent.name == "optimum_intel" else "onnx/model.onnx"
    assert stack.notes()[0].startswith(f"weights were read from {usual}")


def test_a_reranker_by_its_logits() -> None:
    known = load_case("reranker_bert")
    stack = stcompile.load_stack(EXPORTED / "optimum" / "reranker_bert")
    assert stack.kind == "reranker"
    found = stack.encode(known.texts, stack.default_prompt).reshape(-1)
    assert np.abs(found - known.expected()).max() <= FLOAT32_ROUNDING


@pytest.mark.parametrize("target", ["onnx-fp32", "onnx-int8"])
def test_it_is_compiled_and_proved(target: str, tmp_path: Path) -> None:
    artifact = stcompile.export_model(ONE, tmp_path / "out", target)
    report = read_report(artifact)
    assert report.parity.reference.startswith("sentence-transformers ")
    assert any("onnx/model.onnx" in note for note in report.notes)
    assert report.source.file == "onnx/model.onnx"
    content = card(artifact, "acme/mine", revision=None, licence=None, speed=None)
    assert "stcompile export normalize --file onnx/model.onnx --target" in content
    known = load_case("normalize")
    found = stcompile.load(artifact.folder, threads=1).encode(known.texts)
    if target == "onnx-fp32":
        assert scaled_error(known.expected(), found).max() <= FLOAT32_ROUNDING
    assert [entry.path for entry in artifact.manifest.files if entry.path.endswith(".onnx")] == ["model.onnx"]


@pytest.mark.parametrize(
    ("folder", "file"),
    [(ONE, "onnx/model.onnx"), (OF_OPENVINO, "openvino/openvino_model.xml")],
    ids=["onnx", "openvino"],
)
def test_what_is_read_is_what_the_weights_are(folder: Path, file: str) -> None:
    from safetensors.numpy import load_file

    stored = load_file(MODELS / "normalize" / "model.safetensors")
    found = weights_of(folder, file)
    assert found.keys() >= {name for name in stored if "pooler" not in name}
    for name, values in found.items():
        np.testing.assert_array_equal(values.numpy(), stored[name].astype(np.float32))


def test_looking_at_it_reads_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_weights, "weights_of", None)
    found = inspect(ONE)
    assert found["compiles"]
    assert [module["type"] for module in found["modules"]] == ["Transformer", "Pooling", "Normalize"]
    assert found["weights_from"] == ["onnx/model.onnx"]
    assert inspect(MODELS / "normalize")["weights_from"] == []


def test_a_rounded_graph_is_refused_by_name(model: Path) -> None:
    (rounded,) = [file.name for file in (model / "onnx").iterdir() if "int8" in file.name]
    with pytest.raises(UnsupportedError, match=r"its weights were rounded \(.*MatMulInteger\)"):
        stcompile.load_stack(model, file=f"onnx/{rounded}")
    (model / "onnx" / "model.onnx").unlink()
    with pytest.raises(UnsupportedError, match="its weights were rounded"):
        stcompile.load_stack(model)


def test_a_graph_in_float16(model: Path) -> None:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    graph = onnx.load(model / "onnx" / "model.onnx")
    onnx.save(convert_float_to_float16(graph, keep_io_types=True), model / "onnx" / "model_fp16.onnx")
    known = load_case("normalize")
    found = stcompile.load_stack(model, file="onnx/model_fp16.onnx").encode(known.texts)
    # Weights that were rounded once to 11 bits.
    assert 1e-5 < scaled_error(known.expected(), found).max() < 5e-3


def test_openvinos_files_in_float16_and_rounded(tmp_path: Path) -> None:
    known = load_case("normalize")
    found = stcompile.load_stack(OF_OPENVINO, file="openvino/openvino_model_fp16.xml").encode(known.texts)
    assert 1e-5 < scaled_error(known.expected(), found).max() < 5e-3
    with pytest.raises(UnsupportedError, match=r"its weights were rounded \((i8|u8)"):
        stcompile.load_stack(OF_OPENVINO, file="openvino/openvino_model_int8.xml")
    model = Path(shutil.copytree(OF_OPENVINO, tmp_path / "model"))
    (model / "openvino" / "openvino_model.bin").unlink()
    with pytest.raises(ModelFolderError, match=r"openvino_model\.xml cannot be read with its openvino_model\.bin"):
        stcompile.load_stack(model)


def test_onnx_is_read_where_both_formats_are_there(model: Path) -> None:
    shutil.copytree(OF_OPENVINO / "openvino", model / "openvino")
    assert inspect(model)["weights_from"] == ["onnx/model.onnx"]
    (model / "onnx" / "model.onnx").unlink()
    # What is rounded is no reason to ask: it is none of the usual ones.
    assert inspect(model)["weights_from"] == ["openvino/openvino_model.xml"]


def test_weights_beside_a_graph_that_are_missing_are_one_error(tmp_path: Path) -> None:
    model = Path(shutil.copytree(EXPORTED / "transformers" / "normalize", tmp_path / "model"))
    (model / "onnx" / "model.onnx.data").unlink()
    with pytest.raises(ModelFolderError, match="keeps its weights in files beside it"):
        stcompile.load_stack(model)


def test_a_file_that_is_not_there_is_never_replaced_by_another(model: Path) -> None:
    with pytest.raises(ModelFolderError, match=r"has no onnx/model_O2\.onnx: it has onnx/model\.onnx, onnx/model_q"):
        stcompile.load_stack(model, file="onnx/model_O2.onnx")
    with pytest.raises(ModelFolderError, match="it has no ONNX or OpenVINO file"):
        stcompile.load_stack(MODELS / "normalize", file="onnx/model.onnx")
    from sentence_transformers import SentenceTransformer

    live = SentenceTransformer(str(MODELS / "normalize"), device="cpu")
    with pytest.raises(InputError, match="a live object has none"):
        stcompile.load_stack(live, file="onnx/model.onnx")


def test_several_without_the_usual_one_are_not_guessed(model: Path) -> None:
    (model / "onnx" / "model.onnx").rename(model / "onnx" / "model_fp32.onnx")
    with pytest.raises(ModelFolderError, match=r"has no weights but .*: name one with --file"):
        stcompile.load_stack(model)
    known = load_case("normalize")
    found = stcompile.load_stack(model, file="onnx/model_fp32.onnx").encode(known.texts)
    assert scaled_error(known.expected(), found).max() <= FLOAT32_ROUNDING


def test_a_graph_wins_over_weights_where_it_is_named(model: Path) -> None:
    shutil.copy(MODELS / "wide_bert" / "model.safetensors", model)  # of another network
    with pytest.raises(ModelFolderError):
        stcompile.load_stack(model)
    known = load_case("normalize")
    found = stcompile.load_stack(model, file="onnx/model.onnx").encode(known.texts)
    assert scaled_error(known.expected(), found).max() <= FLOAT32_ROUNDING


def test_a_graph_that_is_another_network_is_refused(model: Path) -> None:
    """Same shapes, another activation: no name or shape tells, what both compute does."""
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "hidden_act": "relu"}))
    with pytest.raises(UnsupportedError, match="gives other numbers than the graph does in ONNX Runtime"):
        stcompile.load_stack(model)


def test_the_comparison_is_tight(model: Path) -> None:
    """A tenth of a thousandth on one weight of many shows."""
    graph = onnx.load(model / "onnx" / "model.onnx")
    weight = next(item for item in graph.graph.initializer if item.name.endswith("LayerNorm.weight"))
    values = onnx.numpy_helper.to_array(weight) * np.float32(1 + 50 * SAME)
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    found: dict[str, Any] = {}
    original = OnnxFile.arrays

    def others(file: OnnxFile) -> Any:
        return [*original(file), (weight.name, values)]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(OnnxFile, "arrays", others)
        with pytest.raises(UnsupportedError, match="gives other numbers"):
            found = dict(weights_of(model, "onnx/model.onnx"))
    assert not found


def test_a_graph_whose_layers_were_merged_is_refused(model: Path) -> None:
    graph = onnx.load(model / "onnx" / "model.onnx")
    for node in graph.graph.node:
        if node.op_type == "MatMul":
            node.name = ""
    onnx.save(graph, model / "onnx" / "model.onnx")
    with pytest.raises(UnsupportedError, match="more weights of its network are not in the graph by themselves"):
        stcompile.load_stack(model)


def test_a_graph_that_cannot_be_read_is_one_error(model: Path) -> None:
    (model / "onnx" / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(ModelFolderError, match=r"model\.onnx cannot be read"):
        stcompile.load_stack(model)


def test_nothing_outside_the_folder_is_read(tmp_path: Path) -> None:
    model = Path(shutil.copytree(EXPORTED / "transformers" / "normalize", tmp_path / "model"))
    outside = tmp_path / "outside.data"
    shutil.move(model / "onnx" / "model.onnx.data", outside)
    (model / "onnx" / "model.onnx.data").symlink_to(outside)
    with pytest.raises(ModelFolderError, match=r"is a link to .*, outside the folder"):
        stcompile.load_stack(model)
    (model / "onnx" / "model.onnx.data").unlink()
    graph = onnx.load(model / "onnx" / "model.onnx", load_external_data=False)
    for tensor in graph.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../../outside.data"
    onnx.save(graph, model / "onnx" / "model.onnx")
    with pytest.raises(ModelFolderError, match="outside the folder: do not use it"):
        stcompile.load_stack(model)


@pytest.mark.parametrize("change", [{"hidden_size": 30}, {"num_attention_heads": 7}, {"model_type": "no-such-network"}])
def test_a_configuration_that_is_another_networks_is_one_error(change: dict[str, Any], model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises((ModelFolderError, UnsupportedError)):
        stcompile.load_stack(model)


def test_what_is_fetched_of_a_repository_with_graphs_alone() -> None:
    files = ["config.json", "onnx/model.onnx", "onnx/model.onnx_data", "onnx/model_quantized.onnx", "tokenizer.json"]
    patterns = ["*.json", "*.safetensors"]
    usual = ["onnx/model.onnx", "onnx/model.onnx_data", "config.json", "tokenizer.json"]
    assert hub.needed(files, patterns) == usual
    assert hub.needed(files, patterns, "onnx/model_quantized.onnx")[0] == "onnx/model_quantized.onnx"
    assert "onnx/model.onnx" not in hub.needed([*files, "model.safetensors"], patterns)
    other = ["openvino/openvino_model.bin", "openvino/openvino_model.xml", "openvino/openvino_model_int8.bin"]
    assert hub.needed([*other, "config.json"], patterns) == [*other[:2], "config.json"]
