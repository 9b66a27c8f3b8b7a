"""ONNX graphs of others that are kept as they are, with the rest of their stack behind them."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from tokenizers import Tokenizer

import stcompile
from golden.exported_folders import HERE
from stcompile.artifact.report import read_report
from stcompile.errors import InputError, ModelFolderError, ProviderError, TargetError, UnsupportedError
from tests.conftest import MODELS, Quick

TARGET = "onnx-adopted"
EXPORTED = HERE / "exported"
ROUNDED = "onnx/model_qint8.onnx"

TEXTS = ["a dog", "Why are the leaves on my tomato plants turning yellow?", "naïve café", "x"]

# Between two sessions of one engine over one graph, with modules behind it that torch traced. Measured: 2e-7.
SAME = 2e-6


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with a graph in float32 and the same rounded, and no weights."""
    return Path(shutil.copytree(EXPORTED / "optimum" / "normalize", tmp_path / "model"))


def alone(graph: Path, tokenizer: Path, text: str, output: str = "last_hidden_state") -> Any:
    """What a graph makes of a text in ONNX Runtime, without anything of ours: its rows, or its vector."""
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    encoded = Tokenizer.from_file(str(tokenizer)).encode(text)
    known = {"input_ids": encoded.ids, "attention_mask": encoded.attention_mask, "token_type_ids": encoded.type_ids}
    feeds = {
        item.name: np.array([known[item.name]], np.int32 if "int32" in item.type else np.int64)
        for item in session.get_inputs()
    }
    return session.run([output], feeds)[0][0].astype(np.float64)


def expected(folder: Path, file: str, text: str) -> Any:
    """Mean pooling and a length of 1, as modules.json of these models says."""
    vector = alone(folder / file, folder / "tokenizer.json", text).mean(axis=0)
    return vector / np.linalg.norm(vector)


def found(artifact: Path) -> Any:
    with stcompile.load(artifact, threads=1, self_test=True) as encoder:
        return encoder.encode(TEXTS, batch_size=1)


@pytest.mark.parametrize("name", ["normalize", "backbone_distilbert", "backbone_mpnet"])
def test_a_rounded_graph_gives_what_it_gives_alone(name: str, tmp_path: Path) -> None:
    folder = EXPORTED / "optimum" / name
    artifact = stcompile.export_model(folder, tmp_path / "out", TARGET, file=ROUNDED)
    wanted = np.stack([expected(folder, ROUNDED, text) for text in TEXTS])
    assert np.abs(found(artifact.folder) - wanted).max() <= SAME
    operators = {node.op_type for node in onnx.load(artifact.folder / "model.onnx").graph.node}
    assert "MatMulInteger" in operators
    report = read_report(artifact)
    assert report.source.file == ROUNDED
    assert "with the given graph in ONNX Runtime" in report.parity.reference
    assert not artifact.manifest.batch_invariant


def test_the_difference_is_one_that_rounding_makes(model: Path) -> None:
    """The bound tells the rounded graph from the one beside it."""
    apart = [expected(model, ROUNDED, text) - expected(model, "onnx/model.onnx", text) for text in TEXTS]
    assert np.abs(apart).max() > 100 * SAME


def test_how_near_it_is_to_its_model_is_told(model: Path, tmp_path: Path) -> None:
    notes = read_report(stcompile.export_model(model, tmp_path / "one", TARGET, file=ROUNDED)).notes
    assert any(note.startswith("beside onnx/model.onnx: mean cosine 0.99") for note in notes), notes
    shutil.copy(MODELS / "normalize" / "model.safetensors", model)
    notes = read_report(stcompile.export_model(model, tmp_path / "two", TARGET, file=ROUNDED)).notes
    assert any(note.startswith("beside the model's own weights in torch: mean cosine 0.99") for note in notes), notes
    (model / "model.safetensors").unlink()
    (model / "onnx" / "model.onnx").unlink()
    artifact = stcompile.export_model(model, tmp_path / "three", TARGET)  # the only one: it needs no name
    assert any(note.startswith("no weights, and no graph in float32") for note in read_report(artifact).notes)


def test_it_is_verified_against_the_same_graph(model: Path, tmp_path: Path) -> None:
    artifact = stcompile.export_model(model, tmp_path / "out", TARGET, file=ROUNDED)
    assert stcompile.verify_artifact(artifact.folder, model, file=ROUNDED).passed
    assert not stcompile.verify_artifact(artifact.folder, model, file="onnx/model.onnx").passed


