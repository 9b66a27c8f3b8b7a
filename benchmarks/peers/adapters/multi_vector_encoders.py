"""sentence-transformers' MultiVectorEncoder on torch: documents in batches of 32 by length, its own way."""

from collections.abc import Callable
from functools import partial
from typing import Any

from .batches import BATCH_SIZE


def load(model: str, threads: int, options: dict[str, Any]) -> Callable[[list[str]], Any]:
    import torch
    from sentence_transformers import MultiVectorEncoder

    torch.set_num_threads(threads)
    found = MultiVectorEncoder(model, device="cpu")
    return partial(found.encode, task="document", batch_size=BATCH_SIZE, show_progress_bar=False)
