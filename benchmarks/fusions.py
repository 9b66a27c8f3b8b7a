"""What do the GPU fusions of other libraries find in the graphs that we trace, and do they keep the numbers?

A count, the same on every machine: each golden network is traced once and goes through our CUDA pipeline, through
`onnxruntime.transformers.optimizer` and through onnxscript's `optimize_for_ort`. Fused operators are counted, and the
fused graph is run on CPU with the engine's own optimizer off, next to the traced one.
"""

from __future__ import annotations

import collections
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._common import REPOSITORY, limit_threads, machine_facts, parser, print_table, run, write_json

NETWORKS = (
    *("full_stack", "backbone_roberta", "backbone_distilbert", "backbone_mpnet", "backbone_albert"),
    *("backbone_electra", "backbone_t5", "backbone_deberta", "backbone_modernbert", "backbone_qwen3_lasttoken"),
)
_BATCH, _SEQUENCE = 3, 9


def main() -> int:
    arguments = parser(__doc__, "python -m benchmarks.fusions").parse_args()
    limit_threads(1)
    logging.disable(logging.CRITICAL)
    machine = machine_facts()
    results = [row for name in NETWORKS for row in _rows(name)]
    print_table(
        "fused operators",
        ("network", "library", "attention", "skip + norm", "gelu", "nodes", "max abs error"),
        [
            (
                item["network"],
                item["library"],
                *(str(item["fused"].get(kind, 0)) for kind in _KINDS),
                f"{item['nodes']} of {item['traced_nodes']}",
                f"{item['max_abs_error']:.1e}",
            )
            for item in results
        ],
    )
    write_json(arguments.json, "fusions", machine, {"batch": _BATCH, "sequence": _SEQUENCE}, results)
    return 0


_KINDS = {
    "attention": ("Attention", "MultiHeadAttention"),
    "norm": ("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", "EmbedLayerNormalization"),
    "gelu": ("BiasGelu", "FastGelu"),
}


def _rows(name: str) -> list[dict[str, Any]]:
    import onnx_ir as ir  # noqa: PLC0415 - torch: its threads must be set before

    from stcompile.compiler.stack.load import load_stack  # noqa: PLC0415
    from stcompile.compiler.trace.onnx import trace  # noqa: PLC0415

    stack = load_stack(REPOSITORY / "golden" / "models" / name)
    route = next(iter(stack.routes.values()))
    network: Any = route.blocks[0].network
    traced = trace(route, ("sentence_embedding",), name)
    rows = []
    with tempfile.TemporaryDirectory() as base:
        source = Path(base) / "traced.onnx"
        ir.save(traced, source)
        feeds = _feeds(traced)
        expected = _run(source, feeds)
        for library, fuse in _LIBRARIES.items():
            fused = fuse(source, network.config)
            place = Path(base) / "fused.onnx"
            ir.save(fused, place)
            found = collections.Counter(node.op_type for node in fused.graph if node.domain == "com.microsoft")
            rows.append(
                {
                    "network": name,
                    "library": library,
                    "fused": {kind: sum(found[op] for op in names) for kind, names in _KINDS.items()},
                    "operators": dict(found),
                    "nodes": len(fused.graph),
                    "traced_nodes": len(traced.graph),
                    "max_abs_error": float(np.abs(_run(place, feeds) - expected).max()),
                }
            )
    return rows


def _ours(source: Path, config: Any) -> Any:
    import onnx_ir as ir  # noqa: PLC0415 - torch: its threads must be set before

    from stcompile.compiler.passes import pipeline_for, run_pipeline  # noqa: PLC0415

    return run_pipeline(ir.load(source), pipeline_for("cuda"))[0]


def _onnxruntime(source: Path, config: Any) -> Any:
    import onnx_ir as ir  # noqa: PLC0415 - torch: its threads must be set before
    from onnxruntime.transformers import optimizer  # noqa: PLC0415

    shape = {"num_heads": config.num_attention_heads, "hidden_size": config.hidden_size}
    found = optimizer.optimize_model(str(source), model_type="bert", opt_level=0, use_gpu=True, **shape)
    place = source.with_name("onnxruntime.onnx")
    found.save_model_to_file(str(place))
    return ir.load(place)


def _onnxscript(source: Path, config: Any) -> Any:
    import onnx_ir as ir  # noqa: PLC0415 - torch: its threads must be set before
    from onnxscript.rewriter.ort_fusions import optimize_for_ort  # noqa: PLC0415

    return optimize_for_ort(ir.load(source))[0]


_LIBRARIES: dict[str, Callable[[Path, Any], Any]] = {
    "stcompile": _ours,
    "onnxruntime.transformers": _onnxruntime,
    "onnxscript": _onnxscript,
}


def _feeds(model: Any) -> dict[str, Any]:
    numbers = np.random.default_rng(0)
    mask = np.ones((_BATCH, _SEQUENCE), np.int64)
    mask[1, 6:] = 0
    known = {"input_ids": numbers.integers(5, 60, mask.shape), "attention_mask": mask}
    return {item.name: known.get(item.name, np.zeros_like(mask)) for item in model.graph.inputs}


def _run(path: Path, feeds: dict[str, Any]) -> Any:
    import onnxruntime  # noqa: PLC0415 - its threads must be set before

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = {item.name for item in session.get_inputs()}
    return session.run(None, {name: value for name, value in feeds.items() if name in names})[0]


if __name__ == "__main__":
    run(main)