def test_another_graph_is_another_space(model: Path, tmp_path: Path) -> None:
    spaces = {
        stcompile.export_model(model, tmp_path / f"out-{Path(file).stem}", TARGET, file=file).manifest.space
        for file in (ROUNDED, "onnx/model.onnx")
    }
    assert len(spaces) == 2


def test_a_graph_that_has_pooled_is_taken_as_such(quick: Quick, tmp_path: Path, model: Path) -> None:
    pooled = quick("normalize", "onnx-fp32", portable=True).folder / "model.onnx"
    shutil.copy(pooled, model / "onnx" / "pooled.onnx")
    artifact = stcompile.export_model(model, tmp_path / "out", TARGET, file="onnx/pooled.onnx")
    wanted = [alone(pooled, model / "tokenizer.json", text, "sentence_embedding") for text in TEXTS]
    assert np.abs(found(artifact.folder) - np.stack(wanted)).max() <= SAME
    assert any("has pooled already" in note for note in read_report(artifact).notes)
    assert [module.type for module in read_report(artifact).source.modules] == ["Transformer"]


def test_its_weights_may_lie_beside_it_also_as_links(tmp_path: Path) -> None:
    """As the hub's cache has them: every file a link to one elsewhere."""
    source = EXPORTED / "transformers" / "normalize"
    home = tmp_path / "models--acme--mine"
    folder, blobs = home / "snapshots" / ("0" * 40), home / "blobs"
    blobs.mkdir(parents=True)
    for number, file in enumerate(sorted(path for path in source.rglob("*") if path.is_file())):
        place = folder / file.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, blobs / str(number))
        place.symlink_to(blobs / str(number))
    artifact = stcompile.export_model(folder, tmp_path / "out", TARGET)
    wanted = np.stack([expected(source, "onnx/model.onnx", text) for text in TEXTS])
    assert np.abs(found(artifact.folder) - wanted).max() <= SAME
    assert np.abs(stcompile.load_stack(folder).encode(TEXTS) - wanted).max() <= SAME
    content = (folder / "onnx" / "model.onnx.data").read_bytes()
    (folder / "onnx" / "model.onnx.data").unlink()
    (folder / "onnx" / "model.onnx.data").write_bytes(content[:100])
    with pytest.raises((ModelFolderError, UnsupportedError)):
        stcompile.load_stack(folder)


def test_nothing_of_it_is_rewritten(model: Path, tmp_path: Path) -> None:
    artifact = stcompile.export_model(model, tmp_path / "out", TARGET, file="onnx/model.onnx")
    own, made = (onnx.load(file).graph.node for file in (model / "onnx" / "model.onnx", artifact.folder / "model.onnx"))
    kept = Counter(node.op_type for node in made if not node.name.startswith("behind."))
    assert kept == Counter(node.op_type for node in own)
    assert not read_report(artifact).passes


def test_pooling_leaves_the_prompt_out(model: Path, tmp_path: Path) -> None:
    config = json.loads((model / "1_Pooling" / "config.json").read_text())
    (model / "1_Pooling" / "config.json").write_text(json.dumps({**config, "include_prompt": False}))
    artifact = stcompile.export_model(model, tmp_path / "out", TARGET, file="onnx/model.onnx")
    stack = stcompile.load_stack(model)
    with stcompile.load(artifact.folder, threads=1) as encoder:
        made = encoder.encode(TEXTS, prompt="a query: ", batch_size=1)
    assert np.abs(made - stack.encode(TEXTS, "a query: ", 1)).max() <= SAME
    assert np.abs(made - stack.encode(TEXTS, "", 1)).max() > 100 * SAME


def test_vectors_of_tokens_besides(model: Path, tmp_path: Path) -> None:
    outputs = ("sentence_embedding", "token_embeddings")
    artifact = stcompile.export_model(model, tmp_path / "out", TARGET, file=ROUNDED, outputs=outputs)
    wanted = alone(model / ROUNDED, model / "tokenizer.json", TEXTS[0])
    with stcompile.load(artifact.folder, threads=1) as encoder:
        (rows,) = encoder.encode([TEXTS[0]], output_value="token_embeddings")
    assert np.abs(rows - wanted).max() <= 10 * SAME


