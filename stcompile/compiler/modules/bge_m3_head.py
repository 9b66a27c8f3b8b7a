"""A linear layer of bge-m3's folders: a `Dense` of token embeddings whose weights are a file in the model's root."""

from __future__ import annotations

from stcompile.compiler.modules.base import SavedModule
from stcompile.compiler.modules.dense import Dense, build_activation
from stcompile.compiler.modules.weights import read_pickled
from stcompile.errors import ModelFolderError


class BgeM3Head(Dense):
    """`relu(x W^T + b)` of each token is its weight, `x W^T + b` its vector, as in FlagEmbedding's `BGEM3FlagModel`."""

    @classmethod
    def build(cls, saved: SavedModule) -> Dense:  # type: ignore[override]  # a Dense like every other
        config = {**saved.entry.config}
        path = saved.folder.inside(config.pop("file"))
        state = read_pickled(path)
        weight, bias = state.get("weight"), state.get("bias")
        if weight is None or weight.ndim != 2 or (bias is not None and bias.shape != weight.shape[:1]):
            raise ModelFolderError(f"{path} is not one linear layer, a weight and a bias: copy the model again")
        width, hidden = weight.shape
        return Dense(
            hidden,
            width,
            bias=bias is not None,
            init_weight=weight.float(),
            init_bias=None if bias is None else bias.float(),
            **{**config, "activation_function": build_activation(config["activation_function"])},
        )
