"""Artifacts that are on the Hugging Face hub: their folder on this machine."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from stcompile.artifact.folder import read_manifest
from stcompile.artifact.manifest import MANIFEST_NAME
from stcompile.errors import ArtifactError, InputError, one_line
from stcompile.extras import require
from stcompile.runtime.arguments import local_path

# `owner/name`, as the hub has them, and with a revision behind it.
_PART = r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?"
_REPOSITORY = re.compile(rf"{_PART}/{_PART}", re.ASCII)
_AT_REVISION = re.compile(rf"({_PART}/{_PART})@(.+)", re.ASCII)


def is_repository(name: str) -> bool:
    """Whether it can be the name of a repository, `owner/name`; a folder may be called so, too."""
    return _REPOSITORY.fullmatch(name) is not None


def located(
    artifact: str | os.PathLike[str],
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Path:
    """The folder of an artifact on this machine.

    What is there as a folder is taken as it is. Of `owner/name` the hub is asked, and its cache where it cannot be
    reached: the manifest first, then the files that it lists, of the same commit, and nothing else. A commit that was
    fetched before is not asked for again.

    Args:
        artifact: a folder; or, as text, `owner/name`, also with a revision, `owner/name@revision`. A path is a folder
            always.
        revision: of the repository: a branch, a tag or a commit; None takes its main branch.
        cache_dir: where the hub's files are kept; None takes its own place.
        options: further ones of `huggingface_hub.hf_hub_download`: `token`, `local_files_only`.

    Raises:
        ArtifactError: neither this machine nor the hub has it, or it is no artifact of a schema that this release
            reads.
        InputError: a revision of a folder is asked for, or two of them; it is no path.
        MissingExtraError: there is no such folder, and what asks the hub is not installed.
    """
    folder = local_path(artifact)
    # An error of the system is told when the folder is opened.
    exists = os.path.exists(folder)  # noqa: PTH110 - Path.exists() raises it
    name = artifact if isinstance(artifact, str) and not exists else ""
    if found := _AT_REVISION.fullmatch(name):
        if revision is not None:
            raise InputError(f"{name} names a revision, and revision={revision!r} another: pass one of them")
        name, revision = found.groups()
    if not is_repository(name):
        if revision is not None and exists:
            raise InputError(f"{artifact} is a folder here, which has no revision {revision!r}: leave it out")
        if revision is not None:
            raise InputError(f"{artifact} is neither a folder here nor owner/name on the hub: check the spelling")
        return folder
    hub = require("huggingface_hub", f"There is no folder {name} here, and looking for it on the hub", "hub")
    shared = {**options, "cache_dir": None if cache_dir is None else str(local_path(cache_dir))}
    manifest = Path(_fetched(hub, name, MANIFEST_NAME, revision, shared))
    folder = manifest.parent
    for entry in read_manifest(folder).files:
        if not (folder / entry.path).is_file():
            # Of the commit that the manifest is of: the branch may have moved on.
            _fetched(hub, name, entry.path, folder.name, shared)
    return folder


def _fetched(hub: Any, name: str, file: str, revision: str | None, options: dict[str, Any]) -> str:
    try:
        found: str = hub.hf_hub_download(name, file, revision=revision, **options)
    except Exception as error:  # the hub's client raises network errors of several libraries
        raise ArtifactError(_why(hub.errors, error, name, file, revision)) from error
    return found


def _why(errors: Any, error: Exception, name: str, file: str, revision: str | None) -> str:
    """The reason and its remedy; of errors that are kinds of each other, the narrower one first."""
    where = name if revision is None else f"{name} at {revision}"
    not_there = f"{where} on the hub is incomplete: {file} is missing; push the artifact again"
    if file == MANIFEST_NAME:
        not_there = (
            f"{where} on the hub is no stcompile artifact, it has no {MANIFEST_NAME}: where it is a model, run "
            "stcompile export first"
        )
    reasons = {
        "GatedRepoError": f"{name} is for who has accepted its terms: do that on the hub, and log in (hf auth login, "
        "or HF_TOKEN)",
        "RepositoryNotFoundError": f"there is no artifact {name}, neither as a folder here nor on the hub: check the "
        "spelling, or log in where it is private (hf auth login, or HF_TOKEN)",
        "RevisionNotFoundError": f"{name} has no revision {revision!r} on the hub: check the spelling",
        "LocalEntryNotFoundError": f"{file} of {where} is not in the hub's cache, and the hub cannot be reached, or "
        "HF_HUB_OFFLINE forbids it: fetch it once while it can be",
        "EntryNotFoundError": not_there,
    }
    found = (reason for kind, reason in reasons.items() if isinstance(error, getattr(errors, kind)))
    return next(found, f"the hub did not deliver {file} of {where}: {one_line(error, 200)}")
