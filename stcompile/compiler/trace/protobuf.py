"""A model as protobuf without a second copy of its weights: neither in one message nor in one string of bytes.

A serialized message is its fields one after the other, so the small parts are made by the protobuf library and the
weights written between them from the memory they lie in. The bytes are those that `onnx.save` writes.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
import onnx
import onnx_ir as ir

# Fields of the messages in onnx.proto that hold others, or a weight.
_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9

_NUMBERS = 1 << 29  # of fields, at most

_LENGTH_DELIMITED = 2  # wire type of messages and bytes

# Weights below stay in the messages.
LARGE = 1024

# What maps a file begins a mapping at one.
_PAGE = 4096

Message = TypeVar("Message", onnx.ModelProto, onnx.GraphProto, onnx.TensorProto)


def _hollow(model: ir.Model) -> tuple[onnx.ModelProto, dict[str, ir.TensorProtocol]]:
    """The model as a message whose large weights name an external file that is nowhere, and those weights by name.

    What is external already stays so. The model is left as it was.
    """
    weights = {
        str(value.name): value.const_value
        for value in model.graph.initializers.values()
        if value.const_value is not None
        and value.const_value.nbytes >= LARGE
        and not isinstance(value.const_value, ir.ExternalTensor | ir.StringTensor)
    }
    values = model.graph.initializers
    try:
        for name, tensor in weights.items():
            values[name].const_value = ir.ExternalTensor(
                "nowhere", 0, tensor.nbytes, tensor.dtype, shape=ir.Shape(tensor.shape.numpy()), name=name, base_dir=""
            )
        return ir.to_proto(model), weights
    finally:
        for name, tensor in weights.items():
            values[name].const_value = tensor


def write_model(model: ir.Model, path: Path) -> None:
    """Writes a model to one file, weight by weight."""
    message, weights = _hollow(model)
    pieces = [_Piece(tensor, weights.get(tensor.name)) for tensor in message.graph.initializer]
    message.graph.ClearField("initializer")
    before, after = _split(message.graph, _INITIALIZER)
    inner = len(before) + sum(_framed(_INITIALIZER, piece.size) for piece in pieces) + len(after)
    outer_before, outer_after = _split(message, _GRAPH)
    with path.open("wb") as stream:
        stream.write(outer_before + _head(_GRAPH, inner) + before)
        for piece in pieces:
            stream.write(_head(_INITIALIZER, piece.size))
            piece.write(stream)
        stream.write(after + outer_after)


def write_beside(model: ir.Model, path: Path) -> None:
    """Writes a model whose large weights are in a second file, from where an engine maps them as it reads them."""
    message, weights = _hollow(model)
    beside = path.with_name(f"{path.name}.data")
    with beside.open("wb") as stream:
        for tensor in message.graph.initializer:
            if tensor.name not in weights:
                continue
            stream.write(b"\0" * (-stream.tell() % _PAGE))
            place = {"location": beside.name, "offset": stream.tell(), "length": weights[tensor.name].nbytes}
            tensor.ClearField("external_data")
            for key, value in place.items():
                tensor.external_data.add(key=key, value=str(value))
            _write(weights[tensor.name], stream)
    path.write_bytes(message.SerializeToString())


class _Piece:
    """One initializer: what is before its weight, the weight, and what is behind it."""

    def __init__(self, message: onnx.TensorProto, weight: ir.TensorProtocol | None) -> None:
        self._weight = weight
        if weight is not None:
            message.ClearField("data_location")
            message.ClearField("external_data")
        before, after = (message.SerializeToString(), b"") if weight is None else _split(message, _RAW_DATA)
        data = 0 if weight is None else weight.nbytes
        self._before, self._after = before + (b"" if weight is None else _head(_RAW_DATA, data)), after
        self.size = len(self._before) + data + len(after)

    def write(self, stream: BinaryIO) -> None:
        stream.write(self._before)
        if self._weight is not None:
            _write(self._weight, stream)
        stream.write(self._after)


def _write(weight: ir.TensorProtocol, stream: BinaryIO) -> None:
    # A turned view would be written number by number.
    ir.Tensor(np.ascontiguousarray(weight.numpy()), dtype=weight.dtype).tofile(stream)


def _split(message: Message, at: int) -> tuple[bytes, bytes]:
    """The serialized fields numbered below and above one that is left out."""
    parts = []
    for kept in (range(at), range(at + 1, _NUMBERS)):
        part: Message = type(message)()
        part.CopyFrom(message)
        for field in type(message).DESCRIPTOR.fields:
            if field.number not in kept:
                part.ClearField(field.name)
        parts.append(part.SerializeToString())
    return parts[0], parts[1]


def _framed(field: int, size: int) -> int:
    return len(_head(field, size)) + size


def _head(field: int, size: int) -> bytes:
    """Tag and length of a field that holds so many bytes."""
    return _varint(field << 3 | _LENGTH_DELIMITED) + _varint(size)


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])
