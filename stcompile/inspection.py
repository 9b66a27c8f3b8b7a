"""`stcompile inspect`: what a model folder or an artifact is, as data and as lines."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from stcompile.artifact import Artifact, open_artifact
from stcompile.manifest import MANIFEST_NAME
from stcompile.stack.describe import StackDescription, describe


def inspect(path: str | Path) -> dict[str, Any]:
    """Describes a model folder (its stack and everything unsupported) or an artifact (its manifest and sizes).

    Needs neither torch nor an engine.

    Returns:
        plain data with a `kind` of `model` or `artifact`.

    Raises:
        ModelFolderError, ArtifactError: it is neither, or it is damaged.
    """
    if (Path(path) / MANIFEST_NAME).is_file():
        return _artifact(open_artifact(path))
    return _model(describe(path))


def _model(found: StackDescription) -> dict[str, Any]:
    return {
        "kind": "model",
        "layout": found.layout,
        "modules": [
            {"position": entry.position, "type": entry.type, "path": entry.path or ".", "config": entry.config}
            for entry in found.entries
        ],
        "prompts": found.prompts,
        "default_prompt_name": found.default_prompt_name,
        "similarity": found.similarity,
        "truncate_dim": found.truncate_dim,
        "unsupported": list(found.unsupported),
        "compiles": not found.unsupported,
    }


def _artifact(found: Artifact) -> dict[str, Any]:
    return {"kind": "artifact", "size": found.size, "manifest": dataclasses.asdict(found.manifest)}
