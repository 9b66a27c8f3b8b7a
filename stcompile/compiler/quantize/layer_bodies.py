"""What the operators of encoder layers compute, in ONNX's own: a function of the same domain and name beside the graph.

Where the package's library is registered its kernel runs; everywhere else ONNX Runtime puts this in the node's place.
Weights are stored once, in the kernels' panels: what turns them into matrices depends on nothing but them, so an engine
folds it when it loads the graph. Scores are in base 2, as the kernels' exponentials are, and rows of padding are zeros.

A body is composed of the parts that a graph's layers have; what differs between layers, as windows do, is an attribute.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import onnx.parser
import onnx_ir as ir

from stcompile.compiler.passes.encoder_layers import AROUND, BEHIND
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

# What stands behind the linear layers among the inputs; what a graph's layers lack at the end is left out.
NORMS = ("gain_1", "shift_1", "gain_2", "shift_2")
OPTIONAL = (
    "score_bias",
    "rotary_cos",
    "rotary_sin",
    "query_gain",
    "key_gain",
    "gain_3",
    "shift_3",
    "gain_4",
    "shift_4",
)

_ATTRIBUTES = (
    *("heads", "kv_heads", "head_size", "hidden", "intermediate", "norms", "normalization", "first_norm", "activation"),
    *("gated", "before", "after", "epsilon_1", "epsilon_2", "epsilon_3", "epsilon_4", "head_epsilon"),
)

# A window this wide hides nothing.
_ENDLESS = 1 << 30


@dataclass(frozen=True)
class Kind:
    """What all layers of a graph have in common, whose operator has one body.

    Attributes:
        heads, key_heads: of queries, and of keys and values.
        head_size: numbers of a head as the kernels take it.
        norms: where norms stand: `after`, `before` or `around`.
        normalization: `layer` or `rms`.
        activation: `gelu`, `gelu_tanh`, `silu` or `relu`.
        gated: whether it is multiplied by another linear layer.
        half: angles of rotary position embeddings; None without them.
        head_norms: whether heads of queries and keys are normalized.
        biased: whether each layer has something to add to its scores.
        hides_tokens: whether the mask is 2 for some tokens: they are computed, and no token sees them.
        soft_cap: below which scores are bent before anything is added; None where they are not.
    """

    heads: int
    key_heads: int
    head_size: int
    norms: str
    normalization: str
    activation: str
    gated: bool
    half: int | None
    head_norms: bool
    biased: bool
    hides_tokens: bool = False
    soft_cap: float | None = None

    @property
    def optional(self) -> frozenset[str]:
        """Which of the optional inputs there are."""
        found = {"score_bias": self.biased, "rotary_cos": self.half is not None, "query_gain": self.head_norms}
        found |= {"rotary_sin": found["rotary_cos"], "key_gain": found["query_gain"]}
        found |= dict.fromkeys(("gain_3", "shift_3", "gain_4", "shift_4"), self.norms == AROUND)
        return frozenset(name for name, is_there in found.items() if is_there)


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

_NORMALIZATION: Mapping[str, str] = MappingProxyType(
    {
        "layer": """
    {made} = LayerNormalization <axis = -1, epsilon: float = @epsilon_{number}> ({read}, gain_{number}, shift_{number})
""",
        # There is no shift; the input is zeros.
        "rms": """
    {made} = RMSNormalization <axis = -1, epsilon: float = @epsilon_{number}> ({read}, gain_{number})
