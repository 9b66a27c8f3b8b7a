"""Masks as other exporters write them, in front of an encoder layer that becomes one operator."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import numpy_helper

from stcompile.compiler.quantize.fused_float import keep_float32
from stcompile.compiler.quantize.job import QuantizationJob
from stcompile.kernels import native
from tests.kernels.run_cases import session

HIDDEN, WIDE, HEADS = 64, 128, 2

_PADDING = """hidden = Not (shown)
  low_where = Where (hidden, low, zero)
  pad = Unsqueeze (low_where, second_third)"""
_GRAPH = """<ir_version: 10, opset_import: ["" : 23]>
g (int64[batch, sequence] input_ids, int64[batch, sequence] attention_mask) => (float[batch, sequence, 64] out) {
  MASK
  h = Gather (table, input_ids)
  q0 = MatMul (h, wq)
  q = Add (q0, b)
  k0 = MatMul (h, wk)
  k = Add (k0, b)
  v0 = MatMul (h, wv)
  v = Add (v0, b)
  context = Attention <q_num_heads = 2, kv_num_heads = 2, scale = 0.25> (q, k, v, mask)
  o0 = MatMul (context, wo)
  o = Add (o0, b)
  s1 = Add (o, h)
  n1 = LayerNormalization <axis = -1, epsilon = 1e-5> (s1, gain, b)
  u0 = MatMul (n1, wu)
  u = Add (u0, bu)
  a = Gelu (u)
  d0 = MatMul (a, wd)
  d = Add (d0, b)
  s2 = Add (d, n1)
  out = LayerNormalization <axis = -1, epsilon = 1e-5> (s2, gain, b)
}"""

# A matrix of its own for what stands behind, the same for all heads, beside padding's; and padding as `mask == 0`.
_MASKS = {
    "a causal mask that is added apart": """shown = Cast <to = 9> (attention_mask)
  PADDING
  length = Shape <start = 1, end = 2> (attention_mask)
  end = Squeeze (length)
  places = Range (none, end, one)
  queries = Unsqueeze (places, first_axis)
  keys = Unsqueeze (places, axis_0)
  behind = GreaterOrEqual (queries, keys)
  seen = Where (behind, zero, low)
  causal = Unsqueeze (seen, axes_0_1)
  mask = Add (pad, causal)""",
    "padding that is equal to 0": """hidden = Equal (attention_mask, none)
  low_where = Where (hidden, low, zero)
  pad = Unsqueeze (low_where, second_third)
  length = Shape <start = 1, end = 2> (attention_mask)
  square = Concat <axis = 0> (one_one, length, one_one)
  mask = Expand (pad, square)""",
}


def _model(mask: str) -> onnx.ModelProto:
    text = _GRAPH.replace("MASK", mask.replace("PADDING", _PADDING))
    model = onnx.parser.parse_model(text)
    random = np.random.default_rng(0)

    def weights(*shape: int) -> npt.NDArray[Any]:
        made: npt.NDArray[Any] = (random.standard_normal(shape) * shape[0] ** -0.5).astype(np.float32)
        return made

    tensors: dict[str, Any] = {
        **{name: weights(HIDDEN, HIDDEN) for name in ("wq", "wk", "wv", "wo")},
        "table": 7 * weights(50, HIDDEN),
        "wu": weights(HIDDEN, WIDE),
        "wd": weights(WIDE, HIDDEN),
        "b": weights(HIDDEN),
        "bu": weights(WIDE),
        "gain": np.ones(HIDDEN, np.float32),
        "low": np.float32(np.finfo(np.float32).min),
        "zero": np.float32(0),
        "none": np.int64(0),
        "one": np.int64(1),
        **{name: np.array([1]) for name in ("one_one", "first_axis")},
        "axis_0": np.array([0]),
        "axes_0_1": np.array([0, 1]),
        "second_third": np.array([1, 2]),
    }
    read = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(array), name) for name, array in tensors.items() if name in read
    )
    return onnx.shape_inference.infer_shapes(model)


@pytest.mark.skipif(bool(native.refusals()), reason="there is no kernel here")
@pytest.mark.parametrize("name", _MASKS)
def test_the_layer_is_one_operator_with_the_same_numbers(name: str) -> None:
    plain = _model(_MASKS[name])
    fused = ir.serde.deserialize_model(plain)
    job = QuantizationJob("", fuses=True, longest=512)
    keep_float32(fused, job)
    assert [(record.rewrites, record.refusals) for record in job.records] == [(1, ())]
    random = np.random.default_rng(1)
    feeds = {"input_ids": random.integers(0, 50, (2, 7)), "attention_mask": np.ones((2, 7), np.int64)}
    feeds["attention_mask"][1, 5:] = 0
    real = feeds["attention_mask"] == 1
    proto = ir.to_proto(fused).SerializeToString()
    (expected,), *ways = (
        running.run(None, feeds)
        for running in (
            onnxruntime.InferenceSession(plain.SerializeToString()),
            onnxruntime.InferenceSession(proto),
            session(proto),
        )
    )
    for (found,) in ways:
        np.testing.assert_allclose(found[real], expected[real], rtol=0, atol=1e-5)
