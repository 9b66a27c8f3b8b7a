"""Normalize, LayerNorm and Dropout, and a long stack."""

from __future__ import annotations

from sentence_transformers.sentence_transformer import modules
from torch import nn

from golden.generate.backbones import HIDDEN
from golden.generate.builder import FolderBuilder
from golden.generate.case import Case


def layernorm(builder: FolderBuilder) -> None:
    builder.save([builder.transformer(), builder.pooling(), builder.random(modules.LayerNorm(HIDDEN))])


def dropout(builder: FolderBuilder) -> None:
    builder.save([builder.transformer(), builder.pooling(), modules.Dropout(0.5)])


def normalize(builder: FolderBuilder) -> None:
    builder.save([builder.transformer(), builder.pooling(), modules.Normalize()])


def normalize_tokens(builder: FolderBuilder) -> None:
    over_tokens = modules.Normalize(module_input_name="token_embeddings")
    builder.save([builder.transformer(), over_tokens, builder.pooling()])


def full_stack(builder: FolderBuilder) -> None:
    builder.save(
        [
            builder.transformer(),
            builder.pooling(("mean", "max")),
            builder.dense(2 * HIDDEN, 40),
            builder.random(modules.LayerNorm(40)),
            modules.Dropout(0.1),
            builder.dense(40, 24, nn.GELU()),
            modules.Normalize(),
        ]
    )


CASES: dict[str, Case] = {
    "layernorm": Case("LayerNorm after pooling", layernorm),
    "dropout": Case("Dropout is the identity at inference", dropout),
    "normalize": Case("Normalize after pooling", normalize),
    "normalize_token_level": Case("Normalize on token_embeddings, then pooling", normalize_tokens),
    "full_stack": Case("Transformer, two pooling modes, Dense, LayerNorm, Dropout, Dense, Normalize", full_stack),
}
