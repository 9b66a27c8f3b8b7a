"""SpladePooling."""

from __future__ import annotations

from collections.abc import Iterator

from stcompile.compiler.kinds.base import Config, ModuleType, keep, sparse_paths

STRATEGIES = ("max", "sum")
ACTIVATIONS = ("relu", "log1p_relu")


def _problems(config: Config) -> Iterator[str]:
    for key, known in (("pooling_strategy", STRATEGIES), ("activation_function", ACTIVATIONS)):
        if config.get(key, known[0]) not in known:
            yield f"its {key} is {config[key]!r}: it must be one of {', '.join(known)}"


KIND = ModuleType(
    "SpladePooling",
    "splade_pooling",
    further_paths=sparse_paths("SpladePooling", "splade_pooling"),
    # How wide it is, the network's vocabulary says.
    normalized=keep("pooling_strategy", "activation_function"),
    problems=_problems,
)
