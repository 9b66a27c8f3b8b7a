"""A graph that is still being made, run to see what it computes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx_ir as ir

from stcompile.native import DOMAIN
from stcompile.runtime.cpus import available_cpus
from stcompile.runtime.engines.onnxruntime import OnnxRuntimeEngine
from stcompile.trace.serialize import write_graphs


@contextmanager
def opened(model: ir.Model) -> Iterator[OnnxRuntimeEngine]:
    """The graph as it is, ready to run on the CPUs this process may use."""
    with tempfile.TemporaryDirectory(prefix="stcompile-graph-") as folder:
        (spec,) = write_graphs({"": model}, Path(folder))
        native = DOMAIN in model.graph.opset_imports
        yield OnnxRuntimeEngine(Path(folder) / spec.file, available_cpus(), "basic", native=native)
