"""Dense layers: every activation, and every key of the config."""

from __future__ import annotations

from functools import partial
from typing import Any

from sentence_transformers.sentence_transformer import modules
from torch import nn

from golden.generate.backbones import HIDDEN
from golden.generate.builder import FolderBuilder
from golden.generate.case import Case

CONFIG = "2_Dense/config.json"

# Only the path of the class is stored: these reload with the defaults of their constructor.
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "identity": nn.Identity,
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "leakyrelu": nn.LeakyReLU,
    "softplus": nn.Softplus,
    "mish": nn.Mish,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "celu": nn.CELU,
    "softsign": nn.Softsign,
    "hardtanh": nn.Hardtanh,
    "logsigmoid": nn.LogSigmoid,
    "tanhshrink": nn.Tanhshrink,
    "hardshrink": nn.Hardshrink,
    "softshrink": nn.Softshrink,
    "rrelu": nn.RReLU,
}


# Bend so far from zero that ordinary weights would only ever reach one side.
FAR_BENDS: dict[str, type[nn.Module]] = {
    "relu6": nn.ReLU6,
    "hardswish": nn.Hardswish,
    "hardsigmoid": nn.Hardsigmoid,
}


def dense(builder: FolderBuilder, activation: type[nn.Module], gain: float = 1.0, **kwargs: Any) -> None:
    """Transformer, Pooling, Dense; the gain stretches the weights."""
    transformer = builder.transformer()
    layer = builder.dense(HIDDEN, 24, activation(), **kwargs)
    layer.linear.weight.data.mul_(gain)
    builder.save([transformer, builder.pooling(), layer])


def two(builder: FolderBuilder) -> None:
    builder.save(
        [
            builder.transformer(),
            builder.pooling(),
            builder.dense(HIDDEN, 48, nn.GELU()),
            builder.dense(48, 20, nn.Identity(), bias=False),
            modules.Normalize(),
        ]
    )


def old_activation_path(builder: FolderBuilder) -> None:
    builder.save(
        [
            builder.transformer(),
            builder.pooling(),
            builder.dense(HIDDEN, 24),
            builder.dense(24, 24, nn.Identity()),
        ]
    )
    builder.edit(CONFIG, lambda config: {**config, "activation_function": "torch.nn.Tanh"})


def untrusted_activation(builder: FolderBuilder) -> None:
    dense(builder, nn.Identity)
    path = "some_package.activations.Custom"
    builder.edit(CONFIG, lambda config: {**config, "activation_function": path})


def missing_activation_key(builder: FolderBuilder) -> None:
    dense(builder, nn.Identity)

    def change(config: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in config.items() if key != "activation_function"}

    builder.edit(CONFIG, change)


def activation_arguments_lost(builder: FolderBuilder) -> None:
    builder.save(
        [
            builder.transformer(),
            builder.pooling(),
            builder.dense(HIDDEN, 24, nn.GELU(approximate="tanh")),
            builder.dense(24, 16, nn.LeakyReLU(0.5)),
        ]
    )


def token_level(builder: FolderBuilder) -> None:
    transformer = builder.transformer()
    over_tokens = builder.dense(HIDDEN, 16, nn.GELU(), module_input_name="token_embeddings")
    builder.save([transformer, over_tokens, builder.pooling(width=16)])


def separate_output(builder: FolderBuilder) -> None:
    transformer = builder.transformer()
    aside = builder.dense(HIDDEN, 8, module_output_name="extra")
    builder.save([transformer, builder.pooling(), aside])


def residual(builder: FolderBuilder) -> None:
    builder.save(
        [
            builder.transformer(),
            builder.pooling(),
            builder.dense(HIDDEN, HIDDEN, use_residual=True),
            builder.dense(HIDDEN, 24, nn.GELU(), use_residual=True),
        ]
    )


CASES: dict[str, Case] = {
    **{
        f"dense_{name}": Case(f"Dense with {activation.__name__}", partial(dense, activation=activation))
        for name, activation in ACTIVATIONS.items()
    },
    **{
        f"dense_{name}": Case(f"Dense with {activation.__name__}", partial(dense, activation=activation, gain=6.0))
        for name, activation in FAR_BENDS.items()
    },
    "dense_tanh_nobias": Case("Dense without a bias", partial(dense, activation=nn.Tanh, bias=False)),
    "dense_identity_nobias": Case(
        "Dense that is a matrix product and nothing else",
        partial(dense, activation=nn.Identity, bias=False),
    ),
    "dense_prelu": Case(
        "an activation with a parameter, stored as activation_function.weight",
        partial(dense, activation=nn.PReLU),
    ),
    "dense_softmax": Case(
        "Softmax without a dimension: the last one of a matrix", partial(dense, activation=nn.Softmax)
    ),
    "dense_softmin": Case("Softmin without a dimension", partial(dense, activation=nn.Softmin)),
    "dense_logsoftmax": Case("LogSoftmax without a dimension", partial(dense, activation=nn.LogSoftmax)),
    "dense_two": Case("two Dense in a row, then Normalize", two),
    "dense_old_activation_path": Case(
        "the activation stored as torch.nn.Tanh, and as torch.nn.modules.linear.Identity",
        old_activation_path,
    ),
    "dense_untrusted_activation": Case(
        "an activation path outside torch: Tanh, unless remote code is trusted", untrusted_activation
    ),
    "dense_missing_activation_key": Case("no key activation_function: Tanh", missing_activation_key),
    "dense_activation_arguments_lost": Case(
        "GELU('tanh') and LeakyReLU(0.5) reload with the defaults of their constructors",
        activation_arguments_lost,
    ),
    "dense_token_level": Case("Dense on token_embeddings before pooling", token_level),
    "dense_separate_output": Case("Dense that writes another key: the embedding itself is unchanged", separate_output),
    "dense_residual": Case("Dense with a residual connection, square and projected", residual),
}
