"""`stcompile inspect`: what a model folder or an artifact is, as data and as lines."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Unpack

from stcompile.artifact import Artifact, open_artifact
from stcompile.artifact.folder import MODEL_NAMES, read_manifest
from stcompile.artifact.manifest import IMAGE, MANIFEST_NAME, TEXT
from stcompile.artifact.report import read_report
from stcompile.compiler.kinds.base import ModuleEntry
from stcompile.compiler.stack.describe import StackDescription
from stcompile.compiler.stack.source import ModelSource, SourceOptions
from stcompile.errors import ArtifactError, readable
from stcompile.runtime.arguments import local_path


def inspect(path: str | Path | ModelSource, **options: Unpack[SourceOptions]) -> dict[str, Any]:
    """Describes a model folder (its stack and everything unsupported) or an artifact (its manifest, report and sizes).

    Needs neither torch nor an engine, and runs no code of the model.

    Args:
        path: the folder, or a hub id of a model, or a `ModelSource` of one.
        options: `revision`, `cache_dir`, `trust_remote_code`, `follow_links`, `sparse`, `modalities`, `file`, see
            `ModelSource`; with trust, modules whose code comes with the model count as supported.

    Returns:
        plain data with a `kind` of `model` or `artifact`.

    Raises:
        ModelFolderError, ArtifactError: it is neither, or it is damaged.
    """
    source = ModelSource.of(path, options)
    folder = local_path(source.model)
    if _is_artifact(folder):
        return _artifact(open_artifact(folder))
    with source.as_it_is() as (model, _):
        return {**_model(source.described(model)), "weights_from": sorted(source.graphs(model).values())}


def _is_artifact(folder: Path) -> bool:
    """Whether a folder has a manifest of ours: beside a model there may be one of somebody else's."""
    if not any((folder / name).is_file() for name in MODEL_NAMES):
        return (folder / MANIFEST_NAME).is_file()
    try:
        read_manifest(folder)
    except ArtifactError:
        return False
    return True


def _model(found: StackDescription) -> dict[str, Any]:
    settings = dataclasses.asdict(found.settings)
    return {
        "layout": found.layout,
        "modules": [_module(entry) for entry in found.entries],
        **settings,
        "kind": "model",
        "becomes": found.settings.kind,
        "modalities": [TEXT] if found.image is None else [TEXT, IMAGE],
        "unsupported": [readable(reason) for reason in found.unsupported],
        "compiles": not found.unsupported,
    }


def _module(entry: ModuleEntry) -> dict[str, Any]:
    config = entry.kind.shown(entry.config)
    shown = {"position": entry.position, "type": entry.kind.name, "path": entry.path or ".", "config": config}
    if entry.kind.is_custom:
        shown["type_path"] = entry.type_path
    if entry.routes:
        shown["routes"] = {name: [_module(inner) for inner in route] for name, route in entry.routes.items()}
    return shown


def _artifact(found: Artifact) -> dict[str, Any]:
    manifest, report = dataclasses.asdict(found.manifest), read_report(found).to_dict()
    space = found.manifest.space
    return {
        "kind": "artifact",
        "size": found.size,
        "fingerprint": None if space is None else space.fingerprint,
        "manifest": manifest,
        "report": report,
    }
