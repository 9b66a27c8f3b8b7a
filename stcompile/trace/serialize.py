"""An `onnx_ir.Model` to a file, with its weights outside above protobuf's 2 GB."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import onnx_ir as ir

from stcompile.manifest import GraphSpec, TensorSpec

GRAPH_FILE = "model.onnx"
EXTERNAL_FILE = "model.onnx.data"

# protobuf refuses messages of 2 GiB; the margin is for everything that is not a weight.
EXTERNAL_ABOVE = (2 << 30) - (64 << 20)

_PRODUCER = "stcompile"


def write_graph(model: ir.Model, folder: Path) -> GraphSpec:
    """Writes the graph into `folder` and describes it.

    Args:
        model: the finished graph.
        folder: an existing folder.

    Returns:
        the manifest's description of the graph.
    """
    model.producer_name, model.producer_version, model.doc_string = _PRODUCER, None, None
    weights = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
    external = EXTERNAL_FILE if weights > EXTERNAL_ABOVE else None
    ir.save(model, folder / GRAPH_FILE, external_data=external)
    return GraphSpec(
        route="",
        file=GRAPH_FILE,
        external_data=external,
        opset=model.graph.opset_imports[""],
        inputs=_specs(model.graph.inputs),
        outputs=_specs(model.graph.outputs),
    )


def _specs(values: Iterable[ir.Value]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            name=str(value.name),
            dtype=str(value.dtype.numpy()) if value.dtype is not None else "float32",
            axes=tuple(_axis(dim) for dim in value.shape or ()),
        )
        for value in values
    )


def _axis(dim: int | ir.SymbolicDim) -> str:
    return str(dim) if isinstance(dim, int) else str(dim.value)
