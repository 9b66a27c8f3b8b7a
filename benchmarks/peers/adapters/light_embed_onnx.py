"""light-embed with a folder of one's own. Options: `file`."""

from collections.abc import Callable
from functools import partial
from typing import Any

from . import ort_threads
from .batches import BATCH_SIZE


def load(model: str, threads: int, options: dict[str, Any]) -> Callable[[list[str]], Any]:
    from light_embed import TextEmbedding

    ort_threads.limit(threads)
    config = {"onnx_file": options["file"], "pooling_mode": "mean", "normalize": True}
    return partial(TextEmbedding(model, model_config=config, device="cpu").encode, batch_size=BATCH_SIZE)
