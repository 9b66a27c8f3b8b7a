"""A mask with a row for each query -> the one row that all queries share, where padding is all that it hides."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from stcompile.compiler.passes.base import PassResult
from stcompile.compiler.passes.constants import added, constant_named, integers
from stcompile.compiler.passes.graph import dims, finish, input_named, is_op
from stcompile.compiler.passes.padding_mask import ATTENTION_MASK, marks_unseen, proofs

# What a score of padding becomes: softmax gives it no weight, and a text of nothing but padding stays a number.
_LOWEST = np.finfo(np.float32).min


class NarrowMask:
    """Rewrites what is added to scores from (batch, 1, queries, keys) to (batch, 1, 1, keys), once for all layers.

    transformers asks of each query and each key whether they see each other, also where all queries see all tokens: a
    text of 8,192 tokens has 67 million such answers, as bits and as float32. What the mask hides is proved by running
    its part of the graph (`padding_mask`). The scores of tokens are the same to the bit, those of padding are the
    lowest float32, so that nothing but the answer to a text without a token could differ, and has the same weights.
    """

    name = "narrow-mask"

    def __call__(self, model: ir.Model) -> PassResult:
        graph = model.graph
        found = [place for node in graph if (place := _place_of(node)) is not None]
        proved = proofs(model, dict.fromkeys(mask for _, _, mask in found))
        fitting = [place for place in found if (proof := proved[place[2]]).hides_padding and proof.bias is None]
        refusals = ["the mask hides more than padding, or adds something"] if len(fitting) < len(found) else []
        if fitting:
            row = _row(graph)
            for add, index, _ in fitting:
                add.replace_input_with(index, row)
        return finish(model, len(fitting), refusals, "no mask has a row for each query")


def _place_of(softmax: ir.Node) -> tuple[ir.Node, int, ir.Value] | None:
    """The Add before a softmax, which of its inputs is a mask with a row for each query, and the mask."""
    scores = softmax.inputs[0] if is_op(softmax, "Softmax") else None
    add = scores.producer() if scores is not None else None
    if add is None or not is_op(add, "Add"):
        return None
    for index, value in enumerate(add.inputs):
        other = add.inputs[1 - index]
        # Scores have all four axes: what is added to them may be broadcast.
        if value is None or other is None or not is_op(other.producer(), "MatMul", "Mul", "Div"):
            continue
        axes = dims(value)
        if axes is not None and len(axes) == len(dims(other) or ()) == 4 and axes[1] == 1 and axes[2] != 1:
            return add, index, value
    return None


def _row(graph: ir.Graph) -> ir.Value:
    """`(batch, 1, 1, keys)`: 0 for tokens, the lowest number for padding."""
    kept = input_named(graph, ATTENTION_MASK)
    first = graph[0]
    if marks_unseen(graph):
        shown = added(graph, first, "Equal", [kept, integers(graph, "mask_seen", [1])], "mask_shown")
    else:
        shown = added(graph, first, "Cast", [kept], "mask_shown", {"to": ir.DataType.BOOL})
    row = added(graph, first, "Unsqueeze", [shown, integers(graph, "mask_axes", [1, 2])], "mask_row")
    numbers = (
        constant_named(graph, name, np.array(number, np.float32))
        for name, number in (("mask_nothing", 0), ("mask_lowest", _LOWEST))
    )
    return added(graph, first, "Where", [row, *numbers], "mask")
