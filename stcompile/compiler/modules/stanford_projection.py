"""The linear layer of ColBERT's own folders: a `Dense` of token embeddings whose weights lie beside the network's."""

from __future__ import annotations

from torch import nn

from stcompile.artifact.manifest import TOKENS
from stcompile.compiler.modules.base import SavedModule
from stcompile.compiler.modules.dense import Dense
from stcompile.compiler.modules.weights import read_state
from stcompile.errors import ModelFolderError

_WEIGHT = "linear.weight"


class StanfordProjection(Dense):
    """`x W^T` of each token (module-stack spec, section 16)."""

    @classmethod
    def build(cls, saved: SavedModule) -> Dense:  # type: ignore[override]  # a Dense like every other
        weight = read_state(saved.home).get(_WEIGHT)
        if weight is None or weight.ndim != 2:
            raise ModelFolderError(f"{saved.home} has no matrix {_WEIGHT} among its weights: copy the model again")
        width, hidden = weight.shape
        return Dense(
            hidden,
            width,
            bias=False,
            activation_function=nn.Identity(),
            init_weight=weight.float(),
            module_input_name=TOKENS,
        )
