"""Pooling modes, alone and together, with right and left padding."""

from __future__ import annotations

from functools import partial

from golden.generate.builder import FolderBuilder
from golden.generate.case import Case

MODES = ("mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
LEFT_PADDED_MODES = ("cls", "weightedmean", "mean", "lasttoken", "max")


def pooled(builder: FolderBuilder, mode: str | tuple[str, ...], kind: str = "bert") -> None:
    """Transformer, then Pooling."""
    builder.save([builder.transformer(kind), builder.pooling(mode)])


CASES: dict[str, Case] = {
    **{f"pool_{mode}": Case(f"Transformer (BERT) and Pooling {mode}", partial(pooled, mode=mode)) for mode in MODES},
    **{
        f"pool_{mode}_leftpad": Case(
            f"Pooling {mode} over a left-padded decoder", partial(pooled, mode=mode, kind="qwen")
        )
        for mode in LEFT_PADDED_MODES
    },
    "pool_concat_all": Case(
        "all six pooling modes concatenated in the order of the old booleans",
        partial(pooled, mode=("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")),
    ),
    "pool_concat_custom_order": Case(
        "a list of modes is concatenated in its own order, repeats included",
        partial(pooled, mode=("lasttoken", "mean", "cls", "mean")),
    ),
    "pool_concat_sqrt_weighted": Case(
        "a list of the two modes that weigh the sum in their own way",
        partial(pooled, mode=("mean_sqrt_len_tokens", "weightedmean")),
    ),
}
