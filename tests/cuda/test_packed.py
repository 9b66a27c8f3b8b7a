"""Packed artifacts from export to vector, with stand-ins for the operators that only a GPU has; and every refusal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest

import stcompile
from stcompile.artifact import open_artifact
from stcompile.artifact.report import read_report
from stcompile.errors import ParityError, ProviderError, TargetError, UnsupportedError
from tests.conftest import MODELS, Quick, load_case
from tests.cuda.stand_ins import as_gpu, evaluator
from tests.tiers import marked

# Largest difference to sentence-transformers; measured: 6e-7.
WITHIN = 2e-6

ARTIFACTS = MODELS.parent / "artifacts"

CASES = ("full_stack", "backbone_albert", "backbone_t5", "backbone_mpnet", "backbone_xlmr", "pool_cls", "pool_max")


class StandIn:
    """An engine that has a GPU's operators, from their documentation."""

    def __init__(self, graph: Path, device: Any, optimization_level: str) -> None:
        assert device.kind == "cuda"
        self._evaluator = evaluator(onnx.load(str(graph)))

    def run(self, feeds: dict[str, npt.NDArray[np.int64]], outputs: tuple[str, ...]) -> list[npt.NDArray[np.float32]]:
        return list(self._evaluator.run(list(outputs), feeds))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    as_gpu(monkeypatch, StandIn)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("case", marked(CASES, CASES[1:], pytest.mark.cuda_stand_in))
def test_texts_to_the_vectors_of_sentence_transformers(case: str, quick: Quick, tmp_path: Path) -> None:
    known = load_case(case)
    artifact = quick(case, "onnx-fp32", tmp_path / "packed", provider="cuda", packed=True)

    assert artifact.manifest.engine.packed
    record = {item.name: item for item in read_report(artifact).passes}["pack-tokens"]
    assert record.rewrites
    encoder = stcompile.load(artifact.folder, device="cuda")
    np.testing.assert_allclose(encoder.encode(known.texts), known.expected(), rtol=0, atol=WITHIN)


@pytest.mark.usefixtures("gpu")
def test_a_wrong_graph_is_not_published(quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parity runs what is packed: here on an engine that forgets the scale of the scores."""
    from tests.cuda import stand_ins

    whole = stand_ins.PackedMultiHeadAttention._run
    monkeypatch.setattr(
        stand_ins.PackedMultiHeadAttention,
        "_run",
        lambda self, *inputs, num_heads, scale: whole(self, *inputs, num_heads=num_heads, scale=2 * scale),
    )
    with pytest.raises(ParityError):
        quick("full_stack", "onnx-fp32", tmp_path / "wrong", provider="cuda", packed=True)
    assert not (tmp_path / "wrong").exists()


@pytest.mark.usefixtures("gpu")
def test_what_a_packed_artifact_cannot_do(quick: Quick, tmp_path: Path) -> None:
    folder = quick("full_stack", "onnx-fp32", tmp_path / "packed", provider="cuda", packed=True).folder
    with pytest.raises(ProviderError, match=r"exported packed.*only GPUs have, not cpu.*device='cuda'"):
        stcompile.load(folder)
    with pytest.raises(ProviderError, match=r"exported packed.*no CUDA graph can hold.*without --packed"):
        stcompile.load(folder, device="cuda", cuda_graphs=True)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    ("case", "sentence"),
    [
        (
            "backbone_modernbert",
            r"(?s)packed, .*causal or local attention.*packed, query, key and value are not made token by token",
        ),
        ("bert_padding_side_left", "padded on the left"),
        ("static", "it cannot be packed, it has no attention: leave packed out"),
        ("clip_text", "it cannot be packed, the attention hides more than padding"),
    ],
)
def test_a_model_that_cannot_be_packed_is_refused(case: str, sentence: str, quick: Quick, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=sentence):
        quick(case, "onnx-fp32", tmp_path / "refused", provider="cuda", packed=True, modalities=("text",))
    assert not (tmp_path / "refused").exists()


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    ("target", "provider", "error", "sentence"),
    [
        ("onnx-fp32", "cpu", ProviderError, "packed is for provider cuda"),
        ("onnx-int8", "cuda", TargetError, "onnx-int8 cannot be packed: choose one of onnx-fp32, onnx-fp16"),
    ],
)
def test_what_does_not_go_with_packed_is_said_at_once(
    target: str, provider: str, error: type[Exception], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=sentence):
        stcompile.export_model("no-such-model", tmp_path / "out", target, provider=provider, packed=True)


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this onnxruntime has CUDA"
)
def test_without_cuda_it_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match=r"proved on a GPU.*pip install 'stcompile\[cuda\]'.*Leave packed out"):
        stcompile.export_model("no-such-model", tmp_path / "out", "onnx-fp16", provider="cuda", packed=True)


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this onnxruntime has CUDA"
)
def test_verify_says_where_it_runs_before_torch_begins(quick: Quick, tmp_path: Path) -> None:
    artifact = quick("full_stack", "onnx-fp32").folder
    with pytest.raises(ProviderError, match="cuda:0 was asked for"):
        stcompile.verify_artifact(artifact, "no-such-model", device="cuda")


@pytest.mark.usefixtures("gpu")
def test_routes_are_packed_one_by_one(quick: Quick, tmp_path: Path) -> None:
    """One has no attention, and nothing to pack; the other's vectors are those of the same graph with padding."""
    plain = quick("router_first_static_query", "onnx-fp32").folder
    packed = quick("router_first_static_query", "onnx-fp32", tmp_path / "packed", provider="cuda", packed=True).folder
    texts = ["a text", "", "another one, which is a good deal longer than that"]
    encoders = stcompile.load(plain), stcompile.load(packed, device="cuda")
    for task in ("query", "document"):
        expected, found = (encoder.encode(texts, task=task) for encoder in encoders)
        np.testing.assert_allclose(found, expected, rtol=0, atol=WITHIN)


@pytest.mark.usefixtures("gpu")
def test_token_embeddings_have_their_padding_back(quick: Quick, tmp_path: Path) -> None:
    outputs = ("sentence_embedding", "token_embeddings")
    plain = quick("full_stack", "onnx-fp32", outputs=outputs).folder
    packed = quick("full_stack", "onnx-fp32", tmp_path / "packed", provider="cuda", packed=True, outputs=outputs).folder
    texts = ["a text", "another one, which is a good deal longer than that"]
    encoders = stcompile.load(plain), stcompile.load(packed, device="cuda")
    rows = (encoder.encode(texts, output_value="token_embeddings") for encoder in encoders)
    for expected, found in zip(*rows, strict=True):
        np.testing.assert_allclose(found, expected[: len(found)], rtol=0, atol=1e-5)


@pytest.mark.parametrize("folder", sorted((ARTIFACTS / "v3").iterdir()), ids=lambda path: str(path.name))
def test_older_manifests_are_not_packed(folder: Path) -> None:
    assert not open_artifact(folder).manifest.engine.packed
