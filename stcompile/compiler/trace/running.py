"""A graph that is still being made, run to see what it computes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from stcompile.artifact import scratch
from stcompile.compiler.trace.protobuf import write_beside, write_model
from stcompile.errors import StcompileError
from stcompile.kernels.native import DOMAIN, library
from stcompile.runtime.cpus import available_cpus
from stcompile.runtime.device import CUDA, Device
from stcompile.runtime.engines.onnxruntime import session_options
from stcompile.runtime.engines.onnxruntime_cuda import CudaEngine
from stcompile.runtime.engines.sessions import import_onnxruntime
from stcompile.runtime.engines.sessions import opened as opened_session
from stcompile.runtime.text.base import Feeds


class RunningGraph:
    """A session on a graph's file that computes on the weights as the file is mapped, with no copy of its own."""

    def __init__(self, file: Path, operators: Path | None) -> None:
        ort = import_onnxruntime("cpu")
        options = session_options(ort, available_cpus(), "basic", operators)
        # It grows by doubling, and a graph in the making runs a few hundred times at most.
        options.enable_cpu_mem_arena = False
        # Matrices laid out anew would be that copy.
        options.add_session_config_entry("session.disable_prepacking", "1")
        self._session: Any = opened_session(ort, file, options, ["CPUExecutionProvider"])

    def run(self, feeds: Feeds, outputs: Sequence[str]) -> list[NDArray[np.float32]]:
        """Computes the named outputs."""
        results: list[NDArray[np.float32]] = self._session.run(list(outputs), feeds)
        return results


@contextmanager
def opened(model: ir.Model) -> Iterator[RunningGraph]:
    """The graph as it is, ready to run on the CPUs this process may use."""
    operators = library() if DOMAIN in model.graph.opset_imports else None
    with scratch("graph") as folder:
        write_beside(model, folder / "graph.onnx")
        yield RunningGraph(folder / "graph.onnx", operators)


def why_no_gpu() -> str:
    """Why no graph can run on a GPU here, tried with the smallest one; empty where it can."""
    x, y = (ir.val(name, ir.DataType.FLOAT, ["batch"]) for name in ("x", "y"))
    graph = ir.Graph([x], [y], nodes=[ir.node("Neg", [x], outputs=[y])], opset_imports={"": 20})
    with scratch("graph") as folder:
        write_model(ir.Model(graph, ir_version=10), folder / "graph.onnx")
        try:
            CudaEngine(folder / "graph.onnx", Device(CUDA), "basic")
        except StcompileError as error:
            return str(error)
    return ""
