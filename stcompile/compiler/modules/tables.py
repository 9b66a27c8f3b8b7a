"""Tables of embeddings as they are given: checked, and in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from stcompile.errors import InputError


def as_table(rows: Any, what: str) -> Tensor:
    """A table `(vocabulary, dim)` in float32; integers are taken as the numbers they are.

    Args:
        rows: a tensor, an array or a list of lists.
        what: the module it belongs to, for an error.

    Raises:
        InputError: not a table of numbers, or empty.
    """
    try:
        table = rows.detach() if isinstance(rows, Tensor) else torch.as_tensor(np.asarray(rows))
    except (TypeError, ValueError) as error:
        raise InputError(f"the table of {what} is not one of numbers ({error})") from error
    if table.dim() != 2 or not table.numel():
        raise InputError(f"the table of {what} must be (vocabulary, dim), got {tuple(table.shape)}")
    if table.is_complex() or table.dtype == torch.bool:
        raise InputError(f"the table of {what} holds {table.dtype}, which is no number an embedding is made of")
    return table.float()
