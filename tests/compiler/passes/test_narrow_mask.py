"""NarrowMask: masks that hide padding alone become one row, and no number of a token changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from stcompile.compiler.passes import CleanGraph, NarrowMask, run_pipeline
from stcompile.compiler.passes.graph import dims, is_op

Feeds = dict[str, np.ndarray[Any, Any]]

# How many of the attentions read a mask with a row for each query that hides padding alone.
NARROWED = {"bert": 2, "distilbert": 1, "roberta": 1, "albert": 2, "electra": 1, "modernbert": 1}
LEFT = {
    "mpnet": "no mask has a row for each query",
    "t5": "no mask has a row for each query",
    "qwen3": "the mask hides more than padding, or adds something",
}

_GRAPH = """<ir_version: 10, opset_import: ["" : 20]>
g (int64[B,S] input_ids, int64[B,S] attention_mask) => (float[B,1,S,S] w) {
  numbers = Cast <to = 1> (input_ids)
  q = Unsqueeze (numbers, column)
  k = Unsqueeze (numbers, axes)
  scores = MatMul (q, k)
  shown = Cast <to = 9> (attention_mask)
  row = Unsqueeze (shown, axes)
  length = Shape <start = 1, end = 2> (attention_mask)
  shape = Concat <axis = 0> (one, one, length, one)
  wide = Expand (row, shape)
  mask = Where (wide, zero, low)
  sum = Add (ORDER)
  w = Softmax <axis = -1> (sum)
}"""

_SHOWN = "shown = Cast <to = 9> (attention_mask)"


def cleaned(trace: Callable[[str], ir.Model], architecture: str) -> ir.Model:
    return run_pipeline(trace(architecture), (CleanGraph(),))[0]


@pytest.mark.parametrize("architecture", NARROWED)
def test_no_number_changes_where_padding_is_all_that_is_hidden(
    architecture: str,
    trace: Callable[[str], ir.Model],
    token_feeds: Sequence[Feeds],
    assert_same: Callable[..., None],
) -> None:
    before = cleaned(trace, architecture)
    after = NarrowMask()(before.clone())
    assert after.rewrites == NARROWED[architecture]
    # A window of local attention keeps its mask.
    assert bool(after.refusals) is (architecture == "modernbert")
    assert_same(before, after.model, token_feeds)
    softmaxes = [node for node in after.model.graph if is_op(node, "Softmax")]
    added = [value for node in softmaxes if (add := node.inputs[0].producer()) for value in add.inputs]  # type: ignore[union-attr]
    assert sum(value is not None and value.name == "mask_output" for value in added) == NARROWED[architecture]


@pytest.mark.parametrize("architecture", LEFT)
def test_what_hides_more_is_left_alone(architecture: str, trace: Callable[[str], ir.Model]) -> None:
    after = NarrowMask()(cleaned(trace, architecture))
    assert (after.rewrites, after.refusals) == (0, (LEFT[architecture],))


def attention(from_text: Callable[..., ir.Model], order: str, condition: str = "wide", shown: str = _SHOWN) -> ir.Model:
    numbers = {"zero": np.float32(0), "low": np.float32(-3e38), "one": np.array([1])}
    axes = {"axes": np.array([1, 2]), "column": np.array([1, 3])}
    graph = _GRAPH.replace("ORDER", order).replace("(wide,", f"({condition},").replace(_SHOWN, shown)
    return from_text(graph, **numbers, **axes)


@pytest.mark.parametrize("order", ["scores, mask", "mask, scores"])
def test_on_either_side_of_the_sum(order: str, from_text: Callable[..., ir.Model], assert_same: Any) -> None:
    before = attention(from_text, order)
    after = NarrowMask()(before.clone())
    assert (after.rewrites, after.refusals) == (1, ())
    assert not any(is_op(node, "Expand") for node in after.model.graph)
    # A text of nothing but padding among them.
    mask = np.array([[1, 1, 1, 0, 0], [0, 0, 0, 0, 0]])
    assert_same(before, after.model, [{"input_ids": np.arange(10).reshape(2, 5), "attention_mask": mask}])
    assert NarrowMask()(after.model).rewrites == 0


def test_what_is_one_row_already_is_left_alone(from_text: Callable[..., ir.Model]) -> None:
    model = attention(from_text, "scores, mask", condition="row")
    (where,) = (node for node in model.graph if is_op(node, "Where"))
    assert (dims(where.outputs[0]) or ())[2] == 1
    assert NarrowMask()(model).rewrites == 0


def test_tokens_that_none_attends_to_stay_hidden(from_text: Callable[..., ir.Model], assert_same: Any) -> None:
    """Where the mask is 2 for some, the row that takes a mask's place hides those too."""
    seen = "shown = Equal (attention_mask, one)"
    before = attention(from_text, "mask, scores", shown=seen)
    after = NarrowMask()(before.clone())
    assert after.rewrites == 1
    mask = np.array([[1, 2, 1, 0], [1, 1, 2, 2]])
    assert_same(before, after.model, [{"input_ids": np.arange(8).reshape(2, 4) % 3, "attention_mask": mask}])
