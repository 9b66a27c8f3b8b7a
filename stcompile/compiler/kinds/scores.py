"""Scores: the activation of a reranker, which no module of its folder is, but its settings name."""

from __future__ import annotations

from collections.abc import Iterator

from stcompile.compiler.kinds.base import Config, ModuleType
from stcompile.compiler.kinds.dense import ACTIVATION_NAMES, is_activation


def _problems(config: Config) -> Iterator[str]:
    path = config["activation_fn"]
    if not is_activation(path):
        yield (
            f"the activation of its scores is {path!r}, not one of torch.nn's ({', '.join(ACTIVATION_NAMES)}), and "
            "sentence-transformers would take another in its place: name the one it was trained with"
        )


KIND = ModuleType("Scores", "scores", problems=_problems)
