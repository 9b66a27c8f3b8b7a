"""Dense: a linear layer with an activation, on the pooled vector or on token embeddings."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from torch import Tensor, nn
from torch.nn import functional

from stcompile.artifact.manifest import SENTENCE
from stcompile.compiler.kinds.dense import ACTIVATION_NAMES
from stcompile.compiler.modules.base import Features, Module
from stcompile.errors import InputError

# What a Dense may name, never an import from a string. Built without arguments on purpose: a folder stores only the
# class, so sentence-transformers reloads GELU('tanh') as the exact GELU and LeakyReLU(0.5) with slope 0.01 (spec
# section 7.1).
ACTIVATIONS: dict[str, type[nn.Module]] = {name: getattr(nn, name) for name in ACTIVATION_NAMES}


class Dense(Module):
    """`activation(x W^T + b)`, optionally plus the (projected) input (spec section 7.1).

    Args:
        in_features: width of the input.
        out_features: width of the output.
        bias: whether the linear layer has a bias.
        activation_function: an instance of a torch.nn activation; None is the identity. Only its class is
            stored, so constructor arguments are lost on reload, as in sentence-transformers.
        init_weight: `(out_features, in_features)` to start from.
        init_bias: `(out_features,)` to start from.
        module_input_name: feature to read.
        module_output_name: feature to write; None writes the input's.
        use_residual: add the input after the activation, through a bias-free linear layer when the widths
            differ (sentence-transformers 6.0+).

    Raises:
        InputError: the activation is not one of the known torch.nn classes.
    """

    has_weights: ClassVar[bool] = True

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        activation_function: nn.Module | None = nn.Tanh(),  # noqa: B008 - stateless, the field's default
        init_weight: Tensor | None = None,
        init_bias: Tensor | None = None,
        module_input_name: str = SENTENCE,
        module_output_name: str | None = None,
        use_residual: bool = False,
    ) -> None:
        super().__init__()
        activation = nn.Identity() if activation_function is None else activation_function
        if ACTIVATIONS.get(type(activation).__name__) is not type(activation):
            raise InputError(f"{type(activation).__name__} is not a torch.nn activation that Dense can store")
        self.in_features = in_features
        self.out_features = out_features
        self.bias = bias
        self.activation_function = activation
        self.linear = nn.Linear(in_features, out_features, bias=bias)
        self.reads = module_input_name
        self.writes = module_output_name or module_input_name
        self.use_residual = use_residual
        self.residual: nn.Linear | None = None
        if use_residual and in_features != out_features:
            self.residual = nn.Linear(in_features, out_features, bias=False)
        if init_weight is not None:
            self.linear.weight = nn.Parameter(init_weight)
        if init_bias is not None and bias:
            self.linear.bias = nn.Parameter(init_bias)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        path = config.get("activation_function", "torch.nn.modules.activation.Tanh")
        return cls(**{**config, "activation_function": build_activation(path)})

    def forward(self, features: Features) -> Features:
        value = features[self.reads]
        result = applied(self.activation_function, self.linear(value))
        if self.use_residual:
            result = result + (value if self.residual is None else self.residual(value))
        return {**features, self.writes: result}

    def get_config(self) -> dict[str, Any]:
        config: dict[str, Any] = {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "bias": self.bias,
            "activation_function": _activation_path(self.activation_function),
        }
        # Releases before 5.4 (names) and 6.0 (residual) refuse keys they do not know.
        if self.reads != SENTENCE or self.writes != self.reads:
            config |= {"module_input_name": self.reads, "module_output_name": self.writes}
        if self.use_residual:
            config["use_residual"] = True
        return config

    @property
    def in_width(self) -> int:
        return self.in_features

    def out_width(self, in_width: int) -> int:
        return self.out_features


def applied(activation: nn.Module, value: Tensor) -> Tensor:
    """What an activation makes of numbers, outside training, in operators that can be exported."""
    if isinstance(activation, nn.RReLU):
        # Its slope is drawn in training, and the middle of its range otherwise.
        return functional.leaky_relu(value, (activation.lower + activation.upper) / 2)
    result: Tensor = activation(value)
    return result


def build_activation(path: str) -> nn.Module:
    """The activation a checked dotted path names.

    `Softmax` and its like get the last axis: without one torch guesses it, and only for a matrix is that the last.
    """
    kind = ACTIVATIONS[path.rpartition(".")[2]]
    return kind(dim=-1) if kind in (nn.Softmax, nn.Softmin, nn.LogSoftmax) else kind()


def _activation_path(activation: nn.Module) -> str:
    """The dotted path under which sentence-transformers stores an activation."""
    kind = type(activation)
    return f"{kind.__module__}.{kind.__qualname__}"
