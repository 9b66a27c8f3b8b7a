"""stcompile's own runtime: batches and threads as it chooses them itself."""

from collections.abc import Callable
from typing import Any


def load(model: str, threads: int, options: dict[str, Any]) -> Callable[[list[str]], Any]:
    from stcompile import load as load_artifact

    encode: Callable[[list[str]], Any] = load_artifact(model, threads=threads).encode
    return encode
