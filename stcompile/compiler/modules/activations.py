"""Activations a Dense may name: a fixed table of torch.nn classes, never an import from a string."""

from __future__ import annotations

from torch import nn

# Built without arguments on purpose: a folder stores only the class, so sentence-transformers reloads
# GELU('tanh') as the exact GELU and LeakyReLU(0.5) with slope 0.01 (module-stack spec, section 7.1).
ACTIVATIONS: dict[str, type[nn.Module]] = {
    kind.__name__: kind
    for kind in (
        nn.CELU,
        nn.ELU,
        nn.GELU,
        nn.Hardshrink,
        nn.Hardsigmoid,
        nn.Hardswish,
        nn.Hardtanh,
        nn.Identity,
        nn.LeakyReLU,
        nn.LogSigmoid,
        nn.LogSoftmax,
        nn.Mish,
        nn.PReLU,
        nn.ReLU,
        nn.ReLU6,
        nn.SELU,
        nn.Sigmoid,
        nn.SiLU,
        nn.Softmax,
        nn.Softmin,
        nn.Softplus,
        nn.Softshrink,
        nn.Softsign,
        nn.Tanh,
        nn.Tanhshrink,
    )
}


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
