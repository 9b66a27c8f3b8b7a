"""fastembed with a model of one's own; batches in the order of the texts, its own way. Options: `file`."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .batches import BATCH_SIZE

NAME = "peer/model"


def load(model: str, threads: int, options: dict[str, Any]) -> Callable[[list[str]], Any]:
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    TextEmbedding.add_custom_model(
        model=NAME,
        pooling=PoolingType.MEAN,
        normalization=True,
        sources=ModelSource(hf=NAME),
        dim=options["dim"],
        model_file=options["file"],
    )
    found = TextEmbedding(NAME, threads=threads, specific_model_path=model)
    return lambda texts: np.stack(list(found.embed(texts, batch_size=BATCH_SIZE)))
