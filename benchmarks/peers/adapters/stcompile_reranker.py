"""stcompile's own runtime of rerankers: batches and threads as it chooses them itself. What is encoded are pairs."""

from collections.abc import Callable
from functools import partial
from typing import Any


def load(model: str, threads: int, options: dict[str, Any]) -> Callable[[list[str]], Any]:
    from stcompile import Reranker

    return partial(Reranker.load(model, threads=threads).predict, activation_fn="identity")
