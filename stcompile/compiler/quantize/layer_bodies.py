"""What the operators of encoder layers compute, in ONNX's own: a function of the same domain and name beside the graph.

Where the package's library is registered its kernel runs; everywhere else ONNX Runtime puts this in the node's place.
Weights are stored once, in the kernels' panels: what turns them into matrices depends on nothing but them, so an engine
folds it when it loads the graph. Scores are in base 2, as the kernels' exponentials are, and rows of padding are zeros.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

import onnx.parser
import onnx_ir as ir

from stcompile.kernels.native import DOMAIN

INT8, BFLOAT16, FLOAT32 = "EncoderLayerInt8", "EncoderLayerBfloat16", "EncoderLayerFloat32"

# The linear layers, and what each has beside its weights.
LINEARS = ("qkv", "output", "up", "down")
PARTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        INT8: ("panels", "bias", "scale", "smoothed_by"),
        BFLOAT16: ("panels", "bias"),
        FLOAT32: ("panels", "bias"),
    }
)
_OF_LINEAR: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {INT8: ("zero_point", "smallest_scale"), BFLOAT16: (), FLOAT32: ()}
)
# What the inputs of a body are, as far as passes ask.
TYPES: Mapping[str, ir.DataType] = MappingProxyType(
    {
        "hidden_states": ir.DataType.FLOAT,
        "attention_mask": ir.DataType.INT64,
        "score_bias": ir.DataType.FLOAT,
    }
)

_NORMS = ("gain_1", "shift_1", "gain_2", "shift_2")
_NUMBERS = ("hidden", "intermediate", "head_size")

# (panels, in / word, 64, word) to (in, out): the columns that fill up the last panel are left out.
_MATRIX = """
    {name}_turned = Transpose <perm = [1, 3, 0, 2]> ({panels})
    {name}_filled = Flatten <axis = 2> ({name}_turned)
    {name}_width = Shape ({name}_bias)
    {name}_matrix = Slice ({name}_filled, zero, {name}_width, one)
"""

_LINEAR: Mapping[str, str] = MappingProxyType(
    {
        # Every row has a scale of its own, by its largest and, where the middle is the zero point, its smallest value.
        INT8: """
    {name}_zero = Constant <value_int: int = @{name}_zero_point> ()
    {name}_levels_below = Cast <to = 1> ({name}_zero)
    {name}_levels_above = Sub (top_level, {name}_levels_below)
    {name}_is_middle = Equal ({name}_levels_below, middle_level)
    {name}_by_smallest = Where ({name}_is_middle, smallest_share, no_share)
    {name}_least_scale = Constant <value_float: float = @{name}_smallest_scale> ()
    {name}_smooth = Mul ({read}, {name}_smoothed_by)
    {name}_largest = ReduceMax ({name}_smooth, last)
    {name}_smallest = ReduceMin ({name}_smooth, last)
    {name}_above = Div ({name}_largest, {name}_levels_above)
    {name}_below = Mul ({name}_smallest, {name}_by_smallest)
    {name}_row_scale = Max ({name}_above, {name}_below, {name}_least_scale)
    {name}_inverse = Reciprocal ({name}_row_scale)
    {name}_steps = Mul ({name}_smooth, {name}_inverse)
    {name}_whole = Round ({name}_steps)
    {name}_shifted = Add ({name}_whole, {name}_levels_below)
    {name}_clipped = Clip ({name}_shifted, bottom_level, top_level)
    {name}_levels = Cast <to = 2> ({name}_clipped)
    {name}_zero_level = Cast <to = 2> ({name}_zero)
    {name}_sums = MatMulInteger ({name}_levels, {name}_matrix, {name}_zero_level)
    {name}_numbers = Cast <to = 1> ({name}_sums)
    {name}_by_column = Mul ({name}_numbers, {name}_scale)
    {name}_by_row = Mul ({name}_by_column, {name}_row_scale)
    {name}_made = Add ({name}_by_row, {name}_bias)
""",
        BFLOAT16: """
    {name}_short = Cast <to = 16> ({read})
    {name}_rounded = Cast <to = 1> ({name}_short)
    {name}_product = MatMul ({name}_rounded, {name}_matrix)
    {name}_made = Add ({name}_product, {name}_bias)
""",
        FLOAT32: """
    {name}_product = MatMul ({read}, {name}_matrix)
    {name}_made = Add ({name}_product, {name}_bias)
""",
    }
)

_ONCE: Mapping[str, str] = MappingProxyType(
    {
        INT8: """
    top_level = Constant <value_float: float = 255.0> ()
    middle_level = Constant <value_float: float = 128.0> ()
    bottom_level = Constant <value_float: float = 0.0> ()
    smallest_share = Constant <value_float: float = -0.0078125> ()
    no_share = Constant <value_float: float = 0.0> ()
    last = Constant <value_ints: ints = [-1]> ()
