"""infinity's engine inside the process, with ONNX Runtime; its torch engine does not end with this torch."""

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import ort_threads
from .batches import BATCH_SIZE


def prepare(source: str, destination: str, options: dict[str, Any]) -> None:
    """The export of sentence-transformers with the graph where this one finds it."""
    shutil.copytree(source, destination, ignore=shutil.ignore_patterns("onnx"))
    shutil.copy(Path(source) / options["file"], Path(destination) / "model.onnx")


def load(model: str, threads: int, options: dict[str, Any]) -> Callable[[list[str]], Any]:
    os.environ.update(DO_NOT_TRACK="1", INFINITY_ANONYMOUS_USAGE_STATS="0")
    import numpy as np
    import torch
    from infinity_emb import AsyncEmbeddingEngine, EngineArgs
    from infinity_emb.primitives import PoolingMethod

    torch.set_num_threads(threads)
    ort_threads.limit(threads)
    os.chdir(model)  # otherwise it looks for the graph under the name of the folder
    arguments = EngineArgs(
        model_name_or_path=".",
        engine="optimum",
        device="cpu",
        batch_size=BATCH_SIZE,
        model_warmup=False,
        bettertransformer=False,
        pooling_method=PoolingMethod.mean,
    )
    engine = AsyncEmbeddingEngine.from_args(arguments)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(engine.astart())

    def encode(texts: list[str]) -> Any:
        vectors, _ = loop.run_until_complete(engine.embed(sentences=texts))
        return np.stack(vectors)

    return encode
