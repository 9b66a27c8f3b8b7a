"""Pieces of models over a table of words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from sentence_transformers.sentence_transformer import modules
from sentence_transformers.sentence_transformer.modules.tokenizer import WhitespaceTokenizer

from golden.generate.builder import FolderBuilder
from golden.generate.vocabularies import WORD_TABLE

WIDTH = 16


def word_table(builder: FolderBuilder, rows: int, *, zero_first: bool = True) -> torch.Tensor:
    """This case's next random table; row 0 stands for padding and is zero by convention only."""
    table = torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(builder.next_seed()))
    if zero_first:
        table[0] = 0
    return table


def word_embeddings(
    builder: FolderBuilder,
    *,
    zero_first: bool = True,
    stop_words: Sequence[str] | None = (),
    lower: bool = False,
    **kwargs: Any,
) -> Any:
    """WordEmbeddings with a whitespace tokenizer; None for the library's own stop words."""
    settings: dict[str, Any] = {} if stop_words is None else {"stop_words": stop_words}
    tokenizer = WhitespaceTokenizer(vocab=WORD_TABLE, do_lower_case=lower, **settings)
    table = word_table(builder, len(WORD_TABLE), zero_first=zero_first)
    return modules.WordEmbeddings(tokenizer, table, **kwargs)


def word_weights() -> dict[str, float]:
    """Made-up weights of two words in three, every other one in lower case."""
    return {
        (word.lower() if i % 2 else word): round(0.25 + (i * 37 % 50) / 20, 4)
        for i, word in enumerate(WORD_TABLE[1:])
        if i % 3 != 2
    }
