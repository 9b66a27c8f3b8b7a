"""bfloat16 for GPUs from export to vector, with stand-ins for the operators that only a GPU has in it; and refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import pytest

import stcompile
from stcompile.artifact.report import read_report
from stcompile.artifact.target import Target
from stcompile.compiler.parity.half import _Evaluator
from stcompile.compiler.quantize.half import BFLOAT16
from stcompile.errors import ParityError, ProviderError
from tests.compiler.export.test_targets_on_architectures import cosines
from tests.conftest import Quick, load_case
from tests.cuda import stand_ins
from tests.tiers import marked

# Rotary positions with grouped keys and normalized heads, with windows and several bases, of neighbours and a part of a
# head, none at all, a soft cap. What T5 does not scale is too coarse in it: such a network is refused.
CASES = (
    *("backbone_qwen3_lasttoken", "backbone_modernbert", "full_stack", "backbone_gemma3_windows", "backbone_glm4"),
    *("backbone_gemma2", "backbone_roformer", "backbone_stablelm", "backbone_eurobert"),
)

# Smallest cosine to sentence-transformers, in float32, as the target promises; measured: 0.99978.
LEAST = Target.parse("onnx-bf16").tolerance.min_cosine


class InBfloat16:
    """An engine that has a GPU's operators, each of which rounds what it makes to bfloat16."""

    def __init__(self, graph: Path, device: Any, optimization_level: str) -> None:
        assert device.kind == "cuda"
        self._evaluator = _Evaluator(onnx.load(str(graph)), BFLOAT16, stand_ins.OPERATORS)

    def run(self, feeds: dict[str, npt.NDArray[np.int64]], outputs: tuple[str, ...]) -> list[npt.NDArray[np.float32]]:
        assert len(outputs) == 1
        return [self._evaluator.vectors(feeds)]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_ins.as_gpu(monkeypatch, InBfloat16)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("case", marked(CASES, CASES[2:], pytest.mark.cuda_stand_in))
def test_texts_to_vectors_near_those_of_sentence_transformers(case: str, quick: Quick, tmp_path: Path) -> None:
    known = load_case(case)
    artifact = quick(case, "onnx-bf16", tmp_path / "brain", provider="cuda")

    graph = ir.load(artifact.folder / artifact.manifest.graphs[0].file)
    products = [node for node in graph.graph if node.op_type in ("MatMul", "Gemm")]
    assert {value.dtype for node in products for value in node.inputs if value is not None} == {ir.DataType.BFLOAT16}
    report = read_report(artifact)
    assert report.quantization is not None
    assert report.quantization.matmuls == len(products)
    assert any(note.startswith("bfloat16 was judged by ONNX's reference evaluator") for note in report.notes)
    encoder = stcompile.load(artifact.folder, device="cuda")
    nearness = cosines(known.expected(), encoder.encode(known.texts)).min()
    # Numbers of 8 bits, and no others.
    assert LEAST <= nearness < 0.9999999


@pytest.mark.usefixtures("gpu")
def test_a_wrong_graph_is_not_published(quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = stand_ins.RotaryEmbedding._run
    monkeypatch.setattr(
        stand_ins.RotaryEmbedding,
        "_run",
        lambda self, x, position, cos, sin, **attributes: whole(self, x, position, cos, -sin, **attributes),
    )
    monkeypatch.setattr(stand_ins.MultiHeadAttention, "_run", lambda self, query, key, value, *_, **__: (query,))
    with pytest.raises(ParityError):
        quick("backbone_modernbert", "onnx-bf16", tmp_path / "wrong", provider="cuda")
    assert not (tmp_path / "wrong").exists()


@pytest.mark.usefixtures("gpu")
def test_it_loads_on_no_cpu(quick: Quick, tmp_path: Path) -> None:
    folder = quick("backbone_modernbert", "onnx-bf16", tmp_path / "brain", provider="cuda").folder
    with pytest.raises(ProviderError, match=r"bfloat16 for provider cuda.*not cpu.*or export it for provider cpu"):
        stcompile.load(folder)


def test_without_a_gpu_it_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match=r"onnx-bf16 for provider cuda is proved on a GPU: .*Choose onnx-fp32"):
        stcompile.export_model(tmp_path / "nothing", tmp_path / "out", "onnx-bf16", provider="cuda")