def test_an_older_operator_set_is_raised(tmp_path: Path) -> None:
    model = Path(shutil.copytree(EXPORTED / "optimum" / "normalize", tmp_path / "model"))
    graph = onnx.load(model / "onnx" / "model.onnx")
    older = onnx.version_converter.convert_version(graph, 17)
    onnx.save(older, model / "onnx" / "older.onnx")
    artifact = stcompile.export_model(model, tmp_path / "out", TARGET, file="onnx/older.onnx")
    assert read_report(artifact).opsets == {"": 20}
    wanted = np.stack([expected(model, "onnx/older.onnx", text) for text in TEXTS])
    assert np.abs(found(artifact.folder) - wanted).max() <= SAME


def test_other_numbers_at_its_ends(model: Path, tmp_path: Path) -> None:
    """Ids in int32, as some exporters have them, and rows in float16."""
    from onnx import TensorProto, helper

    graph = onnx.load(model / "onnx" / "model.onnx")
    for item in graph.graph.input:
        item.type.tensor_type.elem_type = TensorProto.INT32
    readers = [node for node in graph.graph.node if {"input_ids", "attention_mask", "token_type_ids"} & {*node.input}]
    for item in graph.graph.input:
        graph.graph.node.insert(0, helper.make_node("Cast", [item.name], [f"{item.name}.wide"], to=TensorProto.INT64))
    for node in readers:
        for index, name in enumerate(node.input):
            if name in ("input_ids", "attention_mask", "token_type_ids"):
                node.input[index] = f"{name}.wide"
    (end,) = graph.graph.output
    for node in graph.graph.node:
        for index, name in enumerate(node.output):
            if name == end.name:
                node.output[index] = "wide"
    graph.graph.node.append(helper.make_node("Cast", ["wide"], [end.name], to=TensorProto.FLOAT16))
    end.type.tensor_type.elem_type = TensorProto.FLOAT16
    onnx.save(graph, model / "onnx" / "odd.onnx")
    artifact = stcompile.export_model(model, tmp_path / "out", TARGET, file="onnx/odd.onnx")
    wanted = np.stack([expected(model, "onnx/odd.onnx", text) for text in TEXTS])
    assert np.abs(found(artifact.folder) - wanted).max() <= SAME


def test_what_cannot_be_kept_is_refused(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ModelFolderError, match="has no ONNX graph that could be kept as it is"):
        stcompile.export_model(MODELS / "normalize", out, TARGET)
    both = Path(shutil.copytree(model, tmp_path / "both"))
    shutil.copy(MODELS / "normalize" / "model.safetensors", both)
    with pytest.raises(ModelFolderError, match="has weights besides the graph that is to be kept: name it with --file"):
        stcompile.export_model(both, out, TARGET)
    with pytest.raises(ModelFolderError, match=r"has no onnx/other\.onnx"):
        stcompile.export_model(model, out, TARGET, file="onnx/other.onnx")
    with pytest.raises(UnsupportedError, match="is done with ONNX graphs alone"):
        stcompile.export_model(EXPORTED / "optimum_intel" / "normalize", out, TARGET)
    with pytest.raises(UnsupportedError, match="gives logits: what is kept takes"):
        stcompile.export_model(EXPORTED / "optimum" / "reranker_bert", out, TARGET)
    with pytest.raises((TargetError, ProviderError), match="runs on CPU"):
        stcompile.export_model(model, out, TARGET, file=ROUNDED, provider="cuda")
    routed = Path(shutil.copytree(MODELS / "router_dense_heads", tmp_path / "routed"))
    (place,) = [file.parent for file in routed.rglob("config.json") if "model_type" in file.read_text()]
    shutil.copytree(model / "onnx", place / "onnx")
    with pytest.raises((ModelFolderError, UnsupportedError), match=r"reads texts in several ways|has no onnx"):
        stcompile.export_model(routed, out, TARGET, file=ROUNDED)
    from sentence_transformers import SentenceTransformer

    live = SentenceTransformer(str(MODELS / "normalize"), device="cpu")
    with pytest.raises(InputError, match="a live object has none"):
        stcompile.export_model(live, out, TARGET)
    assert not out.exists()
