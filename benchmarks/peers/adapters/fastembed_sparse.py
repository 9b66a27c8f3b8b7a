"""fastembed's SparseTextEmbedding with a model of one's own in the place of one that it knows; its own batches."""

from collections.abc import Callable
from typing import Any

from .batches import BATCH_SIZE

NAME = "prithivida/Splade_PP_en_v1"


def load(model: str, threads: int, options: dict[str, Any]) -> Callable[[list[str]], Any]:
    from fastembed import SparseTextEmbedding

    found = SparseTextEmbedding(NAME, threads=threads, specific_model_path=model)
    return lambda texts: list(found.embed(texts, batch_size=BATCH_SIZE))
