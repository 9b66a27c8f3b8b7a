"""Small graphs around one layer, what makes its input, and how a graph is run without an optimizer."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime as ort
from onnx_ir.passes.common import ShapeInferencePass

from stcompile.compiler.quantize.candidates import FLOAT32, Candidate
from stcompile.compiler.quantize.layers import Layer, find_layers
from stcompile.compiler.quantize.plan import LayerPlan
from stcompile.compiler.quantize.weights import quantize_blocks, quantize_columns

Array = npt.NDArray[np.float32]

WIDTH, OUT = 12, 6

_RNG = np.random.default_rng(11)
WEIGHT = _RNG.standard_normal((WIDTH, OUT)).astype(np.float32)
OTHER_WEIGHT = _RNG.standard_normal((WIDTH, OUT + 2)).astype(np.float32)
BIAS = _RNG.standard_normal(OUT).astype(np.float32)
NORM_WEIGHT = (1 + 0.3 * _RNG.standard_normal(WIDTH)).astype(np.float32)
NORM_BIAS = _RNG.standard_normal(WIDTH).astype(np.float32)
# A divisor a channel, as SmoothQuant finds them: of geometric mean 1
SMOOTHING = np.exp(np.linspace(-1, 1, WIDTH)).astype(np.float32)[_RNG.permutation(WIDTH)]

ARRAYS: Mapping[str, npt.NDArray[Any]] = {
    "weight": WEIGHT,
    "other_weight": OTHER_WEIGHT,
    "bias": BIAS,
    "norm_weight": NORM_WEIGHT,
    "norm_bias": NORM_BIAS,
}

# What makes the layer's input of x, and the same in numpy.
PRODUCERS = {
    "": "data = Identity(x)",
    "LayerNormalization": "data = LayerNormalization<axis = -1, epsilon = 0.000001>(x, norm_weight, norm_bias)",
    "LayerNormalization without bias": "data = LayerNormalization<axis = -1, epsilon = 0.000001>(x, norm_weight)",
    "Mul": "data = Mul(norm_weight, x)",
    "Gelu": "data = Gelu(x)",
    "Relu": "data = Relu(x)",
}


def produced(producer: str, x: Array) -> Array:
    """The layer's input, in float64 until the end."""
    wide = x.astype(np.float64)
    if producer.startswith("LayerNormalization"):
        centred = wide - wide.mean(axis=-1, keepdims=True)
        wide = centred / np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + 1e-6) * NORM_WEIGHT
        wide = wide if producer.endswith("without bias") else wide + NORM_BIAS
    elif producer == "Mul":
        wide = wide * NORM_WEIGHT
    elif producer == "Gelu":
        wide = wide * 0.5 * (1 + np.vectorize(math.erf)(wide / math.sqrt(2)))
    elif producer == "Relu":
        wide = np.maximum(wide, 0)
    found: Array = wide.astype(np.float32)
    return found


def parsed(text: str, **arrays: npt.NDArray[Any]) -> ir.Model:
    """A graph written as ONNX text, with its shapes inferred; arrays that it names are its initializers."""
    known = {**ARRAYS, **arrays}
    named = [ir.tensor(array.copy(), name=name) for name, array in known.items() if re.search(rf"\b{name}\b", text)]
    model = ShapeInferencePass()(ir.from_onnx_text(text, named)).model
    for index, node in enumerate(model.graph):
        # as the passes leave it: every node has a name of its own
        node.name = f"n{index}"
    return model


def layer_graph(
    producer: str = "", *, rank: int = 3, biased: bool = True, nodes: str = "", outputs: str = ""
) -> ir.Model:
    """x -> producer -> MatMul (-> Add) -> out, and more nodes and outputs in front of what follows.

    Args:
        producer: one of `PRODUCERS`.
        rank: of x.
        biased: whether there is an Add.
        nodes: more of them, which may read `data`.
        outputs: more of them.
    """
    rows = {2: "batch", 3: "batch, sequence", 4: "batch, heads, sequence"}[rank]
    last = "product = MatMul(data, weight)\nout = Add(product, bias)" if biased else "out = MatMul(data, weight)"
    return parsed(f"""
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[{rows}, {WIDTH}] x) => (float[{rows}, {OUT}] out{outputs}) {{
            {PRODUCERS[producer]}
            {nodes}
            {last}
        }}
    """)


def only(model: ir.Model) -> Layer:
    """The graph's one layer."""
    (layer,) = find_layers(model.graph)
    return layer


def planned(layer: Layer, scheme: str, *, smoothing: Array | None = None, **known: Any) -> LayerPlan:
    """A plan whose weights are each rounded to the nearest level, smoothed as it says.

    Args:
        layer: the layer.
        scheme: the candidate's.
        smoothing: the divisor of each input channel.
        known: more fields of the candidate.
    """
    chosen = Candidate(scheme, **known)
    divisor = np.ones(len(layer.weights[0]), np.float32) if smoothing is None else smoothing
    matrices = [weight * divisor[:, np.newaxis] for weight in layer.weights]
    if scheme == FLOAT32:
        return LayerPlan(layer, chosen)
    if chosen.block:
        blocks = tuple(quantize_blocks(matrix, chosen.bits, chosen.block) for matrix in matrices)
        return LayerPlan(layer, chosen, smoothing, blocks)
    return LayerPlan(layer, chosen, smoothing, tuple(quantize_columns(matrix) for matrix in matrices))


def run(model: ir.Model, **feeds: npt.NDArray[Any]) -> list[Array]:
    """All outputs of a graph, unoptimized: the engine must not repair what a recipe wrote."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    content = ir.to_proto(model).SerializeToString()
    found: list[Array] = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"]).run(None, feeds)
    return found


def operators(model: ir.Model) -> list[str]:
    """The graph's operators, in order."""
    return [node.op_type for node in model.graph]


def states(model: ir.Model) -> tuple[list[str], list[str], list[str], dict[str, bytes]]:
    """What a graph is: inputs, outputs, nodes and the bytes of its initializers."""
    graph = model.graph
    weights = {name: value.const_value for name, value in graph.initializers.items()}
    return (
        [repr(value) for value in graph.inputs],
        [repr(value) for value in graph.outputs],
        [repr(node) for node in graph],
        {str(name): b"" if tensor is None else tensor.tobytes() for name, tensor in weights.items()},
    )