""",
    }
)

_ACTIVATION: Mapping[str, str] = MappingProxyType(
    {
        "gelu": "active = Gelu ({read})",
        "gelu_tanh": 'active = Gelu <approximate = "tanh"> ({read})',
        "relu": "active = Relu ({read})",
        "silu": "opened = Sigmoid ({read})\n    active = Mul ({read}, opened)",
    }
)

# What a token sees: keys from so many positions before it to so many behind it, -1 for all.
_WINDOW = """
    length = Shape <start = 1, end = 2> (attention_mask)
    end = Squeeze (length)
    first = Constant <value_int: int = 0> ()
    step = Constant <value_int: int = 1> ()
    endless = Constant <value_int: int = {endless}> ()
    before_told = Constant <value_int: int = @before> ()
    after_told = Constant <value_int: int = @after> ()
    before_all = Less (before_told, first)
    after_all = Less (after_told, first)
    before_limit = Where (before_all, endless, before_told)
    after_limit = Where (after_all, endless, after_told)
    earliest = Neg (before_limit)
    places = Range (first, end, step)
    queries = Unsqueeze (places, one)
    keys = Unsqueeze (places, zero)
    distance = Sub (keys, queries)
    not_too_early = GreaterOrEqual (distance, earliest)
    not_too_late = LessOrEqual (distance, after_limit)
    is_seen = And (not_too_early, not_too_late)
    none = Constant <value_float: float = 0.0> ()
    unseen = Where (is_seen, none, lowest)
    mask = Add (mask_row, unseen)
"""
_NO_WINDOW = """
    length = Shape <start = 1, end = 2> (attention_mask)
    mask_shape = Concat <axis = 0> (one, one, length, one)
    mask = Expand (mask_row, mask_shape)
"""

# Which tokens are kept, and what hides a key, of a mask of 0 and 1, and of one that is 2 where tokens are hidden too.
_HIDES_PADDING = """
    kept = Cast <to = 1> (attention_mask)
    hiding = Sub (all_kept, kept)
"""
_HIDES = """
    number = Cast <to = 1> (attention_mask)
    kept = Min (number, all_kept)
    from_seen = Sub (all_kept, number)
    hiding = Abs (from_seen)
"""

_BENT = ("product", "shares", "bent", "capped", "scores", "chances")
_SCALARS = ("earliest", "after_limit", "none", "lowest", "first", "end", "step")


def layer_body(op_type: str, kind: Kind, opset: int, *, windows: bool, without_first_norm: bool) -> ir.Function:
    """The function of one operator.

    Args:
        op_type: the operator's name.
        kind: of every layer of the graph.
        opset: of ONNX in the graph.
        windows: whether a token of some layer does not see all others.
        without_first_norm: whether some layer lacks the norm before its attention.
    """
    inputs = ["hidden_states", "attention_mask"]
    inputs += [f"{name}_{part}" for name in LINEARS for part in PARTS[op_type]]
    inputs += [*NORMS, *told(kind)]
    attributes = [*_ATTRIBUTES, *(f"{name}_{part}" for name in LINEARS for part in _OF_LINEAR[op_type])]
    attributes += ["soft_cap"] if kind.soft_cap is not None else []
    attention, network = ("output_normal", "down_normal") if kind.norms == AROUND else ("output_made", "down_made")
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
    {_HIDES if kind.hides_tokens else _HIDES_PADDING}
    masked = Mul (hiding, lowest)
    mask_axes = Constant <value_ints: ints = [1, 2]> ()
    mask_row = Unsqueeze (masked, mask_axes)
    {_WINDOW.format(endless=_ENDLESS) if windows else _NO_WINDOW}
    {"added = Add (mask, score_bias)" if kind.biased else ""}
    {_before_attention(kind, without_first_norm=without_first_norm)}
    {_linear(op_type, "qkv", "hidden_states" if kind.norms == BEHIND else "attended")}
    {_heads(op_type, kind)}
    {_attended(kind)}
    {_linear(op_type, "output", "context")}
    {_normalized(kind, "output_made", 3, "output_normal") if kind.norms == AROUND else ""}
    sum_1 = Add ({attention}, hidden_states)
    {_normalized(kind, "sum_1", 1 if kind.norms == BEHIND else 2, "middle")}
    {_linear(op_type, "up", "middle")}
    {_activated(kind)}
    {_linear(op_type, "down", "grown")}
    {_normalized(kind, "down_made", 4, "down_normal") if kind.norms == AROUND else ""}
    sum_2 = Add ({network}, {"middle" if kind.norms == BEHIND else "sum_1"})
    {_normalized(kind, "sum_2", 2, "normal") if kind.norms == BEHIND else "normal = Identity (sum_2)"}
    kept_column = Unsqueeze (kept, two)
    made = Mul (normal, kept_column)
}}
"""
    function = ir.serde.deserialize_function(onnx.parser.parse_function(text))
    _annotate(function, kind)
    return function


