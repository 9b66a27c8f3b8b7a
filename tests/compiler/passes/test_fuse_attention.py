"""FuseAttention and FuseMultiHeadAttention: one pattern, two operators."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from stcompile.compiler.passes import FuseAttention, FuseMultiHeadAttention, GraphPass

_GRAPH = """
<ir_version: 10, opset_import: ["" : 20]>
g (float[B,S,8] x, float[B,1,S,S] mask) => (float[B,S,8] y) {
  q = MatMul (x, wq)
  k = MatMul (x, wk)
  v = MatMul (x, wv)
  q_split = Reshape (q, split)
  k_split = Reshape (k, split)
  v_split = Reshape (v, split)
  q_heads = Transpose <perm = [0, 2, 1, 3]> (q_split)
  k_heads = Transpose <perm = [0, 2, 3, 1]> (k_split)
  v_heads = Transpose <perm = [0, 2, 1, 3]> (v_split)
  product = MatMul (q_heads, k_heads)
  scores = Mul (product, half)
  masked = Add (scores, mask)
  weights = Softmax <axis = -1> (masked)
  weighed = MatMul (weights, v_heads)
  back = Transpose <perm = [0, 2, 1, 3]> (weighed)
  y = Reshape (back, merge)
}
"""
_LOWEST = np.finfo(np.float32).min

Edit = tuple[str, str]
PASSES = [FuseAttention(), FuseMultiHeadAttention()]
OPERATORS = {"fuse-attention": "Attention", "fuse-multi-head-attention": "MultiHeadAttention"}


def _arrays() -> dict[str, Any]:
    rng = np.random.default_rng(3)
    return {
        **{name: rng.normal(size=(8, 8)).astype(np.float32) for name in ("wq", "wk", "wv")},
        "split": np.array([0, 0, 2, 4], np.int64),
        "merge": np.array([0, 0, 8], np.int64),
        "ones": np.array([1], np.int64),
        "half": np.array(0.5, np.float32),
        "two": np.array([2.0], np.float32),
        "minus": np.array(-1.0, np.float32),
        "four": np.full((4,), 0.5, np.float32),
        "table": rng.normal(size=(1, 2, 1, 1)).astype(np.float32),
    }


def _build(from_text: Callable[..., ir.Model], *edits: Edit) -> ir.Model:
    text = _GRAPH
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    return from_text(text, **_arrays())


def _feeds(queries: int | None = None) -> list[dict[str, Any]]:
    rng = np.random.default_rng(5)
    feeds = []
    for batch, length, pads in ((3, 5, (0, 2, 5)), (1, 4, (1,)), (1, 1, (0,)), (2, 1, (0, 1))):
        mask = np.zeros((batch, 1, queries or length, length), np.float32)
        for row, pad in enumerate(pads):
            mask[row, :, :, length - pad :] = _LOWEST
        feeds.append({"x": rng.normal(size=(batch, length, 8)).astype(np.float32), "mask": mask})
    return feeds


@pytest.mark.parametrize("fuse", PASSES, ids=lambda fuse: fuse.name)
@pytest.mark.parametrize(
    "edits",
    [
        pytest.param((), id="scaled-scores"),
        pytest.param((("Mul (product, half)", "Mul (half, product)"),), id="scale-first"),
        pytest.param((("Mul (product, half)", "Div (product, two)"),), id="divided-scores"),
        pytest.param(
            (("scores = Mul (product, half)\n", ""), ("Add (scores, mask)", "Add (product, mask)")),
            id="unscaled",
        ),
        pytest.param((("Add (scores, mask)", "Add (mask, scores)"),), id="mask-first"),
        pytest.param(
            (
                (
                    "product = MatMul (q_heads, k_heads)",
                    "qs = Mul (q_heads, half)\n  product = MatMul (qs, k_heads)",
                ),
                (
                    "k_heads = Transpose <perm = [0, 2, 3, 1]> (k_split)",
                    "ks = Div (k_split, two)\n  k_heads = Transpose <perm = [0, 2, 3, 1]> (ks)",
                ),
            ),
            id="scaled-query-and-key",
        ),
        pytest.param(
            (
                (
                    "k_heads = Transpose <perm = [0, 2, 3, 1]> (k_split)",
                    "kt = Transpose <perm = [0, 2, 1, 3]> (k_split)\nk_heads = Transpose <perm = [0, 1, 3, 2]> (kt)",
                ),
            ),
            id="key-transposed-twice",
        ),
        pytest.param(
            (("masked = Add (scores, mask)", "biased = Add (scores, table)\n  masked = Add (biased, mask)"),),
            id="position-bias",
        ),
        pytest.param((("masked = Add (scores, mask)\n", ""), ("(masked)", "(scores)")), id="no-mask"),
    ],
)
def test_rewrites_and_keeps_the_numbers(
    fuse: GraphPass,
    edits: tuple[Edit, ...],
    from_text: Callable[..., ir.Model],
    assert_same: Callable[..., None],
) -> None:
    before, model = _build(from_text, *edits), _build(from_text, *edits)

    result = fuse(model)

    assert (result.rewrites, result.refusals) == (1, ())
    operators = Counter(node.op_type for node in model.graph)
    assert operators[OPERATORS[fuse.name]] == 1
    assert "Softmax" not in operators
    assert_same(before, model, _feeds())

    again = fuse(model)

    assert (again.rewrites, again.refusals) == (0, ("no eager attention occurs",))


@pytest.mark.parametrize("fuse", PASSES, ids=lambda fuse: fuse.name)
def test_a_mask_without_queries_is_repeated(
    fuse: GraphPass, from_text: Callable[..., ir.Model], assert_same: Callable[..., None]
) -> None:
    narrow = ("float[B,1,S,S] mask", "float[B,1,1,S] mask")
    before, model = _build(from_text, narrow), _build(from_text, narrow)

    assert fuse(model).rewrites == 1

    assert_same(before, model, _feeds(queries=1))


@pytest.mark.parametrize("fuse", PASSES, ids=lambda fuse: fuse.name)
@pytest.mark.parametrize(
    ("edits", "sentence"),
    [
        ([("axis = -1", "axis = 2")], "softmax is not over the last axis"),
        ([("Mul (product, half)", "Mul (product, mask)")], "scale is computed in the graph"),
        (
            [
                ("Mul (product, half)", "Mul (product, four)"),
                ("S,8] x", "4,8] x"),
                ("1,S,S] mask", "1,4,4] mask"),
                ("(float[B,S,8] y)", "(float[B,4,8] y)"),
            ],
            "scale is computed in the graph",
        ),
        ([("Mul (product, half)", "Div (half, product)")], "scale is computed in the graph"),
        ([("Mul (product, half)", "Mul (product, minus)")], "scale of the scores is not positive"),
        (
            [("scores = Mul (product, half)", "early = Add (product, mask)\n  scores = Mul (early, half)")],
            "scaled after the mask is added",
        ),
        ([("Mul (product, half)", "Sigmoid (product)")], "Sigmoid stands between the scores and the softmax"),
        (
            [
                (
                    "masked = Add (scores, mask)",
                    "early = Add (scores, mask) bent = Tanh (early) masked = Mul (bent, two)",
                )
            ],
            "the mask is added before a soft cap bends the scores",
        ),
        ([("masked = Add (scores, mask)", "a = Tanh (scores) masked = Add (a, mask)")], "a soft cap bends the scores"),
        (
            [("masked = Add (scores, mask)", "a = Tanh (scores) b = Tanh (a) masked = Add (b, mask)")],
            "Tanh stands between the scores and the softmax",
        ),
        (
            [("masked = Add (scores, mask)", "a = Tanh (scores) b = Mul (a, minus) masked = Add (b, mask)")],
            "the scale of the scores is not positive",
        ),
        (
            [
                (
                    "masked = Add (scores, mask)",
                    "more = MatMul (q_heads, k_heads)\n  masked = Add (scores, more)",
                )
            ],
            "several products are added into the scores",
        ),
        (
            [("=> (float[B,S,8] y)", "=> (float[B,S,8] y, float[B,2,S,S] scores)")],
            "scores on the way to the softmax are used elsewhere",
        ),
        (
            [("=> (float[B,S,8] y)", "=> (float[B,S,8] y, float[B,2,S,S] weights)")],
            "softmax is used elsewhere",
        ),
        (
            [("=> (float[B,S,8] y)", "=> (float[B,S,8] y, float[B,2,S,4] q_heads)")],
            "query heads are used elsewhere",
        ),
        (
            [
                (
                    "product = MatMul (q_heads, k_heads)",
                    "cos = Mul (q_heads, half)\n sin = Mul (q_heads, half)\n"
                    "turned = Add (cos, sin)\n product = MatMul (turned, k_heads)",
                ),
            ],
            "rotary position embeddings turn the query heads in a way that is not known",
        ),
        (
            [
                (
                    "product = MatMul (q_heads, k_heads)",
                    "normed = Tanh (k_heads)\n  product = MatMul (q_heads, normed)",
                )
            ],
            "Tanh stands between the key heads and the product",
        ),
        (
            [
                (
                    "v_heads = Transpose <perm = [0, 2, 1, 3]> (v_split)",
                    "v_wide = Expand (v_split, ones)\n v_again = Reshape (v_wide, split)\n"
                    "v_heads = Transpose <perm = [0, 2, 1, 3]> (v_again)",
                ),
            ],
            "value heads are repeated in a way that is not known",
        ),
        ([("MatMul (weights, v_heads)", "MatMul (v_heads, weights)")], "softmax is multiplied from the left"),
        (
            [
                (
                    "v_heads = Transpose <perm = [0, 2, 1, 3]> (v_split)",
                    "vs = Mul (v_split, half)\n  v_heads = Transpose <perm = [0, 2, 1, 3]> (vs)",
                )
            ],
            "values are scaled",
        ),
        (
            [("back = Transpose <perm = [0, 2, 1, 3]>", "back = Transpose <perm = [0, 1, 2, 3]>")],
            "heads are not put back",
        ),
        (
            [("back = Transpose <perm = [0, 2, 1, 3]> (weighed)", "back = Tanh (weighed)")],
            "Tanh follows the weighed values",
        ),
        ([("float[B,1,S,S] mask", "float[B,1,S,T] mask")], "what is added to the scores"),
        ([("float[B,1,S,S] mask", "float[S,S] mask")], "not four axes"),
        ([("float[B,1,S,S] mask", "float mask")], "not four axes"),
        (
            [("q_split = Reshape (q, split)", "dyn = Abs (split)\n q_split = Reshape (q, dyn)")],
            "shape of the query heads is not known",
        ),
    ],
)
def test_refuses_what_differs(
    fuse: GraphPass, edits: list[Edit], sentence: str, from_text: Callable[..., ir.Model]
) -> None:
    model = _build(from_text, *edits)
    nodes = [node.op_type for node in model.graph]

    result = fuse(model)

    assert result.rewrites == 0
    assert len(result.refusals) == 1
    assert sentence in result.refusals[0]
    assert [node.op_type for node in model.graph] == nodes
    assert dict(model.graph.opset_imports) == {"": 20}


def test_attention_moves_the_model_to_opset_23(from_text: Callable[..., ir.Model]) -> None:
    model = _build(from_text)

    FuseAttention()(model)

    assert dict(model.graph.opset_imports) == {"": 23}


@pytest.mark.parametrize("opset", [19, 24])
def test_attention_refuses_an_opset_it_does_not_know(opset: int, from_text: Callable[..., ir.Model]) -> None:
    model = _build(from_text, ('"" : 20', f'"" : {opset}'))

    result = FuseAttention()(model)

    assert (result.rewrites, dict(model.graph.opset_imports)) == (0, {"": opset})
    assert f"the graph is at opset {opset}" in result.refusals[0]


def test_attention_refuses_an_operator_that_changed_its_meaning(from_text: Callable[..., ir.Model]) -> None:
    model = _build(
        from_text,
        (
            "y = Reshape (back, merge)",
            "y = Reshape (back, merge)\n  z = GroupNormalization <num_groups = 2> (x, four, four)",
        ),
    )

    result = FuseAttention()(model)

    assert (result.rewrites, dict(model.graph.opset_imports)) == (0, {"": 20})
    assert "GroupNormalization changed its meaning" in result.refusals[0]


def test_attention_refuses_functions(from_text: Callable[..., ir.Model]) -> None:
    model = _build(from_text)
    helper = from_text('<ir_version: 10, opset_import: ["" : 20]> f (float[N] a) => (float[N] b) { b = Abs (a) }')
    model.functions[("local", "f", "")] = ir.Function("local", "f", "", graph=helper.graph, attributes=[])

    result = FuseAttention()(model)

    assert result.rewrites == 0
    assert "functions, whose opsets are their own" in result.refusals[0]


@pytest.mark.parametrize(
    ("fuse", "added"),
    [(FuseAttention(), ["Add", "Mul"]), (FuseMultiHeadAttention(), ["Add"])],
    ids=["23", "mha"],
)
def test_layers_share_what_is_added(fuse: GraphPass, added: list[str], from_text: Callable[..., ir.Model]) -> None:
    body = _GRAPH[_GRAPH.index("  q = ") : _GRAPH.rindex("}")]
    body = body.replace("masked = Add (scores, mask)", "biased = Add (scores, table)\n  masked = Add (biased, mask)")
    names = [
        "q_split",
        "k_split",
        "v_split",
        "q_heads",
        "k_heads",
        "v_heads",
        "product",
        "scores",
        "biased",
        "masked",
    ]
    second = body.replace("(x, ", "(y1, ")
    for name in [*names, "weights", "weighed", "back"]:
        second = (
            second.replace(f"{name} = ", f"{name}2 = ")
            .replace(f"({name}", f"({name}2")
            .replace(f", {name})", f", {name}2)")
        )
    for name in ("q", "k", "v"):
        second = second.replace(f"  {name} = ", f"  {name}2 = ").replace(f"({name},", f"({name}2,")
    first = body.replace("y = ", "y1 = ")
    text = _GRAPH[: _GRAPH.index("  q = ")] + first + second + "}"
    model = from_text(text, **_arrays())

    assert fuse(model).rewrites == 2

    kept = [node.op_type for node in model.graph if node.op_type in ("Add", "Mul")]
    assert kept == added
