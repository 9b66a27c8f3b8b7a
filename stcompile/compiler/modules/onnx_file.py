"""A network as an ONNX file: its weights by name, and the graph in ONNX Runtime."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from stcompile.compiler.modules.graph_file import RunningGraph, module_of
from stcompile.errors import ArtifactError, ModelFolderError, one_line
from stcompile.kernels.cpu_features import adds_int8_products
from stcompile.runtime.cpus import available_cpus
from stcompile.runtime.engines.onnxruntime import UNSATURATED, session_options
from stcompile.runtime.engines.sessions import import_onnxruntime, opened

# Operators that only a graph has whose weights were rounded.
_ROUNDED = frozenset(
    (
        *("MatMulInteger", "ConvInteger", "QLinearMatMul", "DequantizeLinear", "DynamicQuantizeMatMul", "QAttention"),
        *("MatMulNBits", "MatMulIntegerToFloat", "QGemm", "GatherBlockQuantized", "MatMulBnb4", "QLinearConv"),
        "QEmbedLayerNormalization",
    )
)

# What torch's newer exporter writes beside a node: the modules that it is in, from the outside in.
_SCOPES = "pkg.torch.onnx.name_scopes"


class OnnxFile:
    """See `GraphFile`."""

    engine = "ONNX Runtime"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._model = read_onnx(path)
        self._nodes = list(self._model.graph)
        bodies = (function.all_nodes() for function in self._model.functions.values())
        every = itertools.chain(self._model.graph.all_nodes(), *bodies)
        self.operators = frozenset(node.op_type for node in every)
        beside = {str(tensor.path) for _, tensor in _external(self._model)}
        self.files = (path, *map(Path, sorted(beside)))
        self.rounded = tuple(sorted(self.operators & _ROUNDED))
        initializers = self._model.graph.initializers.values()
        self.is_half = any(value.dtype == ir.DataType.FLOAT16 for value in initializers)

    @property
    def outputs(self) -> list[str]:
        """See `GraphFile`."""
        return [str(value.name) for value in self._model.graph.outputs]

    def arrays(self) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """See `GraphFile`: initializers by their own names, and linear layers' by the module of what reads them."""
        for name, value in self._model.graph.initializers.items():
            if value.const_value is not None and value.dtype in (ir.DataType.FLOAT, ir.DataType.FLOAT16):
                yield name, _array(value)
        for node in self._nodes:
            if node.op_type not in ("MatMul", "Gemm") or len(node.inputs) < 2:
                continue
            weight = node.inputs[1]
            if weight is None or weight.const_value is None or len(weight.shape or ()) != 2:
                continue
            place = _module_of(node)
            if place:
                is_turned = node.op_type == "Gemm" and node.attributes.get_int("transB", 0) == 1
                yield f"{place}.weight", _array(weight) if is_turned else _array(weight).T

    def open(self) -> RunningGraph:
        """See `GraphFile`."""
        return _Running(self._path)


class _Running:
    """See `RunningGraph`."""

    def __init__(self, path: Path) -> None:
        ort = import_onnxruntime("cpu")
        # Its numbers, not what sums of 8-bit products are on a CPU where they do not fit.
        level = UNSATURATED if adds_int8_products() is False else "all"
        options = session_options(ort, available_cpus(), level, None)
        try:
            self._session = opened(ort, path, options, ["CPUExecutionProvider"])
        except ArtifactError as error:
            raise ModelFolderError(f"{path.name}: {error}") from error
        # Some exporters take token ids in int32.
        self._types = {
            str(value.name): np.int32 if "int32" in value.type else np.int64 for value in self._session.get_inputs()
        }
        self.inputs = [*self._types]

    def run(self, output: str, feeds: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        """See `RunningGraph`."""
        (made,) = self._session.run([output], {name: feeds[name].astype(kind) for name, kind in self._types.items()})
        result: NDArray[np.float32] = np.asarray(made, dtype=np.float32)
        return result


def read_onnx(path: Path) -> ir.Model:
    """A graph, whose weights outside of it lie beside it.

    Links are followed: whoever reads the folder has looked where they lead, and files of the hub's cache are links.

    Raises:
        ModelFolderError: it cannot be read, or its weights are said to lie elsewhere.
    """
    try:
        model = ir.load(path)
    except Exception as error:  # of protobuf, and of files that are missing beside it
        raise ModelFolderError(f"{path} cannot be read ({one_line(error, 200)}): copy the model again") from error
    for value, tensor in _external(model):
        place = PurePath(str(tensor.location))
        if place.is_absolute() or ".." in place.parts:
            raise ModelFolderError(f"{path} reads weights from {place}, which is outside the folder: do not use it")
        value.const_value = ir.ExternalTensor(
            str((path.parent / place).resolve()),
            tensor.offset,
            tensor.length,
            tensor.dtype,
            shape=tensor.shape,
            name=str(tensor.name),
        )
    return model


def _external(model: ir.Model) -> Iterator[tuple[ir.Value, ir.ExternalTensor]]:
    for value in model.graph.initializers.values():
        if isinstance(value.const_value, ir.ExternalTensor):
            yield value, value.const_value


def _array(value: ir.Value) -> NDArray[np.float32]:
    assert value.const_value is not None
    return value.const_value.numpy().astype(np.float32)


def _module_of(node: ir.Node) -> str:
    """The module of torch that a node is of; empty where it does not say."""
    scopes = node.metadata_props.get(_SCOPES)
    if not scopes:
        return module_of(str(node.name or ""))
    try:
        inside: Any = ast.literal_eval(scopes)
    except (ValueError, SyntaxError):
        return ""
    modules = [name for name in inside[:-1] if name] if isinstance(inside, list) else []
    return str(modules[-1]) if modules else ""
