"""Engines: what runs a graph. One small protocol, one engine a file."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stcompile.manifest import GraphSpec, Manifest
from stcompile.runtime.engines.onnxruntime import OnnxRuntimeEngine
from stcompile.runtime.text.base import Feeds


class Engine(Protocol):
    """Runs one graph; safe to call from several threads at once."""

    def run(self, feeds: Feeds, outputs: tuple[str, ...]) -> list[NDArray[np.float32]]:
        """Computes the named outputs of one batch, in that order."""
        ...


def open_engine(folder: Path, graph: GraphSpec, manifest: Manifest, provider: str, threads: int | None) -> Engine:
    """The engine that runs `graph` on `provider`. Raises `ProviderError` when it cannot."""
    return OnnxRuntimeEngine(folder / graph.file, provider, threads, manifest.optimization_level)
