"""LSTM."""

from __future__ import annotations

from collections.abc import Iterator

from stcompile.compiler.kinds.base import Config, ModuleType, keep
from stcompile.compiler.kinds.values import not_a_share, not_positive


def _problems(config: Config) -> Iterator[str]:
    yield from not_positive({"num_layers": 1, **config}, "embedding_dimension", "hidden_dim", "num_layers")
    yield from not_a_share(config, "dropout", 0)
    if not isinstance(config.get("bidirectional", True), bool):
        yield "its bidirectional must be true or false"


KIND = ModuleType(
    "LSTM",
    "lstm",
    config_files=("lstm_config.json",),
    normalized=keep(
        *("hidden_dim", "num_layers", "dropout", "bidirectional"), embedding_dimension="word_embedding_dimension"
    ),
    problems=_problems,
)