def told(kind: Kind) -> tuple[str, ...]:
    """The optional inputs up to the last one that there is."""
    last = max((OPTIONAL.index(name) for name in kind.optional), default=-1)
    return OPTIONAL[: last + 1]


def _normalized(kind: Kind, read: str, number: int, made: str) -> str:
    return _NORMALIZATION[kind.normalization].format(read=read, number=number, made=made)


def _before_attention(kind: Kind, *, without_first_norm: bool) -> str:
    if kind.norms == BEHIND:
        return ""
    if not without_first_norm:
        return _normalized(kind, "hidden_states", 1, "attended")
    return f"""
    {_normalized(kind, "hidden_states", 1, "attended_normal")}
    first_norm_told = Constant <value_int: int = @first_norm> ()
    has_first_norm = Cast <to = 9> (first_norm_told)
    attended = Where (has_first_norm, attended_normal, hidden_states)
"""


def _activated(kind: Kind) -> str:
    if not kind.gated:
        return f"{_ACTIVATION[kind.activation].format(read='up_made')}\n    grown = Identity (active)"
    return f"""
    gate, factor = Split <axis = -1, num_outputs = 2> (up_made)
    {_ACTIVATION[kind.activation].format(read="gate")}
    grown = Mul (active, factor)
"""


def _attended(kind: Kind) -> str:
    """The heads' products with a softmax between; queries are in base 2."""
    added, heads, size = "added" if kind.biased else "mask", kind.heads, kind.head_size
    if kind.soft_cap is None:
        return f"""
    context = Attention <q_num_heads = {heads}, kv_num_heads = {heads}, scale = {math.log(2)!r}>
        (query, key, value, {added})
"""
    # ONNX Runtime's Attention adds the mask before a soft cap up to 1.26, and behind it from 1.27 on.
    return f"""
    by_head = Constant <value_ints: ints = [0, 0, {heads}, {size}]> ()
    query_by_head = Reshape (query, by_head)
    key_by_head = Reshape (key, by_head)
    value_by_head = Reshape (value, by_head)
    query_rows = Transpose <perm = [0, 2, 1, 3]> (query_by_head)
    key_columns = Transpose <perm = [0, 2, 3, 1]> (key_by_head)
    value_rows = Transpose <perm = [0, 2, 1, 3]> (value_by_head)
    product = MatMul (query_rows, key_columns)
    share = Constant <value_float: float = {math.log(2) / kind.soft_cap!r}> ()
    shares = Mul (product, share)
    bent = Tanh (shares)
    most = Constant <value_float: float = {kind.soft_cap!r}> ()
    capped = Mul (bent, most)
    scores = Add (capped, {added})
    chances = Softmax <axis = -1> (scores)
    weighed = MatMul (chances, value_rows)
    context_by_head = Transpose <perm = [0, 2, 1, 3]> (weighed)
    all_together = Constant <value_ints: ints = [0, 0, {heads * size}]> ()
    context = Reshape (context_by_head, all_together)
"""


def _linear(op_type: str, name: str, read: str) -> str:
    panels = f"{name}_panels"
    widened = ""
    if op_type == BFLOAT16:  # few engines turn and cut bfloat16
        widened = f"{name}_wide = Cast <to = 1> ({panels})"
        panels = f"{name}_wide"
    return "\n".join((widened, _MATRIX.format(name=name, panels=panels), _LINEAR[op_type].format(name=name, read=read)))


