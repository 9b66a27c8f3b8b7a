"""Layers of other kinds than BERT's: those of four models in small, and every part of theirs beside others' parts."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from tests.kernels.layers import Layer, Padding

MODERN_BERT = Layer(128, 96, 2, norms="before", activation="gelu", gated=True, before=64, after=64, rotary=32)
QWEN_3 = Layer(
    192,
    256,
    4,
    head_size=128,
    kv_heads=2,
    norms="before",
    normalization="rms",
    activation="silu",
    gated=True,
    after=0,
    head_norms=True,
    rotary=64,
)
EMBEDDING_GEMMA = Layer(
    144,
    112,
    3,
    head_size=256,
    kv_heads=1,
    norms="around",
    normalization="rms",
    activation="gelu_tanh",
    gated=True,
    before=40,
    after=39,
    head_norms=True,
    rotary=128,
)
GEMMA_2 = Layer(
    144,
    112,
    4,
    head_size=128,
    kv_heads=2,
    norms="around",
    normalization="rms",
    activation="gelu_tanh",
    gated=True,
    before=40,
    after=0,
    rotary=64,
    soft_cap=1.5,
)

MODELS: Mapping[str, Layer] = MappingProxyType(
    {"modern_bert": MODERN_BERT, "qwen_3": QWEN_3, "embedding_gemma": EMBEDDING_GEMMA, "gemma_2": GEMMA_2}
)

KINDS: Mapping[str, Layer] = MappingProxyType(
    {
        **MODELS,
        "modern_bert_first": Layer(64, 48, 2, norms="before", first_norm=False, gated=True, rotary=16),
        "gemma_everywhere": Layer(
            96,
            80,
            3,
            head_size=64,
            kv_heads=1,
            norms="around",
            normalization="rms",
            activation="gelu_tanh",
            gated=True,
            head_norms=True,
            rotary=32,
        ),
        "around_first": Layer(64, 72, 2, norms="around", first_norm=False),
        "before": Layer(64, 128, 2, norms="before"),
        "around": Layer(72, 88, 2, head_size=48, norms="around"),
        "after_rms": Layer(48, 80, 3, normalization="rms"),
        "silu": Layer(64, 128, 2, activation="silu"),
        "gelu_tanh": Layer(64, 136, 2, activation="gelu_tanh"),
        "relu": Layer(64, 128, 2, activation="relu"),
        "gated_relu": Layer(64, 88, 2, activation="relu", gated=True),
        "gated_after": Layer(312, 264, 4, head_size=80, gated=True),
        "any_pairs": Layer(64, 128, 2, pair_safe=False, norms="before", activation="silu", gated=True, rotary=16),
        "wide_gated": Layer(520, 1032, 8, head_size=64, norms="before", gated=True),
        # Heads of every size, turned in part, in pairs that fill no vectors, by whole vectors and a half.
        "rotary_4": Layer(64, 48, 2, head_size=16, rotary=4),
        "rotary_8": Layer(48, 64, 3, head_size=16, rotary=8, kv_heads=1),
        "rotary_5_normed": Layer(64, 64, 4, head_size=32, rotary=5, kv_heads=2, head_norms=True),
        "rotary_24": Layer(128, 64, 2, head_size=64, rotary=24),
        "rotary_16_of_128": Layer(64, 64, 1, head_size=128, rotary=16, head_norms=True),
        "head_norms": Layer(96, 64, 2, head_size=48, head_norms=True),
        "shared_keys": Layer(64, 64, 4, head_size=16, kv_heads=1),
        "shared_by_two": Layer(64, 64, 4, head_size=32, kv_heads=2, after=0),
        # Scores that are bent: by a low cap, by one that few reach, by one that none does.
        "soft_cap": Layer(64, 64, 2, soft_cap=0.3),
        "soft_cap_shared": Layer(64, 64, 4, head_size=16, kv_heads=1, soft_cap=2.0),
        "soft_cap_50": Layer(128, 64, 2, soft_cap=50.0, after=0),
        "soft_cap_window": Layer(64, 64, 2, before=5, after=5, soft_cap=1.0),
        # Keys that take part.
        "causal": Layer(64, 64, 2, after=0),
        "causal_wide": Layer(128, 64, 2, after=0, kv_heads=1),
        "from_here_on": Layer(64, 64, 2, before=0),
        "itself_alone": Layer(64, 64, 2, before=0, after=0),
        "one_before": Layer(64, 64, 2, before=1, after=0),
        "one_after": Layer(48, 64, 3, before=0, after=1),
        "window_5": Layer(64, 64, 2, before=5, after=5),
        "window_5_64": Layer(64, 64, 2, before=5, after=64, kv_heads=1),
        "window_64_1": Layer(48, 64, 3, before=64, after=1),
        "after_5": Layer(64, 64, 2, after=5),
        "before_64": Layer(64, 64, 2, before=64),
    }
)

# Those with something added to their scores besides.
BIASED: Mapping[str, Layer] = MappingProxyType(
    {
        "biased_window": Layer(64, 64, 4, head_size=32, kv_heads=2, before=5, after=3),
        "biased_causal": Layer(128, 64, 2, after=0, rotary=32),
        "biased_soft_cap": Layer(128, 64, 2, soft_cap=0.5),
        "biased_window_soft_cap": Layer(64, 64, 4, head_size=32, kv_heads=2, before=5, after=3, soft_cap=1.0),
        "biased_before": Layer(64, 64, 4, head_size=16, kv_heads=1, norms="before", gated=True, head_norms=True),
    }
)

# Texts that reach far beyond their windows, in several shares.
LONG = (
    "modern_bert",
    "qwen_3",
    "embedding_gemma",
    "gemma_2",
    "causal_wide",
    "window_5_64",
    "before_64",
    "itself_alone",
)

Batch = tuple[list[int], Padding, int]
BATCHES: tuple[Batch, ...] = (
    ([1, 2, 12, 13, 17, 40, 5], "holes", 0),
    ([70, 6, 33], "left", 0),
    ([16, 48, 100, 1], "right", 0),
    ([1], "right", 0),
    ([0, 3, 0], "holes", 0),
    ([], "right", 0),
)
BIASED_BATCHES: tuple[Batch, ...] = (
    ([1, 7, 16, 17, 40], "holes", 1),
    ([7, 64, 33], "left", 2),
    ([100, 16], "right", 2),
)
UNSEEN_BATCHES: tuple[Batch, ...] = (([40, 17, 3, 1, 100], "unseen", 0),)
BIASED_UNSEEN_BATCHES: tuple[Batch, ...] = (([40, 17, 1], "unseen", 2),)
LONG_BATCHES: tuple[Batch, ...] = (([600, 20], "right", 0), ([333], "holes", 0))


def cases() -> dict[str, tuple[Layer, list[Batch]]]:
    """Every kind with its batches: lengths of texts, where padding stands, what is added to the scores."""
    found = {
        name: (
            layer,
            [*BATCHES, *(LONG_BATCHES if name in LONG else ()), *(() if layer.is_narrow else UNSEEN_BATCHES)],
        )
        for name, layer in KINDS.items()
    }
    return found | {name: (layer, [*BIASED_BATCHES, *BIASED_UNSEEN_BATCHES]) for name, layer in BIASED.items()}
