"""infinity's engine inside the process, scoring pairs with ONNX Runtime. Options: `file`.

It takes one query with its documents: here each pair is a call, all at once, of which it makes batches of its own.
"""

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .infinity_engine import silence, started


def load(model: str, threads: int, options: dict[str, Any]) -> Callable[[list[list[str]]], Any]:
    silence()
    import numpy as np

    # It takes the graph that it finds.
    folder = tempfile.mkdtemp(prefix="infinity-")
    for file in Path(model).iterdir():
        if file.is_file():
            (Path(folder) / file.name).symlink_to(file)
    (Path(folder) / "model.onnx").symlink_to(Path(model) / options["file"])
    engine, loop = started(folder, threads)

    async def scores(pairs: list[list[str]]) -> list[float]:
        calls = (engine.rerank(query=query, docs=[document], raw_scores=True) for query, document in pairs)
        return [found[0].relevance_score for found, _ in await asyncio.gather(*calls)]

    return lambda pairs: np.array(loop.run_until_complete(scores(pairs)), np.float32)
