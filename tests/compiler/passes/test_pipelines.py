"""The whole pipelines over tiny models of every architecture: numbers, counts, reasons."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir
import pytest

from stcompile.artifact.report import PassSummary
from stcompile.compiler.passes import (
    PIPELINES,
    CleanGraph,
    FuseMultiHeadAttention,
    PackTokens,
    packs,
    pipeline_for,
    run_pipeline,
    why_not_packed,
)
from stcompile.errors import ProviderError

_DISENTANGLED = "Where stands between the scores and the softmax"

# architecture -> attentions on CPU and CUDA, RMSNormalizations, LayerNormalizations, Gelus, packed projections, split
# ones, why attention was refused on CUDA
_EXPECTED: dict[str, tuple[int, int, int, int, int, int, int, tuple[str, ...]]] = {
    "bert": (2, 2, 0, 4, 2, 2, 0, ()),
    "distilbert": (1, 1, 0, 2, 1, 1, 0, ()),
    "mpnet": (1, 1, 0, 3, 1, 1, 0, ()),
    "roberta": (1, 1, 0, 3, 1, 1, 0, ()),
    "albert": (2, 2, 0, 4, 0, 2, 0, ()),
    "electra": (1, 1, 0, 2, 1, 1, 0, ()),
    "t5": (1, 1, 3, 0, 0, 1, 0, ()),
    "modernbert": (2, 2, 0, 4, 0, 4, 4, ()),
    "qwen3": (1, 1, 5, 0, 0, 2, 0, ()),
    "stablelm": (1, 1, 0, 2, 0, 2, 0, ()),
    "gptj": (1, 1, 0, 1, 0, 0, 0, ()),
    "gemma2": (1, 0, 5, 0, 0, 2, 0, ("a soft cap bends the scores before the mask is added",)),
    "deberta": (0, 0, 0, 2, 1, 1, 0, (_DISENTANGLED,)),
}

# Attentions whose mask hides padding alone and has a row for each query.
_NARROWED = {"bert": 2, "distilbert": 1, "roberta": 1, "albert": 2, "electra": 1, "modernbert": 1}

# GELUs by tanh that are written as loose nodes.
_BY_TANH = {"albert": 2, "gptj": 1}

# What is said of attention on CPU that was rewritten.
_BENT = "a soft cap bends the scores: ONNX Runtime's Attention adds the mask before it up to 1.26"
_SAID = {"gemma2": (_BENT,)}


@pytest.mark.parametrize("architecture", _EXPECTED)
@pytest.mark.parametrize("provider", ["cpu", "openvino", "cuda"])
def test_a_pipeline_keeps_the_numbers(
    provider: str,
    architecture: str,
    trace: Callable[[str], ir.Model],
    token_feeds: list[dict[str, object]],
    assert_same: Callable[..., None],
) -> None:
    fused, on_cuda, rms, norms, gelus, packs, split, refusals = _EXPECTED[architecture]

    model, records = run_pipeline(trace(architecture), PIPELINES[provider])

    rewrites = {record.name: record.rewrites for record in records[1:-1]}
    said = {record.name: record.refusals for record in records}
    if provider == "openvino":
        assert rewrites == {"narrow-mask": _NARROWED.get(architecture, 0)}
    elif provider == "cpu":
        assert rewrites == {
            "split-projections": split,
            "fuse-rms-norm": rms,
            "fuse-gelu": _BY_TANH.get(architecture, 0),
            "fuse-attention": fused,
            "pool-early": 0,
        }
        assert said["fuse-attention"] == (_SAID.get(architecture, ()) if fused else refusals)
    else:
        assert rewrites == {
            "split-projections": split,
            "fuse-rms-norm": rms,
            "fuse-multi-head-attention": on_cuda,
            "pool-early": 0,
            "fuse-skip-layer-norm": norms,
            "fuse-bias-gelu": gelus,
            "fuse-gelu": _BY_TANH.get(architecture, 0),
            "pack-qkv": packs,
            "use-gpu-kernels": 0,
        }
        assert said["fuse-multi-head-attention"] == refusals
    assert_same(trace(architecture), model, token_feeds)

    _, again = run_pipeline(model, PIPELINES[provider])

    # What projections are packed into is cut again, and packed.
    repeated = ("split-projections", "pack-qkv", "clean-graph") if provider == "cuda" and packs else ()
    assert not any(record.rewrites for record in again if record.name not in repeated)


def test_a_pass_is_recorded(trace: Callable[[str], ir.Model]) -> None:
    model = run_pipeline(trace("distilbert"), [CleanGraph()])[0]

    _, records = run_pipeline(model, [CleanGraph()])

    assert records == [PassSummary("clean-graph", 0, ("the graph is already clean",))]


@pytest.mark.parametrize("provider", ["cpu", "cuda"])
def test_a_provider_has_its_pipeline_and_openvino_one_of_its_own(provider: str) -> None:
    assert pipeline_for(provider) == PIPELINES[provider]
    assert pipeline_for(provider, openvino=True) == PIPELINES["openvino"]


def test_packing_comes_last_of_all_passes_for_cuda() -> None:
    plain, packed = pipeline_for("cuda"), pipeline_for("cuda", packed=True)
    assert [item.name for item in packed] == [*(item.name for item in plain[:-1]), "pack-tokens", plain[-1].name]


def test_packed_is_for_cuda() -> None:
    with pytest.raises(ProviderError, match="packed is for provider cuda"):
        pipeline_for("cpu", packed=True)


@pytest.mark.parametrize(
    ("fused", "packed", "why", "is_packed"),
    [
        ((2, ()), (2, ()), [], True),
        ((2, ("two",)), (2, ()), ["two"], True),
        ((2, ()), (1, ("half",)), ["half"], True),
        ((0, ("rotary",)), (0, (PackTokens.absent,)), ["rotary"], False),
        ((0, (FuseMultiHeadAttention.absent,)), (0, (PackTokens.absent,)), [], False),
    ],
)
def test_why_not_everything_is_packed(
    fused: tuple[int, tuple[str, ...]], packed: tuple[int, tuple[str, ...]], why: list[str], is_packed: bool
) -> None:
    other = PassSummary("pool-early", 0, ("of no concern",))
    records = [PassSummary("fuse-multi-head-attention", *fused), other, PassSummary("pack-tokens", *packed)]
    assert why_not_packed(records) == why
    assert packs(records) == is_packed


def test_an_unknown_provider_is_refused() -> None:
    with pytest.raises(ProviderError, match="choose one of cpu, cuda"):
        pipeline_for("npu")
