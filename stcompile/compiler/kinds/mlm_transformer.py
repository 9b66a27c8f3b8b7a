"""MLMTransformer: what sparse encoders called a Transformer with the head of its masked language model until 5.4."""

from __future__ import annotations

import dataclasses

from stcompile.compiler.kinds import transformer
from stcompile.compiler.kinds.base import Config, sparse_paths


def _normalized(config: Config) -> Config:
    return transformer.KIND.normalized({"transformer_task": transformer.FILLS, **config})


KIND = dataclasses.replace(
    transformer.KIND,
    name="MLMTransformer",
    file="mlm_transformer",
    further_paths=sparse_paths("MLMTransformer", "mlm_transformer"),
    builder="transformer:Transformer",
    normalized=_normalized,
)
