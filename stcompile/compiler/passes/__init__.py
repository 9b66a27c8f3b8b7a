"""Graph passes, and which of them run for which execution provider.

A pass stands in the CPU pipeline only where it wins. Numbers beside the passes are its speed over the graph
as traced, for 32 x 16, 1 x 16, 8 x 128 and 8 x 256 (texts x tokens): all-MiniLM-L6-v2 in float32,
onnxruntime 1.32 at its BASIC level, one thread, process CPU time, configurations interleaved, medians of 15
ratios on a Zen-4 core. About 0.02 is noise, 0.05 at 1 x 16.

Tried on CPU and not worth a pass, over the CPU pipeline: a mask made straight from the attention mask (0.99,
0.97, 0.99, 0.99), a bias inside Gemm rather than an Add after MatMul (1.02, 1.02, 1.01, 1.00).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import onnx_ir as ir

from stcompile.artifact.report import PassSummary
from stcompile.compiler.passes.attention import FuseAttention
from stcompile.compiler.passes.base import GraphPass, PassResult
from stcompile.compiler.passes.bias_gelu import FuseBiasGelu
from stcompile.compiler.passes.block_attention import BlockAttention
from stcompile.compiler.passes.clean import CleanGraph
from stcompile.compiler.passes.gelu import FuseGelu
from stcompile.compiler.passes.gpu_kernels import UseGpuKernels
from stcompile.compiler.passes.multi_head_attention import FuseMultiHeadAttention
from stcompile.compiler.passes.narrow_mask import NarrowMask
from stcompile.compiler.passes.pack_tokens import PackTokens
from stcompile.compiler.passes.packed_qkv import PackQKV
from stcompile.compiler.passes.pool_early import PoolEarly
from stcompile.compiler.passes.rms_norm import FuseRmsNorm
from stcompile.compiler.passes.skip_layer_norm import FuseSkipLayerNorm
from stcompile.compiler.passes.split_projections import SplitProjections
from stcompile.errors import ProviderError

__all__ = [
    "PIPELINES",
    "BlockAttention",
    "CleanGraph",
    "FuseAttention",
    "FuseBiasGelu",
    "FuseGelu",
    "FuseMultiHeadAttention",
    "FuseRmsNorm",
    "FuseSkipLayerNorm",
    "GraphPass",
    "NarrowMask",
    "PackQKV",
    "PackTokens",
    "PassResult",
    "PoolEarly",
    "SplitProjections",
    "UseGpuKernels",
    "final_passes",
    "packs",
    "pipeline_for",
    "run_pipeline",
    "why_not_packed",
]

PROVIDERS = ("cpu", "cuda")

# The operators onnxruntime has CUDA kernels for; no GPU was there to measure them. On CPU they keep the numbers and
# lose time, all together 0.84, 0.88, 0.88, 0.94, so none is shared with the other pipelines.
_CUDA: tuple[GraphPass, ...] = (
    # First, for the same reasons as on CPU.
    CleanGraph(),
    # As on CPU, before the attention, which looks for them. PackQKV puts together again what is cut here.
    SplitProjections(),
    FuseRmsNorm(contributed=True),
    FuseMultiHeadAttention(),
    # Before the norms and biases around the pooled row are fused into operators that it does not read.
    PoolEarly(),
    # One kernel in place of three memory-bound ones. On CPU 0.89, 0.85, 0.91, 0.93.
    FuseSkipLayerNorm(),
    # One kernel in place of two. On CPU 0.98, 0.98, 0.99, 0.99.
    FuseBiasGelu(),
    # One launch in place of eight.
    FuseGelu(),
    # One launch in place of three, for the small batches where launches count. On CPU over the CPU
    # pipeline 0.97, 1.01, 0.97, 0.97.
    PackQKV(),
    # What would run on the CPU in between: the place of the CLS token, CLIP's, two activations.
    UseGpuKernels(),
)

PIPELINES: Mapping[str, tuple[GraphPass, ...]] = MappingProxyType(
    {
        "cpu": (
            # First, because only the notes it drops say which parameter a folded weight was, and because
            # the fusions read initializers, not Constant nodes. Speed 1.01, 0.98, 1.00, 1.01: none.
            CleanGraph(),
            # Before the attention, whose queries, keys and values it takes apart, and whose heads the norm may be of.
            # MiniLM has none of the three; what they are worth alone was not timed. With the attention they make
            # layers of ModernBERT, Qwen3 and Gemma 3 what one operator computes (docs/architectures.md).
            SplitProjections(),
            FuseRmsNorm(),
            FuseGelu(),
            # The one fusion that wins: 1.04, 1.04, 1.05, 1.10. It saves the transposes and the passes over
            # the scores, hence more at longer texts. MultiHeadAttention: 0.98, 1.01, 1.03, 1.08.
            FuseAttention(),
            # After the attention, which it reaches through. For CLS pooling of the same model on one Zen-3 thread,
            # short, mixed and long texts: 1.12, 1.13, 1.17 in float32, 1.15, 1.18, 1.18 in 8 bits. Of six layers'
            # work it saves most of one's; nothing where pooling takes more than one row.
            PoolEarly(),
            # Last, so that names count the nodes that ship and one model is one file.
            CleanGraph(),
        ),
        # OpenVINO decomposes Attention again and fuses by patterns of its own: 0.95 and 0.97 of its speed on the plain
        # graph (short and long texts, one thread of a Zen-3 core).
        "openvino": (
            # First, for the same reasons as above.
            CleanGraph(),
            # For long texts: of 8,192 tokens, 300 MB less at once. Speed of all-MiniLM-L6-v2 for short, mixed and long
            # texts, one thread of a Xeon: 1.01, 1.02, 1.02.
            NarrowMask(),
            # Last, for the same reasons as above.
            CleanGraph(),
        ),
        "cuda": (
            *_CUDA,
            # Last, for the same reasons as above.
            CleanGraph(),
        ),
        # For texts of different lengths: of 512 short texts in batches of 16,384 positions more than half is padding.
        "cuda-packed": (
            *_CUDA,
            # Behind the fusions, whose operators it packs.
            PackTokens(),
            # Last, for the same reasons as above.
            CleanGraph(),
        ),
    }
)


def pipeline_for(provider: str, *, openvino: bool = False, packed: bool = False) -> tuple[GraphPass, ...]:
    """The passes for `cpu` or `cuda`, the latter also packed, or for OpenVINO whatever the provider, in order.

    Raises:
        ProviderError: there is no such provider, or packed is for another one.
    """
    if provider not in PROVIDERS:
        raise ProviderError(f"no pipeline for provider {provider!r}: choose one of {', '.join(PROVIDERS)}")
    if packed and provider != "cuda":
        raise ProviderError(f"packed is for provider cuda, whose batches are large: leave it out for {provider}")
    if openvino:
        return PIPELINES["openvino"]
    return PIPELINES[f"{provider}-packed" if packed else provider]


def final_passes(provider: str, longest: int | None, *, openvino: bool = False) -> tuple[GraphPass, ...]:
    """The passes behind the precision recipe; no text has more positions than `longest`, None for no limit."""
    # Recipes look for the attention that it hides. OpenVINO and GPUs have kernels that never hold all scores: measured
    # with OpenVINO, the peak of 8,192 tokens is that of sentence-transformers.
    return () if openvino or provider != "cpu" else (BlockAttention(longest),)


def run_pipeline(model: ir.Model, passes: Iterable[GraphPass]) -> tuple[ir.Model, list[PassSummary]]:
    """Run `passes` on `model`, in place and in order; one record for each pass that ran."""
    records = []
    for graph_pass in passes:
        result = graph_pass(model)
        model = result.model
        records.append(PassSummary(graph_pass.name, result.rewrites, result.refusals))
    return model, records


def packs(records: Iterable[PassSummary]) -> bool:
    """Whether a pipeline left padding out."""
    return any(record.rewrites for record in records if record.name == PackTokens.name)


def why_not_packed(records: Iterable[PassSummary]) -> list[str]:
    """Why some attention of a graph is not packed, in sentences; empty where all are, or where there is none."""
    absent = {FuseMultiHeadAttention.name: FuseMultiHeadAttention.absent, PackTokens.name: PackTokens.absent}
    return [
        refusal
        for record in records
        for refusal in record.refusals
        if record.name in absent and refusal != absent[record.name]
    ]
