"""Networks in OpenVINO's format that NNCF rewrote: which layers they have, and layers put back in more precision.

An operation is known by its friendly name, which is its ONNX node's, in every copy of a network.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stcompile.compiler.quantize.candidates import Candidate

# What only moves numbers.
_MOVES = frozenset(
    ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Convert", "Split", "VariadicSplit", "Slice", "StridedSlice")
)

# How a weight of few bits becomes numbers.
_RESTORES = frozenset(("Multiply", "Subtract"))

_FOUR_BITS = ("u4", "i4")
_FEW_BITS = (*_FOUR_BITS, "u8", "i8")

_OPSET = "openvino.opset13"


@dataclass(frozen=True)
class Layer:
    """What is computed in fewer bits, or not, together.

    Attributes:
        name: what the model calls its weights.
        multiplications: of one token.
        operations: what multiplies.
        quantizers: what rounds for it.
        options: what it may be, the cheapest first.
    """

    name: str
    multiplications: int
    operations: tuple[str, ...]
    quantizers: frozenset[str]
    options: tuple[Candidate, ...]


def quantized_layers(network: Any, names: Mapping[str, str], options: tuple[Candidate, ...]) -> list[Layer]:
    """The layers that quantizers lead to, in the network's order; those that share one are one.

    Args:
        network: with a FakeQuantize in front of everything that is rounded.
        names: of what multiplies by a weight, the layer's name.
        options: of each.
    """
    found: dict[str, Layer] = {}
    for operation in _named(network, names):
        name, quantizers = names[operation.get_friendly_name()], frozenset(_quantizers(operation))
        known = [layer for layer in found.values() if layer.name == name or layer.quantizers & quantizers]
        if not quantizers:
            continue
        for layer in known:
            del found[layer.name]
        called = ", ".join(dict.fromkeys([*(layer.name for layer in known), name]))
        found[called] = Layer(
            called,
            sum(layer.multiplications for layer in known) + _weight_size(operation),
            (*(item for layer in known for item in layer.operations), operation.get_friendly_name()),
            quantizers.union(*(layer.quantizers for layer in known)),
            options,
        )
    return list(found.values())


def weight_layers(
    network: Any, names: Mapping[str, str], four: tuple[Candidate, ...], eight: tuple[Candidate, ...]
) -> list[Layer]:
    """The layers by what they may be: `four` where NNCF gave 4 bits to all of what they multiply by, else `eight`."""
    found: dict[str, Layer] = {}
    for operation in _named(network, names):
        name, constant = names[operation.get_friendly_name()], stored(operation.input_value(1))
        known = found.get(name, Layer(name, 0, (), frozenset(), four))
        found[name] = Layer(
            name,
            known.multiplications + _weight_size(operation),
            (*known.operations, operation.get_friendly_name()),
            frozenset(),
            known.options if constant.get_element_type().get_type_name() in _FOUR_BITS else eight,
        )
    return list(found.values())


def take_out(network: Any, quantizers: set[str]) -> None:
    """Leaves some quantizers out, in place: what they round is read as it is."""
    for operation in network.get_ordered_ops():
        if operation.get_friendly_name() in quantizers:
            _replace(operation, operation.input_value(0))


def store_levels(network: Any) -> None:
    """Makes weights behind a quantizer its levels, in place: what NNCF ends with, which has no public name."""
    importlib.import_module("openvino._offline_transformations").compress_quantize_weights_transformation(network)


def turn_weights(network: Any, names: Mapping[str, str]) -> None:
    """Makes weights `(out, in)`, in place.

    Of others NNCF 3.4 refuses GPTQ, and makes scales that are the bits of what they should be.
    """
    opset = importlib.import_module(_OPSET)
    known: dict[str, Any] = {}
    for operation in list(_named(network, names)):
        weight = operation.input_value(1).get_node()
        if operation.get_attributes()["transpose_b"] or weight.get_type_name() != "Constant":
            continue
        # One that several layers share stays one.
        turned = known.get(weight.get_friendly_name())
        if turned is None:
            turned = known[weight.get_friendly_name()] = opset.constant(np.ascontiguousarray(weight.data.T))
            turned.set_friendly_name(f"{operation.get_friendly_name()}_weight")
        product = opset.matmul(operation.input_value(0), turned, transpose_a=False, transpose_b=True)
        _replace(operation, product.output(0))
        product.set_friendly_name(operation.get_friendly_name())


def give_back_weights(network: Any, exact: Any, operations: set[str]) -> None:
    """Lets some operations multiply by what they multiply by in another network, in place."""
    opset = importlib.import_module(_OPSET)
    weights = {item.get_friendly_name(): stored(item.input_value(1)).data for item in _named(exact, operations)}
    for operation in list(_named(network, operations)):
        weight = opset.constant(np.ascontiguousarray(weights[operation.get_friendly_name()]))
        operation.input(1).replace_source_output(weight.output(0))


def is_large_table(operation: Any, rows: int) -> bool:
    """Whether an operation looks up in a constant matrix of so many rows at least, and of several columns."""
    if operation.get_type_name() != "Gather" or stored(operation.input_value(0)).get_type_name() != "Constant":
        return False
    shape = list(operation.input_value(0).get_shape())
    return len(shape) == 2 and shape[0] >= rows and shape[1] > 1


def small_tables(network: Any) -> int:
    """Tables of embeddings in few bits."""
    return sum(item.get_type_name() == "Gather" and _in_few_bits(item.input_value(0)) for item in network.get_ops())


def other_scales(network: Any) -> set[str]:
    """Types of the scales of its weights of few bits that are not float16."""
    scales = {
        stored(item.input_value(1)).get_element_type().get_type_name()
        for item in network.get_ops()
        if item.get_type_name() == "Multiply" and _in_few_bits(item.input_value(0))
    }
    return scales - {"f16"}


def stored(value: Any) -> Any:
    """The constant that a weight, a table or a scale is made of; what computes it where there is none."""
    operation = value.get_node()
    while operation.get_type_name() in _MOVES | _RESTORES:
        operation = operation.input_value(0).get_node()
    return operation


def _named(network: Any, names: Mapping[str, str] | set[str]) -> Iterator[Any]:
    return (item for item in network.get_ordered_ops() if item.get_friendly_name() in names)


def _quantizers(operation: Any) -> Iterator[str]:
    """Names of what rounds the operation's inputs."""
    for value in operation.input_values():
        source = value.get_node()
        while source.get_type_name() in _MOVES:
            source = source.input_value(0).get_node()
        if source.get_type_name() == "FakeQuantize":
            yield source.get_friendly_name()


def _weight_size(operation: Any) -> int:
    shape = operation.input_value(1).get_shape()
    return int(np.prod(shape))


def _in_few_bits(value: Any) -> bool:
    source = stored(value)
    return source.get_type_name() == "Constant" and source.get_element_type().get_type_name() in _FEW_BITS


def _replace(operation: Any, value: Any) -> None:
    for target in operation.output(0).get_target_inputs():
        target.replace_source_output(value)
