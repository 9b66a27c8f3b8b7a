"""Texts of token ids behind each other: `input_ids` `(tokens,)` and `offsets` `(batch,)`, where each text begins.

An empty text begins where the next one does, or after the last token. Only operators that one thread runs, or whose
results do not depend on the order, are used here: ONNX Runtime's ScatterND with a reduction lets several threads add
to one row at once, and loses some of what they add.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import ClassVar

import torch
from torch import Tensor

from stcompile.compiler.modules.base import Example, Features, InputModule


class FlatInputModule(InputModule):
    """A block whose texts lie behind each other."""

    has_masked_rows: ClassVar[bool] = False

    @property
    def input_names(self) -> tuple[str, ...]:
        return ("input_ids", "offsets")

    def examples(self) -> dict[str, Example]:
        """Three texts, one of them empty."""
        ids = torch.arange(11, dtype=torch.int64) % self.vocabulary_size
        offsets = torch.tensor([0, 4, 4], dtype=torch.int64)
        return {"input_ids": Example(ids, ("tokens",)), "offsets": Example(offsets, ("batch",))}


def flat_features(rows: Sequence[Sequence[int]]) -> Features:
    """Tokenized texts as `input_ids` and `offsets`, int64."""
    offsets = [0, *accumulate(len(row) for row in rows)][:-1]
    ids = [token for row in rows for token in row]
    return {"input_ids": torch.tensor(ids, dtype=torch.int64), "offsets": torch.tensor(offsets, dtype=torch.int64)}


def ends(ids: Tensor, offsets: Tensor) -> Tensor:
    """Where each text ends, int64 `(batch,)`."""
    count = torch.full((1,), 1, dtype=torch.int64, device=ids.device) * ids.shape[0]
    return torch.cat([offsets[1:], count])


def text_of_each(ids: Tensor, offsets: Tensor) -> Tensor:
    """Which text each token belongs to, int64 `(tokens,)`."""
    begins = torch.zeros(ids.shape[0] + 1, dtype=torch.int64, device=ids.device)
    begins = begins.scatter_add(0, offsets, torch.ones_like(offsets))
    return begins.cumsum(0)[:-1] - 1


def membership(ids: Tensor, offsets: Tensor) -> Tensor:
    """Which tokens belong to each text, bool `(batch, tokens)`."""
    position = torch.arange(ids.shape[0], dtype=torch.int64, device=ids.device)
    return (position >= offsets.unsqueeze(-1)) & (position < ends(ids, offsets).unsqueeze(-1))
