"""stcompile's own runtime: batches and threads as it chooses them itself.

Options: `batch_size`, where it shall pad as many texts together as others do; `target` of what is made.
"""

from collections.abc import Callable
from functools import partial
from typing import Any


def prepare(source: str, destination: str, options: dict[str, Any]) -> None:
    """An artifact, as any export makes it: verified, and published only where it is as near as its target promises."""
    from stcompile import export_model

    export_model(source, destination, options["target"])


def load(model: str, threads: int, options: dict[str, Any]) -> Callable[[list[str]], Any]:
    from stcompile import load as load_artifact

    return partial(load_artifact(model, threads=threads).encode, batch_size=options.get("batch_size"))
