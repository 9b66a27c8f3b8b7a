"""On a real GPU, with onnxruntime-gpu; skipped, with the reason, where there is none."""

from __future__ import annotations

import pytest

import stcompile
from stcompile.compiler.trace.running import why_no_gpu
from stcompile.errors import ProviderError, StcompileError
from tests.compiler.export.test_targets_on_architectures import cosines
from tests.conftest import Quick, load_case
from tests.cuda.test_packed import CASES as PACKED

_WHY_NOT = why_no_gpu()

pytestmark = pytest.mark.skipif(bool(_WHY_NOT), reason=_WHY_NOT or "a GPU is here")

LEAST = {"onnx-fp32": 0.99999, "onnx-fp16": 0.9999}
CASES = ("full_stack", "backbone_xlmr", "backbone_distilbert", "pool_cls", "pool_lasttoken", "wide_bert")


@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize("target", LEAST)
@pytest.mark.parametrize("case", CASES)
def test_it_is_near_sentence_transformers(case: str, target: str, graphs: bool, quick: Quick) -> None:
    folder = quick(case, target, provider="cuda").folder
    known = load_case(case)
    encoder = stcompile.load(folder, device="cuda", cuda_graphs=graphs)
    for _ in range(3):  # the second time on memory that is there, the third by a graph that was captured
        assert cosines(known.expected(), encoder.encode(known.texts)).min() >= LEAST[target]


@pytest.mark.parametrize("target", LEAST)
@pytest.mark.parametrize("case", [*PACKED, "wide_bert"])
def test_packed_it_is_near_them_too(case: str, target: str, quick: Quick) -> None:
    known = load_case(case)
    encoder = stcompile.load(quick(case, target, provider="cuda", packed=True).folder, device="cuda")
    for _ in range(2):
        assert cosines(known.expected(), encoder.encode(known.texts)).min() >= LEAST[target]


def test_integers_have_no_kernels_there_and_are_refused(quick: Quick) -> None:
    with pytest.raises(ProviderError, match="would run a part of the graph on the CPU"):
        stcompile.load(quick("full_stack", "onnx-int8").folder, device="cuda")


def test_a_gpu_that_is_not_there_is_an_error(quick: Quick) -> None:
    with pytest.raises(StcompileError):
        stcompile.load(quick("full_stack", "onnx-fp32", provider="cuda").folder, device="cuda:99")
