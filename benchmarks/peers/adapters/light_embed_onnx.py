"""light-embed with a folder of one's own. It takes no number of threads, only the CPUs there are. Options: `file`."""

from collections.abc import Callable
from functools import partial
from typing import Any

from .batches import BATCH_SIZE


def load(model: str, threads: int, options: dict[str, Any]) -> Callable[[list[str]], Any]:
    from light_embed import TextEmbedding

    config = {"onnx_file": options["file"], "pooling_mode": "mean", "normalize": True}
    return partial(TextEmbedding(model, model_config=config, device="cpu").encode, batch_size=BATCH_SIZE)