def _heads(op_type: str, kind: Kind) -> str:
    """Queries, keys and values as attention reads them, in the numbers of attention."""
    heads, few, size = kind.heads, kind.key_heads, kind.head_size
    lines = [
        f"parts = Constant <value_ints: ints = [{heads * size}, {few * size}, {few * size}]> ()",
        "query_0, key_0, value_0 = Split <axis = -1> (qkv_made, parts)",
    ]
    last = {"query": "query_0", "key": "key_0", "value": "value_0"}
    for name, count in (("query", heads), ("key", few)):
        if kind.head_norms:
            lines += [
                f"{name}_sizes = Constant <value_ints: ints = [0, 0, {count}, {size}]> ()",
                f"{name}_flat = Constant <value_ints: ints = [0, 0, {count * size}]> ()",
                f"{name}_heads = Reshape ({last[name]}, {name}_sizes)",
                f"{name}_normal = RMSNormalization <axis = -1, epsilon: float = @head_epsilon>"
                f" ({name}_heads, {name}_gain)",
                f"{name}_1 = Reshape ({name}_normal, {name}_flat)",
            ]
            last[name] = f"{name}_1"
        if kind.half is not None:
            some = "" if 2 * kind.half == size else f", rotary_embedding_dim = {2 * kind.half}"
            lines += [
                f"{name}_2 = RotaryEmbedding <num_heads = {count}{some}> ({last[name]}, rotary_cos, rotary_sin)",
            ]
            last[name] = f"{name}_2"
    if op_type == BFLOAT16:
        for name, source in last.items():
            lines += [f"{name}_short = Cast <to = 16> ({source})", f"{name}_3 = Cast <to = 1> ({name}_short)"]
        last = {name: f"{name}_3" for name in last}
    if few != heads:
        # ONNX Runtime 1.23.0 answers with NaN where Attention has fewer heads of keys.
        lines += [
            f"few_heads = Constant <value_ints: ints = [0, 0, {few}, 1, {size}]> ()",
            f"often = Constant <value_ints: ints = [1, 1, 1, {heads // few}, 1]> ()",
            f"all_heads = Constant <value_ints: ints = [0, 0, {heads * size}]> ()",
        ]
        for name in ("key", "value"):
            lines += [
                f"{name}_apart = Reshape ({last[name]}, few_heads)",
                f"{name}_often = Expand ({name}_apart, often)",
                f"{name}_4 = Reshape ({name}_often, all_heads)",
            ]
            last[name] = f"{name}_4"
    return "\n    ".join((*lines, *(f"{name} = Identity ({source})" for name, source in last.items())))


def _annotate(function: ir.Function, kind: Kind) -> None:
    """Names the nodes; writes down, for the passes, what grows with the square of the length, and what is around it."""
    for node in function:
        node.name = node.outputs[0].name
    values = {value.name: value for value in function.inputs}
    values |= {value.name: value for node in function for value in node.outputs}
    square = ("sequence", "sequence")
    shapes: dict[str, tuple[str | int, ...]] = {
        "hidden_states": ("batch", "sequence", "hidden"),
        "attention_mask": ("batch", "sequence"),
        **dict.fromkeys(("query", "key", "value", "context"), ("batch", "sequence", "attention")),
        **dict.fromkeys(("mask", *(("added", "score_bias") if kind.biased else ())), ("batch", "scores", *square)),
        "mask_row": ("batch", 1, 1, "sequence"),
        "queries": ("sequence", 1),
        "keys": (1, "sequence"),
        **dict.fromkeys(("distance", "not_too_early", "not_too_late", "is_seen", "unseen"), square),
        **dict.fromkeys(_SCALARS, ()),
        **dict.fromkeys(_BENT, ("batch", kind.heads, *square)),
        **dict.fromkeys(("query_rows", "value_rows", "weighed"), ("batch", kind.heads, "sequence", kind.head_size)),
        "key_columns": ("batch", kind.heads, kind.head_size, "sequence"),
    }
    for name, shape in shapes.items():
        if name in values:
            values[name].shape = ir.Shape(shape)
            values[name].dtype = _TYPES_WITHIN.get(name, TYPES.get(name, ir.DataType.FLOAT))


_WHOLE = ("queries", "keys", "distance", "earliest", "after_limit", "first", "end", "step")
_TYPES_WITHIN: Mapping[str, ir.DataType] = MappingProxyType(
    {
        **dict.fromkeys(_WHOLE, ir.DataType.INT64),
        **dict.fromkeys(("not_too_early", "not_too_late", "is_seen"), ir.DataType.BOOL),
    }
)
