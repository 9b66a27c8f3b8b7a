"""What the exporter leaves behind."""

from __future__ import annotations

import gc
import weakref

import torch

from stcompile.compiler.stack.load import load_stack
from stcompile.compiler.trace.onnx import trace
from tests.conftest import MODELS


def test_the_weights_go_with_the_network_and_its_graph() -> None:
    """What stays would lie beside the reference's own network while parity is judged."""
    stack = load_stack(MODELS / "pool_mean")
    weights = [weakref.ref(weight) for weight in stack.parameters()]
    graph = trace(stack.routes[""], ("sentence_embedding",), "model")
    assert len(graph.graph.initializers) > 10
    assert all(isinstance(weight(), torch.Tensor) for weight in weights)
    del graph, stack
    gc.collect()
    assert [weight() for weight in weights if weight() is not None] == []
