"""infinity's engine inside the process, scoring pairs with ONNX Runtime. Options: `file`.

It takes one query with its documents: here each pair is a call, all at once, of which it makes batches of its own.
"""

import asyncio
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import ort_threads
from .batches import BATCH_SIZE


def load(model: str, threads: int, options: dict[str, Any]) -> Callable[[list[list[str]]], Any]:
    os.environ.update(DO_NOT_TRACK="1", INFINITY_ANONYMOUS_USAGE_STATS="0")
    import numpy as np
    import torch
    from infinity_emb import AsyncEmbeddingEngine, EngineArgs

    torch.set_num_threads(threads)
    ort_threads.limit(threads)
    # It takes the graph that it finds, and looks for it under the name of the folder if that is no "."
    folder = tempfile.mkdtemp(prefix="infinity-")
    for file in Path(model).iterdir():
        if file.is_file():
            (Path(folder) / file.name).symlink_to(file)
    (Path(folder) / "model.onnx").symlink_to(Path(model) / options["file"])
    os.chdir(folder)
    arguments = EngineArgs(
        model_name_or_path=".",
        engine="optimum",
        device="cpu",
        batch_size=BATCH_SIZE,
        model_warmup=False,
        bettertransformer=False,
    )
    engine = AsyncEmbeddingEngine.from_args(arguments)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(engine.astart())

    async def scores(pairs: list[list[str]]) -> list[float]:
        calls = (engine.rerank(query=query, docs=[document], raw_scores=True) for query, document in pairs)
        return [found[0].relevance_score for found, _ in await asyncio.gather(*calls)]

    return lambda pairs: np.array(loop.run_until_complete(scores(pairs)), np.float32)
