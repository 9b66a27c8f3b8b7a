"""ONNX Runtime as the engine, on CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcompile.errors import ProviderError
from stcompile.runtime.engines.sessions import LEVELS, import_onnxruntime, opened
from stcompile.runtime.engines.sizes import is_large, trim

# A level of our own: the engine widens 8-bit weights so that nothing saturates, which it only does at its extended
# level. Measured on an artifact of schema 1: min cosine .9996 instead of .958 on a CPU without VNNI.
UNSATURATED = "unsaturated"

_LEVELS = {**LEVELS, UNSATURATED: "ORT_ENABLE_EXTENDED"}


class OnnxRuntimeEngine:
    """One ONNX Runtime session on the CPU.

    Args:
        graph: the `.onnx` file.
        threads: threads of one run; with 1 every caller computes on its own thread.
        optimization_level: what the engine may rewrite at load: `disabled`, `basic`, `all` or `unsaturated`.
        operators: the library of the package's own operators, for a graph that has some; None takes their bodies.

    Raises:
        ProviderError: the library cannot be loaded.
        ArtifactError: the engine cannot load the graph.
    """

    kernels = ""

    def __init__(self, graph: Path, threads: int, optimization_level: str, operators: Path | None = None) -> None:
        ort = import_onnxruntime("cpu")
        options = session_options(ort, threads, optimization_level, operators)
        self._session: Any = opened(ort, graph, options, ["CPUExecutionProvider"])
        self._giving_back: Any = ort.RunOptions()
        self._giving_back.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    @property
    def inputs(self) -> list[set[str]]:
        """What each input may be called."""
        return [{item.name} for item in self._session.get_inputs()]

    @property
    def widths(self) -> dict[str, int | None]:
        """The last axis of each output of the graph; None where it is not fixed."""
        shapes = {item.name: item.shape for item in self._session.get_outputs()}
        return {name: shape[-1] if shape and isinstance(shape[-1], int) else None for name, shape in shapes.items()}

    def run(self, feeds: dict[str, NDArray[np.int64]], outputs: tuple[str, ...]) -> list[NDArray[np.float32]]:
        """Computes the named outputs, `(batch, dim)` or `(batch, sequence, hidden)` float32."""
        gives_back = is_large(feeds)
        results: list[NDArray[np.float32]] = self._session.run(
            list(outputs), feeds, self._giving_back if gives_back else None
        )
        if gives_back:
            trim()
        return results


def session_options(ort: Any, threads: int, optimization_level: str, operators: Path | None) -> Any:
    """How a session is opened on the CPU. Arguments and errors as `OnnxRuntimeEngine`."""
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, _LEVELS[optimization_level])
    if optimization_level == UNSATURATED:
        options.add_session_config_entry("session.x64quantprecision", "1")
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning workers burn the quota of a container and halved the speed of a busy machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if operators is not None:
        _register(options, operators)
    return options


def _register(options: Any, operators: Path) -> None:
    try:
        options.register_custom_ops_library(str(operators))
    except Exception as error:  # ONNX Runtime's own
        raise ProviderError(
            f"the package's own operators cannot be loaded ({error}): install stcompile again on this machine, or set "
            "STCOMPILE_KERNELS=none"
        ) from error
