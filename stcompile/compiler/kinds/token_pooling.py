"""HierarchicalTokenPooling."""

from __future__ import annotations

from collections.abc import Iterator

from stcompile.compiler.kinds.base import Config, ModuleType, multi_vector_paths
from stcompile.compiler.kinds.values import is_number, task_list_problems


def _normalized(config: Config) -> Config:
    tasks = config.get("tasks")
    return {
        "pool_factor": config.get("pool_factor", 1.0),
        "num_protected_tokens": config.get("num_protected_tokens", 1),
        # A file of a release that did not know it means vectors that were not.
        "normalize_embeddings": config.get("normalize_embeddings", False),
        "tasks": ["document"] if tasks is None else [tasks] if isinstance(tasks, str) else tasks,
    }


def _problems(config: Config) -> Iterator[str]:
    factor, protected = config["pool_factor"], config["num_protected_tokens"]
    if not is_number(factor) or factor < 1:
        yield f"its pool_factor is {factor!r}: it must be a number from 1"
    if not isinstance(protected, int) or isinstance(protected, bool) or not 0 <= protected < 2**31:
        yield f"its num_protected_tokens is {protected!r}: it must be a whole number from 0"
    if not isinstance(config["normalize_embeddings"], bool):
        yield "its normalize_embeddings must be true or false"
    yield from task_list_problems(config, "tasks")


KIND = ModuleType(
    "HierarchicalTokenPooling",
    "token_pooling",
    further_paths=multi_vector_paths("HierarchicalTokenPooling", "token_pooling"),
    normalized=_normalized,
    problems=_problems,
    keywords="ignored",
)
