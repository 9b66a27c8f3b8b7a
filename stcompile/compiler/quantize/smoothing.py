"""SmoothQuant in a graph: a tensor divided channel by channel; the weights that read it come multiplied."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from stcompile.compiler.passes.constants import added, constant_named
from stcompile.compiler.passes.graph import constant, is_op
from stcompile.compiler.quantize.layers import Layer

Array = NDArray[np.float32]


def smoothed_input(graph: ir.Graph, layer: Layer, smoothing: Array | None) -> ir.Value:
    """The tensor the layer reads, divided.

    Where nothing else reads what a norm makes (networks that normalize before each layer), the division goes into the
    norm's own weight and costs nothing; otherwise it is a multiplication in front of the layer.
    """
    if smoothing is None:
        return layer.data
    factor = (1 / smoothing).astype(np.float32)
    if _only_reader(layer) and _folded_into_norm(graph, layer.data, factor):
        return layer.data
    name = f"{layer.data.name}_smoothed"
    return added(graph, layer.nodes[0], "Mul", [layer.data, constant_named(graph, f"{name}_by", factor)], name)


def _only_reader(layer: Layer) -> bool:
    return not layer.data.is_graph_output() and {use.node for use in layer.data.uses()} == set(layer.nodes)


def _folded_into_norm(graph: ir.Graph, data: ir.Value, factor: Array) -> bool:
    producer = data.producer()
    if is_op(producer, "LayerNormalization") and producer is not None:
        places = [index for index in range(1, len(producer.inputs)) if producer.inputs[index] is not None]
    elif is_op(producer, "Mul") and producer is not None:
        # What a norm without a mean ends with
        places = [index for index in (0, 1) if constant(producer.inputs[index]) is not None]
    else:
        return False
    assert producer is not None
    arrays = [constant(producer.inputs[index]) for index in places]
    if not arrays or any(array is None or array.shape != factor.shape for array in arrays):
        return False
    for index, array in zip(places, arrays, strict=True):
        value = producer.inputs[index]
        assert value is not None
        assert array is not None
        product = array.astype(np.float32) * factor
        producer.replace_input_with(index, constant_named(graph, f"{value.name}_for_{data.name}", product))
    return True
