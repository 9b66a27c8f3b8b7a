"""WeightedLayerPooling."""

from __future__ import annotations

from collections.abc import Iterator

from stcompile.compiler.kinds.base import Config, ModuleType, keep
from stcompile.compiler.kinds.values import is_positive, not_positive


def _problems(config: Config) -> Iterator[str]:
    yield from not_positive(config, "embedding_dimension")
    start, layers = config.get("layer_start", 4), config.get("num_hidden_layers", 12)
    if not is_positive(layers) or isinstance(start, bool) or not isinstance(start, int) or not 0 <= start <= layers:
        yield f"its layer_start is {start!r} of {layers!r} layers: it must be a whole number from 0 to that many"


KIND = ModuleType(
    "WeightedLayerPooling",
    "weighted_layer_pooling",
    normalized=keep("num_hidden_layers", "layer_start", embedding_dimension="word_embedding_dimension"),
    problems=_problems,
)
