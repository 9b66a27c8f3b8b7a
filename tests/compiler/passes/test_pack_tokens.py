"""PackTokens: what it packs on every architecture, its numbers on stand-ins for the operators, and its refusals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime as ort
import pytest

from stcompile.compiler.passes import PIPELINES, PackTokens, run_pipeline
from stcompile.compiler.passes.graph import is_contributed
from stcompile.compiler.quantize import RECIPES, QuantizationJob
from tests.cuda.stand_ins import evaluator

Feeds = Mapping[str, npt.NDArray[Any]]

_HIDES_MORE = "the attention hides more than padding (causal or local attention), or padding only in part"

# architecture -> attentions that are packed, or why none is
_EXPECTED: dict[str, int | tuple[str, ...]] = {
    "bert": 2,
    "distilbert": 1,
    "mpnet": 1,
    "roberta": 1,
    "albert": 2,
    "electra": 1,
    "t5": 1,
    # Positions turn what is made token by token.
    "modernbert": (_HIDES_MORE, "query, key and value are not made token by token of one value"),
    "qwen3": (_HIDES_MORE,),
    "deberta": ("no fused attention occurs",),
}
_PACKED = [name for name, count in _EXPECTED.items() if isinstance(count, int)]

# Largest difference to the graph with padding, as a share of the largest number; measured: 1.3e-6.
_WITHIN = 5e-6


def _packed(model: ir.Model) -> tuple[ir.Model, int, tuple[str, ...]]:
    model, records = run_pipeline(model, PIPELINES["cuda-packed"])
    record = next(record for record in records if record.name == PackTokens.name)
    return model, record.rewrites, record.refusals


def _operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


@pytest.mark.parametrize("architecture", _EXPECTED)
def test_every_attention_is_packed_or_refused_by_name(architecture: str, trace: Callable[[str], ir.Model]) -> None:
    expected = _EXPECTED[architecture]

    model, rewrites, refusals = _packed(trace(architecture))

    if isinstance(expected, tuple):
        assert (rewrites, refusals) == (0, expected)
        assert "RemovePadding" not in _operators(model)
        return
    assert (rewrites, refusals) == (expected, ())
    names = _operators(model)
    assert "MultiHeadAttention" not in names
    assert names.count("PackedMultiHeadAttention") == expected
    assert names.count("RemovePadding") == names.count("RestorePadding") == 1
    assert PackTokens()(model).rewrites == 0


@pytest.mark.parametrize("architecture", _PACKED)
def test_everything_between_is_packed(architecture: str, trace: Callable[[str], ir.Model]) -> None:
    """No matrix is multiplied with a padded row."""
    model, _, _ = _packed(trace(architecture))
    products = [node for node in model.graph if node.op_type == "MatMul"]
    assert products
    for node in products:
        assert node.inputs[0] is not None
        assert node.inputs[0].shape is not None
        assert [str(dim) for dim in node.inputs[0].shape][:-1] == ["tokens"]


@pytest.mark.parametrize("architecture", _PACKED)
def test_the_tokens_keep_their_numbers(
    architecture: str, trace: Callable[[str], ir.Model], token_feeds: Sequence[Feeds]
) -> None:
    proto = ir.to_proto(trace(architecture))
    before = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    after = evaluator(ir.to_proto(_packed(trace(architecture))[0]))
    for feeds in token_feeds:
        kept = feeds["attention_mask"] != 0
        (expected,), (found,) = before.run(None, dict(feeds)), after.run(None, dict(feeds))
        assert found.shape == expected.shape
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found[kept], expected[kept], rtol=0, atol=_WITHIN * scale)
        beyond_first = ~kept
        beyond_first[:, 0] = False
        assert not found[beyond_first].any()


@pytest.mark.parametrize("recipe", ["float32", "float16"])
@pytest.mark.parametrize("architecture", _PACKED)
def test_onnxruntime_takes_the_types_and_lacks_the_kernels(
    architecture: str, recipe: str, trace: Callable[[str], ir.Model]
) -> None:
    """It checks the type of every operator's inputs first."""
    model, _, _ = _packed(trace(architecture))
    RECIPES[recipe](model, QuantizationJob("", None, None, lambda _: None))
    with pytest.raises(Exception, match=r"NOT_IMPLEMENTED.*(Remove|Restore)Padding"):
        ort.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])


