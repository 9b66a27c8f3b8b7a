"""stcompile's own runtime of sparse encoders: batches and threads as it chooses them itself."""

from collections.abc import Callable
from typing import Any


def load(model: str, threads: int, options: dict[str, Any]) -> Callable[[list[str]], Any]:
    from stcompile import SparseEncoder

    encode: Callable[[list[str]], Any] = SparseEncoder.load(model, threads=threads).encode
    return encode
