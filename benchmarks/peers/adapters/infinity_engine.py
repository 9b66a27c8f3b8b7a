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


def silence() -> None:
    """Before it is imported: it sends what it does to its makers otherwise."""
    os.environ.update(DO_NOT_TRACK="1", INFINITY_ANONYMOUS_USAGE_STATS="0")


def started(folder: str, threads: int, **more: Any) -> tuple[Any, asyncio.AbstractEventLoop]:
    """An engine on the only graph of a folder, and the loop that it runs in; the process moves into the folder."""
    import torch
    from infinity_emb import AsyncEmbeddingEngine, EngineArgs

    torch.set_num_threads(threads)
    ort_threads.limit(threads)
    os.chdir(folder)  # otherwise it looks for the graph under the name of the folder
    arguments = EngineArgs(
        model_name_or_path=".",
        engine="optimum",
        device="cpu",
        batch_size=BATCH_SIZE,
        model_warmup=False,
        bettertransformer=False,
        **more,
    )
    engine = AsyncEmbeddingEngine.from_args(arguments)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(engine.astart())
    return engine, loop


def load(model: str, threads: int, options: dict[str, Any]) -> Callable[[list[str]], Any]:
    silence()
    import numpy as np
    from infinity_emb.primitives import PoolingMethod

    engine, loop = started(model, threads, pooling_method=PoolingMethod.mean)

    def encode(texts: list[str]) -> Any:
        vectors, _ = loop.run_until_complete(engine.embed(sentences=texts))
        return np.stack(vectors)

    return encode
