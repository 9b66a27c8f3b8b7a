"""How many positions a run should have, by the widest matrix of the graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from stcompile.artifact import open_artifact
from stcompile.compiler.token_budget import token_budget
from stcompile.runtime.encoder import Encoder


def _graph(width: int, inputs: str = "float[B,S,8] x", rank: str = "B,S") -> ir.Model:
    text = f"""
    <ir_version: 10, opset_import: ["" : 20]>
    g ({inputs}) => (float[{rank},{width}] y) {{
      y = MatMul (x, w)
    }}
    """
    return ir.from_onnx_text(text, [ir.tensor(np.zeros((8, width), np.float32), name="w")])


@pytest.mark.parametrize(
    ("width", "positions"), [(64, 512), (1536, 512), (1600, 448), (3072, 256), (4096, 192), (16384, 128)]
)
def test_wider_graphs_get_fewer_positions(width: int, positions: int) -> None:
    assert token_budget(_graph(width)) == positions


def test_texts_behind_each_other_have_no_budget() -> None:
    assert token_budget(_graph(64, "float[B,S,8] x, int64[B] offsets")) is None


def test_a_graph_without_matrices_has_none() -> None:
    text = """
    <ir_version: 10, opset_import: ["" : 20]>
    g (float[B,S,8] x) => (float[B,S,8] y) {
      y = Neg (x)
    }
    """
    assert token_budget(ir.from_onnx_text(text)) is None


def test_the_runtime_takes_the_artifacts_budget(compiled: Callable[[str], Path]) -> None:
    artifact = open_artifact(compiled("full_stack"))
    texts = [f"number {number} of a few texts" for number in range(40)]

    def largest(budget: int | None) -> int:
        graphs = tuple(replace(graph, token_budget=budget) for graph in artifact.manifest.graphs)
        encoder = Encoder(replace(artifact, manifest=replace(artifact.manifest, graphs=graphs)), threads=1)
        route = encoder._routes[""]
        return max(feeds["input_ids"].size for _, feeds in route.batches(texts, None, None))

    assert artifact.manifest.graphs[0].token_budget == 512
    assert largest(None) == largest(512) > 64 >= largest(64)
