"""float16 or bfloat16 for GPUs: weights and the heavy operators in 16 bits, the delicate ones in float32.

Inputs and outputs of the graph keep their types. These stay in float32:

- Sums over the sequence, powers, and norms from the squares to the multiplication with their root: in float16 a mean
  of squares overflows where the root mean square is 256, and the 1e-12 of Normalize does not exist.
- What is made of positions alone, like the angles of rotary embeddings and the buckets of relative positions: above
  2048 float16 does not even count, and an angle of 500 is off by a quarter.
- softmax, where it is an operator of its own: its sum has as many terms as a text has tokens.

bfloat16 has the range of float32 and an eighth of float16's precision. It is for networks whose values pass 65,504, as
the residual stream of Gemma does; which operators compute in it is the same. ONNX Runtime has a CUDA kernel of each for
both from 1.24 on.

`onnxruntime.transformers.float16` tells operators apart by name, which does not say whether an Add is a residual or the
epsilon of a norm: what it makes of RMS norms is infinite above a root mean square of 256 (docs/quantization.md).
"""

from __future__ import annotations

from typing import NamedTuple

import ml_dtypes
import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from stcompile.artifact.report import QuantizationSummary
from stcompile.compiler.passes.graph import constant, is_op
from stcompile.compiler.quantize.job import QuantizationJob


class ShortFloat(NamedTuple):
    """A float of 16 bits: its name, how the graph and numpy call it, its largest number, and what its values end in."""

    name: str
    dtype: ir.DataType
    numpy: np.dtype[np.generic]
    largest: float
    label: str


FLOAT16 = ShortFloat("float16", ir.DataType.FLOAT16, np.dtype(np.float16), float(np.finfo(np.float16).max), "half")
BFLOAT16 = ShortFloat(
    "bfloat16",
    ir.DataType.BFLOAT16,
    np.dtype(ml_dtypes.bfloat16),
    float.fromhex("0x1.fep+127"),
    "bfloat16",
)

# What computes in 16 bits whatever it is given. Everything that is named neither here nor below computes in float32.
# Norms compute in float32 within themselves, as their stash_type says.
_HEAVY_OPS = frozenset(
    (
        *("MatMul", "Gemm", "LayerNormalization", "SimplifiedLayerNormalization", "SkipLayerNormalization", "BiasGelu"),
        *("FastGelu", "Attention", "MultiHeadAttention", "PackedMultiHeadAttention", "RotaryEmbedding"),
    )
)

# What computes in the type of the numbers it is given, value by value.
_ELEMENTWISE_OPS = frozenset(("Gelu", "Erf", "Tanh", "Sigmoid", "Relu", "Silu", "Swish", "Where", "Add", "Mul", "Neg"))

# Of constants these make a table of rows, or a weight, which is stored in 16 bits.
_LOOKUPS = frozenset(("Gather", "Slice", "Transpose"))

_FLOATS = (ir.DataType.FLOAT, FLOAT16.dtype, BFLOAT16.dtype)

# What a float may be made of: the operators that it begins with.
_WEIGHTS = frozenset[str]()
_POSITIONS = frozenset(("Cast", "Range"))
_STATISTICS = frozenset(("ReduceMean", "ReduceSum", "ReduceSumSquare", "ReduceL1", "ReduceL2", "ReduceMax"))

# What moves numbers without computing: it keeps them as they are, for a length clamped at 1e-12 is zero in float16.
MOVES = frozenset(
    (
        *("Transpose", "Reshape", "Split", "Concat", "Slice", "Gather", "Expand", "Unsqueeze", "Squeeze", "Identity"),
        *("RemovePadding", "RestorePadding"),
    )
)


def convert_to_half(model: ir.Model, job: QuantizationJob) -> QuantizationSummary:
    """Rewrites a float32 graph to float16, in place; returns what stayed in float32."""
    return shorten(model, FLOAT16)


