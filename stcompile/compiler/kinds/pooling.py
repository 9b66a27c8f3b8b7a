"""Pooling."""

from __future__ import annotations

from collections.abc import Iterator

from stcompile.compiler.kinds.base import Config, ModuleType
from stcompile.compiler.kinds.values import not_positive

# Boolean keys of releases before 5.4, in the order in which they are concatenated.
_OLD_KEYS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}

POOLING_MODES = tuple(_OLD_KEYS.values())


def _normalized(config: Config) -> Config:
    result = {
        "embedding_dimension": config.get("embedding_dimension", config.get("word_embedding_dimension")),
        "pooling_mode": config.get("pooling_mode", "mean"),
        "include_prompt": config.get("include_prompt", True),
    }
    if "pooling_mode" not in config and any(key in config for key in _OLD_KEYS):
        # Since 5.4 an absent boolean is false, and all false means mean.
        result["pooling_mode"] = [mode for key, mode in _OLD_KEYS.items() if config.get(key)] or "mean"
    return result


def _problems(config: Config) -> Iterator[str]:
    modes = config["pooling_mode"]
    if modes == []:
        yield f"it has no pooling mode: the modes are {', '.join(POOLING_MODES)}"
    for mode in modes if isinstance(modes, list) else [modes]:
        if mode not in POOLING_MODES:
            yield f"its pooling mode {mode!r} is unknown: the modes are {', '.join(POOLING_MODES)}"
    yield from not_positive(config, "embedding_dimension")


KIND = ModuleType("Pooling", "pooling", normalized=_normalized, problems=_problems, keywords="ignored")
