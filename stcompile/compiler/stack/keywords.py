"""`kwargs` of modules.json: the keywords of `encode` that a module is called with, judged without torch.

Of all keywords an artifact has `task` alone: each task is a graph.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from stcompile.compiler.kinds.base import ModuleType

TASK = "task"

# A Router's own, always that of text.
_MODALITY = "modality"

# Arguments of sentence-transformers' `encode` itself. It never hands these on.
_OF_ENCODE = frozenset(
    (
        *("sentences", "inputs", "prompt_name", "prompt", "batch_size", "show_progress_bar", "output_value"),
        *("precision", "convert_to_numpy", "convert_to_tensor", "device", "normalize_embeddings", "truncate_dim"),
        *("pool", "chunk_size"),
    )
)


def keywords_of(row: dict[str, Any], kind: ModuleType, label: str, reasons: list[str]) -> tuple[str, ...]:
    """The keywords that a row of modules.json calls a module with, and that may change what it makes.

    What is wrong is added to the reasons.

    Returns:
        names besides `task` too: whether a network looks at these is seen when it is loaded.
    """
    named = row.get("kwargs", [])
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        reasons.append(f"{label}: its kwargs in modules.json are {named!r:.60}: they must be a list of names")
        return ()
    found = tuple(dict.fromkeys(name for name in named if name not in _OF_ENCODE))
    if kind.keywords == "ignored" or not found:
        return ()
    if kind.keywords == "refused":
        reasons.append(
            f"{label}: modules.json calls it with {', '.join(found)}, which a {kind.name} does not take, so that "
            "sentence-transformers fails when they are passed: remove its kwargs"
        )
        return ()
    return found


def refusal(names: Iterable[str]) -> str:
    """Why keywords that are no task, and that a module's code may read, cannot be compiled; empty without any."""
    others = ", ".join(name for name in names if name not in (TASK, _MODALITY) and name not in _OF_ENCODE)
    if not others:
        return ""
    return (
        f"is called with the keywords {others}, which an artifact has no argument for: if they are never passed, "
        "remove them from kwargs in modules.json (and forward_kwargs of the class)"
    )
