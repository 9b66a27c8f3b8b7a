"""float16 judged in float16: what the CPU engine, which computes in float32, cannot see."""

from __future__ import annotations

import functools
import re
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch

from stcompile.artifact.target import Target
from stcompile.compiler import export
from stcompile.compiler.parity.half import judge_half
from stcompile.compiler.passes import CleanGraph, run_pipeline
from stcompile.compiler.quantize.half import BFLOAT16, FLOAT16, ShortFloat, _Converter, convert_to_half
from stcompile.compiler.quantize.job import QuantizationJob
from stcompile.compiler.stack.route import Route
from stcompile.errors import ParityError
from tests.conftest import MODELS

pytestmark = pytest.mark.usefixtures("traced_once")

TOLERANCES = {FLOAT16: Target.parse("onnx-fp16").tolerance, BFLOAT16: Target.parse("onnx-bf16").tolerance}
LARGEST = float(np.finfo(np.float16).max)

# Networks with RMS norms, with rotary and with relative positions, with neither.
FAMILIES = [
    "backbone_gemma3_windows",
    "backbone_t5",
    *(
        pytest.param(name, marks=pytest.mark.more_models)
        for name in ("backbone_gemma3_text_bidirectional", "backbone_deberta")
    ),
]


@functools.cache
def _loaded(name: str) -> tuple[ir.Model, Route, ir.Value, Any]:
    """A network's graph and its route, and in either the table of embeddings, as they are."""
    steps: Any = export
    route = steps.load_stack(MODELS / name).routes[""]
    graph = steps.trace(route, ("sentence_embedding",), "model")
    weight: Any = route.front.network.get_input_embeddings().weight
    (table,) = (
        value
        for value in graph.graph.initializers.values()
        if value.const_value is not None
        and value.const_value.shape.numpy() == tuple(weight.shape)
        and np.array_equal(value.const_value.numpy(), weight.detach().numpy())
    )
    return graph, route, table, (weight, weight.detach().clone())


def traced(name: str, scale: float) -> tuple[ir.Model, Route]:
    """A network whose embeddings are scaled, and its graph, which may be changed."""
    graph, route, table, (weight, original) = _loaded(name)
    with torch.no_grad():
        weight.copy_(original * scale)
    table.const_value = ir.tensor((original * scale).numpy(), name=table.name)
    return graph.clone(), route


def judged(name: str, scale: float = 1.0, number: ShortFloat = FLOAT16) -> str:
    graph, route = traced(name, scale)
    return judge_half(graph, route, TOLERANCES[number], "model", number)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_network_is_right_in_float16(name: str) -> None:
    assert re.search(r"9 texts, min cosine (0\.9999|1)", judged(name))


@pytest.mark.more_models
def test_a_root_mean_square_above_256_is_no_infinity() -> None:
    # Squares of more than 65,504: a norm cast to float16 before its root is infinite here.
    _, route = traced("backbone_gemma3_text_bidirectional", 2000.0)
    embedded: Any = route.front.network.get_input_embeddings()  # type: ignore[union-attr, operator]
    assert 256 < float(embedded(torch.tensor([[5]])).detach().pow(2).mean().sqrt()) < LARGEST / 8
    assert re.search(r"9 texts, min cosine (0\.9999|1)", judged("backbone_gemma3_text_bidirectional", 2000.0))


def test_a_value_beyond_float16_is_refused() -> None:
    with pytest.raises(ParityError, match=r"a value of the network is \d+, and float16 ends at 65504.*Nothing was"):
        judged("backbone_gemma3_text_bidirectional", 1e6)


@pytest.mark.more_models
def test_it_is_right_in_bfloat16() -> None:
    said = judged("backbone_gemma3_text_bidirectional", 1e6, BFLOAT16)
    found = re.fullmatch(r"bfloat16 was judged .* min cosine (\S+); the largest number was (\S+) of 3.38953e\+38", said)
    assert found is not None
    assert float(found[1]) > TOLERANCES[BFLOAT16].min_cosine
    assert float(found[2]) > LARGEST


def test_the_judge_sees_norms_in_float16(monkeypatch: pytest.MonkeyPatch) -> None:
    # As a converter that knows of no norms has it.
    monkeypatch.setattr(_Converter, "_is_statistic", lambda self, value: False)
    real = _Converter.computes_in_half
    monkeypatch.setattr(_Converter, "computes_in_half", lambda self, node: node.op_type == "Add" or real(self, node))
    with pytest.raises(ParityError, match="cannot be computed in float16"):
        judged("backbone_gemma3_text_bidirectional", 2000.0)


@pytest.mark.parametrize("name", FAMILIES)
def test_weights_are_halved_and_norms_and_angles_are_not(name: str) -> None:
    graph, _ = run_pipeline(traced(name, 1.0)[0], (CleanGraph(),))
    matmuls = sum(node.op_type in ("MatMul", "Gemm") for node in graph.graph)
    summary = convert_to_half(graph, QuantizationJob(""))
    assert summary.matmuls == matmuls
    large = [value for value in graph.graph.initializers.values() if value.const_value and value.const_value.size > 64]
    assert {value.const_value.dtype for value in large if value.const_value} <= {ir.DataType.FLOAT16, ir.DataType.INT64}
    for node in graph.graph:
        inputs = {value.dtype for value in node.inputs if value is not None}
        if node.op_type in ("ReduceMean", "Pow", "Sqrt", "Reciprocal", "Cos", "Sin", "Softmax", "Log"):
            assert ir.DataType.FLOAT16 not in inputs, node.op_type
    # Epsilon is added to a mean in float32.
    for node in graph.graph:
        if node.op_type == "Sqrt":
            added = node.inputs[0].producer() if node.inputs[0] is not None else None
            assert added is not None
            assert added.outputs[0].dtype == ir.DataType.FLOAT
