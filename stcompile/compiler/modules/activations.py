"""Activations a Dense may name: a fixed table of torch.nn classes, never an import from a string."""

from __future__ import annotations

from torch import nn

from stcompile.compiler.kinds.dense import ACTIVATION_NAMES

# Built without arguments on purpose: a folder stores only the class, so sentence-transformers reloads
# GELU('tanh') as the exact GELU and LeakyReLU(0.5) with slope 0.01 (module-stack spec, section 7.1).
ACTIVATIONS: dict[str, type[nn.Module]] = {name: getattr(nn, name) for name in ACTIVATION_NAMES}


def build_activation(path: str) -> nn.Module:
    """The activation a checked dotted path names.

    `Softmax` and its like get the last axis: without one torch guesses it, and only for a matrix is that the last.
    """
    kind = ACTIVATIONS[path.rpartition(".")[2]]
    return kind(dim=-1) if kind in (nn.Softmax, nn.Softmin, nn.LogSoftmax) else kind()


def activation_path(activation: nn.Module) -> str:
    """The dotted path under which sentence-transformers stores an activation."""
    kind = type(activation)
    return f"{kind.__module__}.{kind.__qualname__}"
