"""`onnx_ir.Model`s to files: weights outside above protobuf's 2 GB, and once where several graphs share them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx_ir as ir

from stcompile.artifact.manifest import TEXT, GraphSpec, TensorSpec
from stcompile.compiler.trace.protobuf import write_model

GRAPH_FILE = "model.onnx"
EXTERNAL_FILE = "model.onnx.data"
SHARED_FILE = "weights.data"

# protobuf refuses messages of 2 GiB; the margin is for everything that is not a weight.
EXTERNAL_ABOVE = (2 << 30) - (64 << 20)

# Smaller tensors stay in each graph: a reference to another file would take as much room.
_SHARED_FROM = 1024
_ALIGNMENT = 64

_PRODUCER = "stcompile"


def write_graphs(models: Mapping[str, ir.Model], folder: Path) -> tuple[GraphSpec, ...]:
    """Writes the finished graph of each route into an existing folder; equal weights of several graphs are stored once.

    Returns:
        the manifest's descriptions, in order.
    """
    if len(models) == 1:
        ((route, model),) = models.items()
        weights = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
        external = EXTERNAL_FILE if weights > EXTERNAL_ABOVE else None
        _stamp(model)
        if external is None:
            write_model(model, folder / GRAPH_FILE)
        else:
            ir.save(model, folder / GRAPH_FILE, external_data=external)
        return (described(route, model, GRAPH_FILE, external),)
    with (folder / SHARED_FILE).open("wb") as stream:
        shared = _SharedWeights(stream, folder)
        for model in models.values():
            _stamp(model)
            shared.take(model.graph)
    specs = []
    for index, (route, model) in enumerate(models.items()):
        file = f"model-{index}-{re.sub(r'[^A-Za-z0-9_]+', '_', route or TEXT)[:40]}.onnx"
        write_model(model, folder / file)
        specs.append(described(route, model, file, SHARED_FILE))
    return tuple(specs)


class _SharedWeights:
    """One file that holds every weight of several graphs once."""

    def __init__(self, stream: BinaryIO, folder: Path) -> None:
        self._stream = stream
        self._folder = folder
        self._places: dict[bytes, int] = {}

    def take(self, graph: ir.Graph) -> None:
        """Moves a graph's larger weights into the file."""
        for value in graph.initializers.values():
            tensor = value.const_value
            if tensor is None or tensor.nbytes < _SHARED_FROM:
                continue
            data = np.ascontiguousarray(tensor.numpy())
            value.const_value = ir.ExternalTensor(
                SHARED_FILE,
                self._place(data.reshape(-1).view(np.uint8).data),
                data.nbytes,
                tensor.dtype,
                shape=ir.Shape(data.shape),
                name=str(value.name),
                base_dir=self._folder,
            )

    def _place(self, data: memoryview) -> int:
        key = hashlib.sha256(data).digest()
        if key not in self._places:
            self._stream.write(b"\0" * (-self._stream.tell() % _ALIGNMENT))
            self._places[key] = self._stream.tell()
            self._stream.write(data)
        return self._places[key]


def _stamp(model: ir.Model) -> None:
    model.producer_name, model.producer_version, model.doc_string = _PRODUCER, None, None


def described(route: str, model: ir.Model, file: str, external: str | None) -> GraphSpec:
    """What the manifest says of a graph in a file, with weights outside it where there are such."""
    return GraphSpec(route, file, external, _specs(model.graph.inputs), _specs(model.graph.outputs))


def _specs(values: Iterable[ir.Value]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            name=str(value.name),
            dtype=str(value.dtype.numpy()) if value.dtype is not None else "float32",
            axes=tuple(str(dim if isinstance(dim, int) else dim.value) for dim in value.shape or ()),
        )
        for value in values
    )
