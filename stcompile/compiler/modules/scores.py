"""Scores: the last step of a reranker, logits to scores."""

from __future__ import annotations

from torch import nn

from stcompile.artifact.manifest import LOGITS, SCORES
from stcompile.compiler.modules.base import Features, Module
from stcompile.compiler.modules.dense import applied, build_activation


class Scores(Module):
    """Applies an activation to `scores` `(batch, labels)`, and leaves what they were as `logits`.

    What `CrossEncoder.predict` does after the last module: activations are chosen there, not by a module.

    Args:
        activation_fn: dotted path of one of torch.nn's activations.
    """

    config_keys = ("activation_fn",)
    reads = writes = SCORES

    def __init__(self, activation_fn: str) -> None:
        super().__init__()
        self.activation_fn = activation_fn
        self._activation = build_activation(activation_fn)

    @property
    def is_identity(self) -> bool:
        """Whether scores are the logits themselves."""
        return isinstance(self._activation, nn.Identity)

    def forward(self, features: Features) -> Features:
        logits = features[SCORES]
        return {**features, LOGITS: logits, SCORES: applied(self._activation, logits)}