_GRAPH = """
<ir_version: 10, opset_import: ["" : 20, "com.microsoft" : 1]>
g (int64[batch,sequence] input_ids, int64[batch,sequence] attention_mask) => (float[batch,sequence,8] y) {
  embedded = Gather (table, input_ids)
  hidden = LayerNormalization <axis = 2> (embedded, gamma)
  q = MatMul (hidden, weight)
  zero = Constant <value_float = 0.0> ()
  low = Constant <value_float = -1e30> ()
  kept = Cast <to = 9> (attention_mask)
  place = Constant <value_int = 1> ()
  axes = Constant <value_ints = [1, 2]> ()
  wide = Unsqueeze (kept, axes)
  padding = Where (wide, zero, low)
  length = Shape <start = 1, end = 2> (attention_mask)
  one = Constant <value_ints = [1]> ()
  square = Concat <axis = 0> (one, one, length, one)
  mask = Expand (padding, square)
  mixed = com.microsoft.MultiHeadAttention <num_heads = 2, scale = 0.5> (q, q, q, , , mask)
  y = Add (mixed, hidden)
}
"""
Edit = tuple[str, str]


def _written(from_text: Callable[..., ir.Model], *edits: Edit) -> ir.Model:
    text = _GRAPH
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    rng = np.random.default_rng(3)
    weight, table = (rng.normal(size=(rows, 8)).astype(np.float32) for rows in (8, 20))
    model = from_text(text, gamma=np.ones(8, dtype=np.float32), table=table, weight=weight)
    # as in the pipeline, where constants are initializers by now
    return run_pipeline(model, [PIPELINES["cuda"][0]])[0]


_FEEDS = {
    "input_ids": np.random.default_rng(4).integers(0, 20, (3, 5)),
    "attention_mask": np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0]]),
}


def test_an_axis_from_the_front_is_named_from_the_back(from_text: Callable[..., ir.Model]) -> None:
    model = _written(from_text)
    before = ort.InferenceSession(ir.to_proto(model).SerializeToString()).run(None, _FEEDS)[0]

    assert PackTokens()(model).rewrites == 1

    norm = next(node for node in model.graph if node.op_type == "LayerNormalization")
    assert norm.attributes.get_int("axis") == -1
    after = evaluator(ir.to_proto(model)).run(None, _FEEDS)[0]
    kept = _FEEDS["attention_mask"] != 0
    np.testing.assert_allclose(after[kept], before[kept], rtol=0, atol=1e-5)


def test_what_is_not_token_wise_reads_padded_values(from_text: Callable[..., ir.Model]) -> None:
    edit = ("y = Add (mixed, hidden)", "sum = Add (mixed, hidden)\n  y = CumSum (sum, place)")
    model = _written(from_text, edit)
    before = ort.InferenceSession(ir.to_proto(model).SerializeToString()).run(None, _FEEDS)[0]

    assert PackTokens()(model).rewrites == 1

    last = model.graph.outputs[0].producer()
    assert last is not None
    assert last.op_type == "CumSum"
    assert last.inputs[0] is not None
    maker = last.inputs[0].producer()
    assert maker is not None
    assert is_contributed(maker, "RestorePadding")
    after = evaluator(ir.to_proto(model)).run(None, _FEEDS)[0]
    # sums up to a text's last token: the padding behind it is another matter
    np.testing.assert_allclose(after[0], before[0], rtol=0, atol=1e-5)
    np.testing.assert_allclose(after[1, :2], before[1, :2], rtol=0, atol=1e-5)


# A bias that is the same for every query, as a slope over the positions of the keys.
_SLOPE = """  count = Squeeze (length)
  start = Constant <value_int = 0> ()
  step = Constant <value_int = 1> ()
  far = Range (start, count, step)
  near = Cast <to = 1> (far)
  front = Constant <value_ints = [0, 1, 2]> ()
  slope = Unsqueeze (near, front)
  sloping = Add (mask, slope)
  mixed ="""


@pytest.mark.parametrize(
    ("edits", "sentence"),
    [
        ([("  mixed =", _SLOPE), (", , mask)", ", , sloping)")], "the bias of positions is not known to be"),
        ([(", , mask)", ")")], "hides nothing: padding takes part"),
        ([("-1e30", "-3.0")], "or padding only in part"),
        ([("mask = Expand (padding, square)", "wider = Expand (padding, square)\n  mask = Trilu <upper = 0> (wider)")],
         "hides more than padding"),
        ([("(q, q, q, , , mask)", "(q, other, other, , , mask)"),
          ("  mixed =", "  flipped = CumSum (hidden, place)\n  other = MatMul (flipped, weight)\n  mixed =")],
         "are not made token by token of one value"),
        ([("com.microsoft.MultiHeadAttention <num_heads = 2, scale = 0.5> (q, q, q, , , mask)", "Neg (q)")],
         "no fused attention occurs"),
    ],
)  # fmt: skip
def test_what_cannot_be_packed_is_left_as_it_was(
    edits: list[Edit], sentence: str, from_text: Callable[..., ir.Model]
) -> None:
    model = _written(from_text, *edits)
    names = _operators(model)

    result = PackTokens()(model)

    assert result.rewrites == 0
    assert sentence in " ".join(result.refusals)
    assert _operators(model) == names
