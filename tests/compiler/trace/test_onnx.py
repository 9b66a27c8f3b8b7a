"""What the exporter leaves behind, and what keeps it from running at all."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from stcompile.compiler.stack.load import load_stack
from stcompile.compiler.trace.onnx import trace
from stcompile.errors import MissingExtraError
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


def test_packages_that_do_not_fit_torch_are_not_the_models_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch 2.13 imports a module that onnxscript has since 0.6."""

    def export(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("No module named 'onnxscript._framework_apis.torch_2_11'")

    monkeypatch.setattr(torch.onnx, "export", export)
    with pytest.raises(MissingExtraError, match=r"torch_2_11.*pip install --upgrade 'stcompile\[compile\]'"):
        trace(load_stack(MODELS / "pool_mean").routes[""], ("sentence_embedding",), "model")
