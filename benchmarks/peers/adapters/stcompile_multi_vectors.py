"""stcompile's own runtime of multi-vector encoders: batches and threads as it chooses them itself."""

from collections.abc import Callable
from functools import partial
from typing import Any


def load(model: str, threads: int, options: dict[str, Any]) -> Callable[[list[str]], Any]:
    from stcompile import MultiVectorEncoder

    return partial(MultiVectorEncoder.load(model, threads=threads).encode, task="document")
