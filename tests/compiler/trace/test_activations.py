"""Every activation of Dense, one behind the other: a graph for each golden of them is of the slow tiers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import stcompile
from stcompile.compiler.export import export_model
from stcompile.compiler.kinds.dense import ACTIVATION_NAMES
from stcompile.compiler.modules import Dense
from stcompile.compiler.modules.dense import build_activation
from stcompile.compiler.stack.load import load_stack
from stcompile.compiler.stack.module_stack import ModuleStack
from stcompile.compiler.stack.save import save_stack
from tests.conftest import MODELS

TEXTS = ["hello", "", "a longer text about nothing", "Hello World", "7 8 9", "one more", "the last one"]

# Of a component, on rows of length 1. Measured: 1.2e-7.
ROUNDING = 1e-6


@pytest.mark.more_models
@pytest.mark.usefixtures("traced_once")
def test_every_activation_in_one_graph(tmp_path: Path) -> None:
    """Each adds to what it gets, so that none is hidden by one that makes zeros of it."""
    from sentence_transformers import SentenceTransformer

    torch.manual_seed(3)
    base = load_stack(MODELS / "pool_mean")
    width = base.dim
    layers = [
        Dense(width, width, activation_function=build_activation(name), use_residual=True) for name in ACTIVATION_NAMES
    ]
    with torch.no_grad():
        for layer in layers:
            # So wide that every branch of every activation is met.
            layer.linear.bias.normal_(0, 3)
    save_stack(ModuleStack([*base.routes[""].blocks, *layers]), tmp_path / "model")
    expected = SentenceTransformer(str(tmp_path / "model"), device="cpu").encode(TEXTS)
    artifact = export_model(tmp_path / "model", tmp_path / "artifact", "onnx-fp32", texts=TEXTS)
    found = stcompile.load(artifact.folder).encode(TEXTS)
    lengths = np.linalg.norm(expected, axis=1, keepdims=True)
    assert (np.abs(found - expected) / lengths).max() <= ROUNDING
    # What one layer adds is far above that, whichever it is.
    for layer in layers:
        assert np.abs(layer.activation_function(torch.linspace(-9, 9, 99)).detach().numpy()).max() > 0.1
