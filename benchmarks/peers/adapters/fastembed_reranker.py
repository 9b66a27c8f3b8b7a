"""fastembed's TextCrossEncoder with a model of one's own; its own batches. Options: `file`. It takes pairs."""

from collections.abc import Callable
from typing import Any

from .batches import BATCH_SIZE

NAME = "peer/reranker"


def load(model: str, threads: int, options: dict[str, Any]) -> Callable[[list[str]], Any]:
    from fastembed.common.model_description import ModelSource
    from fastembed.rerank.cross_encoder import TextCrossEncoder

    TextCrossEncoder.add_custom_model(model=NAME, sources=ModelSource(hf=NAME), model_file=options["file"])
    found = TextCrossEncoder(NAME, threads=threads, specific_model_path=model)
    return lambda pairs: list(found.rerank_pairs(pairs, batch_size=BATCH_SIZE))
