"""SparseAutoEncoder."""

from __future__ import annotations

from collections.abc import Iterator

from stcompile.compiler.kinds.base import Config, ModuleType, keep, sparse_paths
from stcompile.compiler.kinds.values import is_positive


def _normalized(config: Config) -> Config:
    return {"hidden_dim": 512, "k": 8, "normalize": False, **_KEPT(config)}


_KEPT = keep("input_dim", "hidden_dim", "k", "normalize")


def _problems(config: Config) -> Iterator[str]:
    for key in ("input_dim", "hidden_dim", "k"):
        if not is_positive(config.get(key)):
            yield f"its {key} is {config.get(key)!r}: it must be a positive whole number"
            return
    if config["k"] > config["hidden_dim"]:
        yield f"its k is {config['k']}, and there are {config['hidden_dim']} dimensions: correct its configuration"
    if not isinstance(config["normalize"], bool):
        yield "its normalize must be true or false"


KIND = ModuleType(
    "SparseAutoEncoder",
    "sparse_auto_encoder",
    further_paths=sparse_paths("SparseAutoEncoder", "sparse_auto_encoder"),
    normalized=_normalized,
    problems=_problems,
    # It is called with `max_active_dims`, which the runtime sees to.
    keywords="ignored",
)