""",
        BFLOAT16: "",
        FLOAT32: "",
    }
)


def layer_body(op_type: str, heads: int, opset: int, *, biased: bool) -> ir.Function:
    """The function of one operator.

    Args:
        op_type: the operator's name.
        heads: of every layer of the graph.
        opset: of ONNX in the graph.
        biased: whether each layer has something to add to its scores, an input behind all others.
    """
    inputs = ["hidden_states", "attention_mask"]
    inputs += [f"{name}_{part}" for name in LINEARS for part in PARTS[op_type]]
    inputs += [*_NORMS, *(["score_bias"] if biased else [])]
    attributes = ["heads", *_NUMBERS, "epsilon_1", "epsilon_2"]
    attributes += [f"{name}_{part}" for name in LINEARS for part in _OF_LINEAR[op_type]]
    text = f"""
<domain: "{DOMAIN}", opset_import: ["" : {opset}]>
{op_type} <{", ".join(attributes)}> ({", ".join(inputs)}) => (made)
{{
    zero = Constant <value_ints: ints = [0]> ()
    one = Constant <value_ints: ints = [1]> ()
    two = Constant <value_ints: ints = [2]> ()
    all_kept = Constant <value_float: float = 1.0> ()
    lowest = Constant <value_float: float = -1e30> ()
    {_ONCE[op_type]}
    kept = Cast <to = 1> (attention_mask)
    hiding = Sub (all_kept, kept)
    masked = Mul (hiding, lowest)
    mask_axes = Constant <value_ints: ints = [1, 2]> ()
    mask_row = Unsqueeze (masked, mask_axes)
    length = Shape <start = 1, end = 2> (attention_mask)
    mask_shape = Concat <axis = 0> (one, one, length, one)
    mask = Expand (mask_row, mask_shape)
    {"added = Add (mask, score_bias)" if biased else ""}
    {_linear(op_type, "qkv", "hidden_states")}
    {_attending(op_type)}
    query, key, value = Split <axis = -1, num_outputs = 3> (attending)
    context = Attention <q_num_heads = {heads}, kv_num_heads = {heads}, scale = {math.log(2)!r}>
        (query, key, value, {"added" if biased else "mask"})
    {_linear(op_type, "output", "context")}
    sum_1 = Add (output_made, hidden_states)
    middle = LayerNormalization <axis = -1, epsilon: float = @epsilon_1> (sum_1, gain_1, shift_1)
    {_linear(op_type, "up", "middle")}
    grown = Gelu (up_made)
    {_linear(op_type, "down", "grown")}
    sum_2 = Add (down_made, middle)
    normal = LayerNormalization <axis = -1, epsilon: float = @epsilon_2> (sum_2, gain_2, shift_2)
    kept_column = Unsqueeze (kept, two)
    made = Mul (normal, kept_column)
}}
"""
    function = ir.serde.deserialize_function(onnx.parser.parse_function(text))
    _annotate(function, biased)
    return function


def _linear(op_type: str, name: str, read: str) -> str:
    panels = f"{name}_panels"
    widened = ""
    if op_type == BFLOAT16:  # few engines turn and cut bfloat16
        widened = f"{name}_wide = Cast <to = 1> ({panels})"
        panels = f"{name}_wide"
    return "\n".join((widened, _MATRIX.format(name=name, panels=panels), _LINEAR[op_type].format(name=name, read=read)))


def _attending(op_type: str) -> str:
    """Queries, keys and values as attention reads them."""
    if op_type == BFLOAT16:
        return "qkv_short_made = Cast <to = 16> (qkv_made)\n    attending = Cast <to = 1> (qkv_short_made)"
    return "attending = Identity (qkv_made)"


def _annotate(function: ir.Function, biased: bool) -> None:
    """Names the nodes; writes down, for the passes, what grows with the square of the length, and what is around it."""
    for node in function:
        node.name = node.outputs[0].name
    values = {value.name: value for value in function.inputs}
    values |= {value.name: value for node in function for value in node.outputs}
    squares = ("mask", "added", "score_bias") if biased else ("mask",)
    shapes: dict[str, tuple[str | int, ...]] = {
        "hidden_states": ("batch", "sequence", "hidden"),
        "attention_mask": ("batch", "sequence"),
        **dict.fromkeys(("query", "key", "value", "context"), ("batch", "sequence", "attention")),
        **dict.fromkeys(squares, ("batch", "scores", "sequence", "sequence")),
        "mask_row": ("batch", 1, 1, "sequence"),
    }
    for name, shape in shapes.items():
        values[name].shape = ir.Shape(shape)
        values[name].dtype = TYPES.get(name, ir.DataType.FLOAT)
