"""Pieces of static models: a table of token vectors and their mean."""

from __future__ import annotations

from typing import Any

import torch
from sentence_transformers.sentence_transformer import modules
from tokenizers import Tokenizer

from golden.generate.builder import FolderBuilder
from golden.generate.tokenizers import FAMILIES

WIDTH = 24


def token_table(builder: FolderBuilder, rows: int, width: int = WIDTH) -> torch.Tensor:
    """This case's next random table."""
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(builder.next_seed()))


def static_embedding(
    builder: FolderBuilder,
    tokenizer: Tokenizer | None = None,
    *,
    width: int = WIDTH,
    dtype: torch.dtype = torch.float32,
) -> Any:
    """A StaticEmbedding module, over WordPiece unless told otherwise."""
    tokenizer = tokenizer or FAMILIES["bert"].build()
    table = token_table(builder, tokenizer.get_vocab_size(), width).to(dtype)
    return modules.StaticEmbedding(tokenizer, embedding_weights=table)
