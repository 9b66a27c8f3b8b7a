"""A graph that is still being made, run to see what it computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx_ir as ir

from stcompile.artifact import scratch
from stcompile.errors import StcompileError
from stcompile.native import DOMAIN
from stcompile.runtime.cpus import available_cpus
from stcompile.runtime.device import CUDA, Device
from stcompile.runtime.engines.onnxruntime import OnnxRuntimeEngine
from stcompile.runtime.engines.onnxruntime_cuda import CudaEngine
from stcompile.trace.serialize import write_graphs


@contextmanager
def opened(model: ir.Model) -> Iterator[OnnxRuntimeEngine]:
    """The graph as it is, ready to run on the CPUs this process may use."""
    native = DOMAIN in model.graph.opset_imports
    with _written(model) as file:
        yield OnnxRuntimeEngine(file, available_cpus(), "basic", native=native)


def why_no_gpu() -> str:
    """Why no graph can run on a GPU here, tried with the smallest one; empty where it can."""
    x, y = (ir.val(name, ir.DataType.FLOAT, ["batch"]) for name in ("x", "y"))
    node = ir.node("Neg", [x], outputs=[y])
    with _written(ir.Model(ir.Graph([x], [y], nodes=[node], opset_imports={"": 20}), ir_version=10)) as file:
        try:
            CudaEngine(file, Device(CUDA), "basic")
        except StcompileError as error:
            return str(error)
    return ""


@contextmanager
def _written(model: ir.Model) -> Iterator[Path]:
    """The graph's file, for as long as it is needed."""
    with scratch("graph") as folder:
        (spec,) = write_graphs({"": model}, folder)
        yield folder / spec.file
