"""LogitScore."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stcompile.compiler.kinds.base import Config, ModuleType, keep
from stcompile.compiler.kinds.values import not_feature_names

_PACKAGE = "sentence_transformers.cross_encoder.modules"


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def _problems(config: Config) -> Iterator[str]:
    yield from not_feature_names(config)
    if not _is_id(config.get("true_token_id")):
        yield f"its true_token_id is {config.get('true_token_id')!r}: it must be a token id"
    if config.get("false_token_id") is not None and not _is_id(config["false_token_id"]):
        yield f"its false_token_id is {config['false_token_id']!r}: it must be a token id or null"


KIND = ModuleType(
    "LogitScore",
    "logit_score",
    further_paths=(f"{_PACKAGE}.LogitScore", f"{_PACKAGE}.logit_score.LogitScore"),
    normalized=keep("true_token_id", "false_token_id", "module_input_name"),
    problems=_problems,
)
