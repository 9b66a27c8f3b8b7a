"""stcompile's own runtime of hybrid encoders, all outputs of a text: batches and threads as it chooses them itself."""

from collections.abc import Callable
from typing import Any


def load(model: str, threads: int, options: dict[str, Any]) -> Callable[[list[str]], Any]:
    from stcompile import HybridEncoder

    encode: Callable[[list[str]], Any] = HybridEncoder.load(model, threads=threads).encode_hybrid
    return encode
