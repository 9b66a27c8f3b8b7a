"""Every node of a graph for CUDA has a kernel there: what would stay on the CPU is arithmetic on shapes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from stcompile.compiler.passes import PIPELINES, PackTokens, run_pipeline
from stcompile.compiler.quantize.half import BFLOAT16, FLOAT16, ShortFloat, shorten
from stcompile.runtime.engines.onnxruntime_cuda import _MAY_STAY
from tests.conftest import Quick
from tests.cuda.placement import Placement, placed
from tests.cuda.test_packed import CASES as PACKED
from tests.tiers import marked

CASES = (
    *("full_stack", "backbone_albert", "backbone_t5", "backbone_modernbert", "backbone_qwen3_lasttoken"),
    *("backbone_deberta", "backbone_mpnet", "backbone_xlmr", "backbone_distilbert", "backbone_gpt2_absolute_positions"),
    *("pool_cls", "pool_cls_leftpad", "pool_cls_exclude_prompt", "pool_concat_all", "pool_max_exclude_prompt"),
    *("pool_weightedmean_exclude_prompt_leftpad", "weighted_layer_pooling", "clip_text", "cnn_over_transformer"),
    *("wordemb_cnn_stride", "wordemb_lstm_two_layer_bi", "wordemb_wordweights_mean", "transformer_wordweights"),
    *("dense_celu", "dense_mish", "dense_prelu", "dense_hardswish", "dense_logsigmoid", "dense_softmax"),
)
# Texts behind each other: a number of shapes is copied to the GPU, which no CUDA graph could hold.
FLAT = ("static", "static_normalize", "bow_dense_normalize", "model2vec_folder_int8")

# In each run of the tests: a network of each kind of attention, all modes of pooling, what stands before them, and an
# activation. The others are of the same operators but for an activation or a mode.
OFTEN = (
    "full_stack",
    "backbone_t5",
    "backbone_qwen3_lasttoken",
    "pool_concat_all",
    "wordemb_lstm_two_layer_bi",
    "static",
)
MORE = tuple(case for case in (*CASES, *FLAT) if case not in OFTEN)


def _graph(case: str, quick: Quick) -> ir.Model:
    artifact = quick(case, "onnx-fp32", provider="cuda")
    return ir.load(artifact.folder / artifact.manifest.graphs[0].file)


def _in(graph: ir.Model, number: ShortFloat) -> ir.Model:
    graph = graph.clone()
    shorten(graph, number)
    return graph


def _assert_on_gpu(found: Placement) -> None:
    assert [node.op_type for node in found.without_kernel] == []
    assert {node.op_type for node in found.on_cpu} <= _MAY_STAY


@pytest.mark.parametrize("case", marked([*CASES, *FLAT], MORE, pytest.mark.cuda_stand_in))
def test_only_arithmetic_on_shapes_stays_on_the_cpu(case: str, quick: Quick) -> None:
    graph = _graph(case, quick)
    for model in (graph, _in(graph, FLOAT16), _in(graph, BFLOAT16)):
        found = placed(model)
        _assert_on_gpu(found)
        # a copy in the middle of a run is what CUDA graphs cannot hold
        assert case in FLAT or not found.copied


@pytest.mark.parametrize("case", [pytest.param("siglip", marks=pytest.mark.cuda_stand_in), "clip_text"])
def test_only_arithmetic_on_shapes_stays_on_the_cpu_for_images(case: str, quick: Quick) -> None:
    artifact = quick(case, "onnx-fp32", provider="cuda")
    assert artifact.manifest.image is not None
    graph = ir.load(artifact.folder / artifact.manifest.image.graph.file)
    for model in (graph, _in(graph, FLOAT16), _in(graph, BFLOAT16)):
        found = placed(model)
        _assert_on_gpu(found)
        assert not found.copied


@pytest.mark.parametrize("case", marked(PACKED, PACKED[2:], pytest.mark.cuda_stand_in))
def test_packed_graphs_too(case: str, quick: Quick) -> None:
    graph, records = run_pipeline(_graph(case, quick), [PackTokens(), PIPELINES["cuda"][-1]])
    assert records[0].rewrites
    half = _in(graph, FLOAT16)
    for model in (graph, half):
        found = placed(model)
        _assert_on_gpu(found)
        assert not found.copied
    made = {value.dtype for node in half.graph if "Padding" in node.op_type for value in node.outputs}
    assert made == {ir.DataType.FLOAT16, ir.DataType.INT32}


def test_the_table_can_fail() -> None:
    """Integers have no ArgMax there: what CLS pooling had, and every GPU would have refused."""
    x, y = ir.val("x", ir.DataType.INT32, [2, 3]), ir.val("y", ir.DataType.INT64, [2])
    node = ir.node("ArgMax", [x], attributes={"axis": 1, "keepdims": 0}, outputs=[y])
    found = placed(ir.Model(ir.Graph([x], [y], nodes=[node], opset_imports={"": 20}), ir_version=10))
    assert found.without_kernel == found.on_cpu == (node,)


def test_what_a_gpu_makes_and_the_cpu_needs_is_copied() -> None:
    """As a length that is counted on the GPU and then the end of a Range."""
    x = ir.val("x", ir.DataType.INT64, ["batch"])
    zero, one = (ir.val(f"i{n}", const_value=ir.tensor(np.array(n), name=f"i{n}")) for n in (0, 1))
    for value in (zero, one):
        value.dtype = ir.DataType.INT64
    total = ir.node("ReduceSum", [x], attributes={"keepdims": 0})
    places = ir.node("Range", [zero, total.outputs[0], one])
    for made in (*total.outputs, *places.outputs):
        made.dtype = ir.DataType.INT64
    graph = ir.Graph([x], places.outputs, nodes=[total, places], initializers=[zero, one], opset_imports={"": 20})
    assert placed(ir.Model(graph, ir_version=10)).copied == tuple(total.outputs)


def test_what_reads_shapes_alone_stays_and_is_copied() -> None:
    """As a scalar from a shape that is added to a large tensor."""
    ids = ir.val("ids", ir.DataType.INT64, ["batch", "sequence"])
    table = ir.val("table", const_value=ir.tensor(np.zeros((20, 8), dtype=np.int64), name="table"))
    shape = ir.node("Shape", [ids])
    total = ir.node("ReduceMax", [shape.outputs[0]], attributes={"keepdims": 0})
    rows = ir.node("Gather", [table, ids])
    added = ir.node("Add", [rows.outputs[0], total.outputs[0]])
    for value in (*shape.outputs, *total.outputs, *rows.outputs, *added.outputs):
        value.dtype = ir.DataType.INT64
    graph = ir.Graph(
        [ids], added.outputs, nodes=[shape, total, rows, added], initializers=[table], opset_imports={"": 20}
    )
    found = placed(ir.Model(graph, ir_version=10))
    assert found.on_cpu == (total,)
    assert found.copied == tuple(total.outputs)
