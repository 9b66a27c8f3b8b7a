"""MultiVectorMask."""

from __future__ import annotations

from collections.abc import Iterator

from stcompile.compiler.kinds.base import Config, ModuleType, multi_vector_paths
from stcompile.compiler.kinds.values import is_id, task_list_problems

# Where a file says nothing: skip words are left out of documents alone.
_TASKS = ("document",)


def _normalized(config: Config) -> Config:
    tasks = config.get("skiplist_tasks")
    return {
        "skiplist_words": config.get("skiplist_words") or [],
        "skiplist_tasks": list(_TASKS) if tasks is None else [tasks] if isinstance(tasks, str) else tasks,
        "keep_only_token_ids": config.get("keep_only_token_ids") or None,
    }


def _problems(config: Config) -> Iterator[str]:
    words, ids = config["skiplist_words"], config["keep_only_token_ids"]
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        yield "its skiplist_words must be a list of words"
    yield from task_list_problems(config, "skiplist_tasks")
    if ids is not None and not (isinstance(ids, list) and all(map(is_id, ids))):
        yield "its keep_only_token_ids must be a list of token ids, or null"


KIND = ModuleType(
    "MultiVectorMask",
    "multi_vector_mask",
    further_paths=multi_vector_paths("MultiVectorMask", "multi_vector_mask"),
    normalized=_normalized,
    problems=_problems,
    # It is called with the task of its route whatever is listed.
    keywords="ignored",
)