def convert_to_bfloat16_for_gpus(model: ir.Model, job: QuantizationJob) -> QuantizationSummary:
    """Rewrites a float32 graph to bfloat16, in place; returns what stayed in float32."""
    return shorten(model, BFLOAT16)


def shorten(model: ir.Model, number: ShortFloat) -> QuantizationSummary:
    """Rewrites a float32 graph to a float of 16 bits, in place; returns what stayed in float32."""
    graph = model.graph
    converter = _Converter(graph, number)
    kept: dict[str, int] = {}
    for node in list(graph):
        if converter.computes_in_half(node):
            converter.to_half(node)
        elif converter.feed(node, ir.DataType.FLOAT) and node.op_type != "Shape":
            kept[node.op_type] = kept.get(node.op_type, 0) + 1
    converter.finish_outputs()
    RemoveUnusedNodesPass()(model)
    matmuls = sum(node.op_type in ("MatMul", "Gemm") and node.outputs[0] in converter.half for node in graph)
    tables = sum(_looks_up(node, number) for node in graph)
    lines = tuple(f"{count} {name}: computed in float32" for name, count in sorted(kept.items()))
    return QuantizationSummary(number.name, matmuls, tables, lines)


def _adds_up_texts(node: ir.Node) -> bool:
    """Whether a MatMul is a sum: which tokens belong to which text, times their rows. It has no bound."""
    if node.op_type != "MatMul" or node.inputs[0] is None:
        return False
    cast = node.inputs[0].producer()
    source = cast.inputs[0] if cast is not None and cast.op_type == "Cast" else None
    return is_op(None if source is None else source.producer(), "And")


def _is_table(value: ir.Value | None) -> bool:
    array = constant(value)
    return array is not None and array.dtype == np.float32


def _is_beyond(value: ir.Value, number: ShortFloat) -> bool:
    array = constant(value)
    return array is not None and array.dtype == np.float32 and bool((np.abs(array) > number.largest).any())


def _looks_up(node: ir.Node, number: ShortFloat) -> bool:
    table = constant(node.inputs[0]) if node.op_type == "Gather" else None
    return table is not None and table.ndim == 2 and table.dtype == number.numpy


