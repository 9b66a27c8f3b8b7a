"""A network as OpenVINO's `.xml` with its `.bin`: its weights by name, and the graph in OpenVINO."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcompile.compiler.modules.graph_file import RunningGraph, module_of, without_leading_ones
from stcompile.errors import ModelFolderError, one_line
from stcompile.runtime.engines.openvino import import_openvino

_FLOATS = ("f32", "f16", "bf16")
_ROUNDED = ("i8", "u8", "i4", "u4", "nf4", "f8e4m3", "f8e5m2", "f4e2m1")

# Smaller constants of these types are numbers of a graph's arithmetic.
_SOME_WEIGHTS = 1024

# What stands in front of the names of parameters and of modules where OpenVINO read a network of torch.
_PARAMETER, _MODULE, _OPERATION = "self.", "__module.", "/aten::"

# What a constant is of its module, by what reads it.
_READERS = {"MatMul": "weight", "Multiply": "weight", "Add": "bias"}


class OpenVinoFile:
    """See `GraphFile`."""

    engine = "OpenVINO"

    def __init__(self, path: Path) -> None:
        self._openvino = import_openvino("Reading OpenVINO's files")
        self._path = path
        try:
            self._model: Any = self._openvino.Core().read_model(str(path))
        except Exception as error:  # RuntimeError and others of its own
            raise ModelFolderError(
                f"{path} cannot be read with its {path.with_suffix('.bin').name} ({one_line(error, None)[-200:]}): "
                "copy the model again"
            ) from error
        self.files: tuple[Path, ...] = (path, path.with_suffix(".bin"))
        nodes = self._model.get_ordered_ops()
        self.operators = frozenset(node.get_type_name() for node in nodes)
        self._constants = [node for node in nodes if node.get_type_name() == "Constant"]
        large = [node for node in self._constants if np.prod(node.get_output_shape(0)) >= _SOME_WEIGHTS]
        types = {node.get_element_type().get_type_name() for node in large}
        self.rounded = (*sorted(types.intersection(_ROUNDED)), *sorted(self.operators & {"FakeQuantize"}))
        self.is_half = not types.isdisjoint(("f16", "bf16"))

    @property
    def outputs(self) -> list[str]:
        """See `GraphFile`."""
        return [str(item.get_any_name()) for item in self._model.outputs]

    def arrays(self) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """See `GraphFile`: constants by their own names, and by the module of what reads them."""
        for constant in self._constants:
            if constant.get_element_type().get_type_name() not in _FLOATS or not len(constant.get_output_shape(0)):
                continue
            values = constant.get_data(dtype=np.float32)
            for node in (constant, *_made_float32(constant)):
                # Of a constant in float16 it is the node behind that has the parameter's name.
                yield node.get_friendly_name().removeprefix(_PARAMETER), values
                for reader in _readers(node):
                    kind = _READERS.get(reader.get_type_name())
                    if kind is not None:
                        is_turned = reader.get_type_name() == "MatMul" and not reader.get_attributes()["transpose_b"]
                        yield f"{_module_of(reader)}.{kind}", values.T if is_turned else without_leading_ones(values)

    def open(self) -> RunningGraph:
        """See `GraphFile`."""
        return _Running(self._openvino, self._path, self._model)


class _Running:
    """See `RunningGraph`."""

    def __init__(self, openvino: Any, path: Path, model: Any) -> None:
        options = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
        try:
            self._model: Any = openvino.Core().compile_model(model, "CPU", options)
        except Exception as error:  # RuntimeError and others of its own
            reason = one_line(error, None)[-200:]
            raise ModelFolderError(f"{path.name} does not run in OpenVINO ({reason}): copy the model again") from error
        self.inputs = [str(item.get_any_name()) for item in self._model.inputs]

    def run(self, output: str, feeds: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        """See `RunningGraph`."""
        return np.array(self._model(dict(feeds))[output], dtype=np.float32)


def _readers(node: Any) -> list[Any]:
    return [target.get_node() for target in node.output(0).get_target_inputs()]


def _made_float32(constant: Any) -> list[Any]:
    return [node for node in _readers(constant) if node.get_type_name() == "Convert"]


def _module_of(node: Any) -> str:
    """The module of torch that a node is of, also where OpenVINO read a file of ONNX."""
    name = str(node.get_friendly_name())
    return name.removeprefix(_MODULE).partition(_OPERATION)[0] if name.startswith(_MODULE) else module_of(name)