class _Converter:
    """Tracks which values are in 16 bits and casts where two regions meet, once per value."""

    def __init__(self, graph: ir.Graph, number: ShortFloat) -> None:
        self._graph = graph
        self._number = number
        self._casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
        self._floats = {
            value
            for value in (*graph.initializers.values(), *(output for node in graph for output in node.outputs))
            if value.dtype == ir.DataType.FLOAT
        }
        self._known: dict[tuple[frozenset[str], ir.Value], bool] = {}
        self.half: set[ir.Value] = set()

    def computes_in_half(self, node: ir.Node) -> bool:
        """Whether a node belongs to the region of 16 bits, given what came before it."""
        if node.op_type in MOVES:
            # A constant table is in the region of its lookups: that is what makes it half the size.
            looks_up = node.op_type in _LOOKUPS and _is_table(node.inputs[0])
            return looks_up or any(value in self.half for value in node.inputs)
        floats = [value for value in node.inputs if value is not None and self._is_float(value)]
        if node.op_type in _HEAVY_OPS:
            if all(self._is_made_of(_POSITIONS, value) for value in floats):
                return not _adds_up_texts(node) and all(self._is_made_of(_WEIGHTS, value) for value in floats)
            return not _adds_up_texts(node)
        if node.op_type not in _ELEMENTWISE_OPS or any(self._is_statistic(value) for value in floats):
            return False
        if node.op_type == "Mul" and node.inputs[0] is node.inputs[1]:
            return False
        # The numbers that masks are made of are cut to the largest here; where they are cast they become infinite.
        return any(value in self.half or _is_beyond(value, self._number) for value in floats)

    def _is_statistic(self, value: ir.Value) -> bool:
        """Whether a float is a mean, a norm or the like, and what is made of such alone; a constant is none."""
        return value.producer() is not None and self._is_made_of(_STATISTICS, value)

    def _is_made_of(self, begins: frozenset[str], value: ir.Value) -> bool:
        """Whether everything a float is made of begins with such nodes or with constants."""
        if (begins, value) not in self._known:
            node = value.producer()
            if node is None:
                self._known[begins, value] = value.const_value is not None
            else:
                # The casts that are put in between are no less numbers.
                floats = [item for item in node.inputs if item is not None and item.dtype in _FLOATS]
                # Whatever it has been made by now
                looks_up = node.op_type in _LOOKUPS and constant(node.inputs[0]) is not None
                made = bool(floats) and not looks_up and all(self._is_made_of(begins, item) for item in floats)
                first = node.op_type in begins and (begins is _STATISTICS or not floats)
                self._known[begins, value] = made or first
        return self._known[begins, value]

    def to_half(self, node: ir.Node) -> None:
        """Feeds a node 16 bits and marks what it makes."""
        if self.feed(node, self._number.dtype):
            for output in node.outputs:
                if output in self._floats or output.dtype is None:
                    # A type object of its own: passes let several values share one.
                    output.type = ir.TensorType(self._number.dtype)
                    self.half.add(output)

    def feed(self, node: ir.Node, dtype: ir.DataType) -> bool:
        """Feeds a node its floats in one type; True when it computes with floats at all."""
        floats = [
            (index, value) for index, value in enumerate(node.inputs) if value is not None and self._is_float(value)
        ]
        for index, value in floats:
            if (value in self.half) != (dtype == self._number.dtype):
                node.replace_input_with(index, self._cast(value, dtype, node))
        return bool(floats)

    def finish_outputs(self) -> None:
        """Casts graph outputs of 16 bits back to float32 under their own names."""
        for index, output in enumerate(self._graph.outputs):
            if output not in self.half:
                continue
            name = output.name
            output.name = f"{name}_{self._number.label}"
            cast = ir.node("Cast", [output], {"to": ir.DataType.FLOAT}, name=f"{name}_wide")
            result = cast.outputs[0]
            result.name, result.dtype, result.shape = name, ir.DataType.FLOAT, output.shape
            self._graph.append(cast)
            self._graph.outputs[index] = result

    def _cast(self, value: ir.Value, dtype: ir.DataType, before: ir.Node) -> ir.Value:
        known = self._casts.get((value, dtype))
        if known is None:
            constant = value.const_value if value.producer() is None else None
            known = self._half_constant(value) if constant is not None else self._cast_node(value, dtype, before)
            self._casts[value, dtype] = known
        return known

    def _half_constant(self, value: ir.Value) -> ir.Value:
        assert value.const_value is not None
        # A mask of -3.4e38 becomes the most negative number, not minus infinity: a row that is masked
        # everywhere must not turn into NaN.
        wide, largest = value.const_value.numpy(), self._number.largest
        array = np.where(np.isinf(wide), wide, np.clip(wide, -largest, largest)).astype(self._number.numpy)
        name = f"{value.name}_{self._number.label}"
        result = ir.val(name, const_value=ir.tensor(array, name=name))
        self._graph.register_initializer(result)
        self.half.add(result)
        return result

    def _cast_node(self, value: ir.Value, dtype: ir.DataType, before: ir.Node) -> ir.Value:
        label = self._number.label if dtype == self._number.dtype else "wide"
        node = ir.node("Cast", [value], {"to": dtype}, name=f"{value.name}_{label}_cast")
        result = node.outputs[0]
        result.name, result.dtype, result.shape = f"{value.name}_{label}", dtype, value.shape
        self._graph.insert_before(before, node)
        if dtype == self._number.dtype:
            self.half.add(result)
        return result

    def _is_float(self, value: ir.Value) -> bool:
        constant = value.const_value
        return (
            value in self.half
            or value in self._floats
            or (value.dtype is None and constant is not None and constant.dtype == ir.DataType.FLOAT)
        )
