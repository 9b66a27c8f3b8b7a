"""Models from the hub, and artifacts to it."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from stcompile.artifact import Artifact
from stcompile.artifact.folder import read_text
from stcompile.artifact.manifest import MANIFEST_NAME, Manifest
from stcompile.errors import ArtifactError, InputError, ModelFolderError, one_line
from stcompile.extras import require
from stcompile.runtime.arguments import local_path
from stcompile.runtime.hub import is_repository

# Who publishes what has no name in front, as in sentence-transformers.
_ORGANIZATION = "sentence-transformers"

# Folders of exports for other engines.
_OTHER_ENGINES = frozenset(("onnx", "openvino", "coreml"))

CARD = "README.md"

# By the status of the hub's answer, what can be done about it.
_LOG_IN = ": log in with a token that may write there, by hf auth login or HF_TOKEN"
_REMEDIES = {401: _LOG_IN, 403: _LOG_IN, 412: ": somebody else pushed there in the meantime, push again"}

_SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")
_PICKLED = ("pytorch_model*.bin", "pytorch_model*.bin.index.json")


def download(
    model: str, files: Sequence[str], *, revision: str | None = None, cache_dir: str | None = None
) -> tuple[Path, str]:
    """Fetches the files of a model, or finds them in the hub's cache.

    Args:
        model: hub id. Without a slash it is one of sentence-transformers, or of the few models that have no owner.
        files: names, also with stars. Of weights that are there in both formats the safetensors are taken, and nothing
            of other engines' exports.
        revision: hub revision.
        cache_dir: where the hub's files are kept.

    Returns:
        the folder, and the id it was found under.

    Raises:
        ModelFolderError: the hub does not have it or cannot be reached.
    """
    hub = require("huggingface_hub", "Downloading a model from the hub", "compile")
    cache = None if cache_dir is None else str(local_path(cache_dir))
    names = [model] if "/" in model else [f"{_ORGANIZATION}/{model}", model]
    errors: list[Exception] = []
    for name in names:
        try:
            return _snapshot(hub, name, files, revision, cache), name
        except Exception as error:  # the hub's client raises network errors of several libraries
            errors.append(error)
            # A hub that could not answer may still have the first: the second would be another model.
            if not isinstance(error, (hub.errors.RepositoryNotFoundError, hub.errors.OfflineModeIsEnabled)):
                break
    reason = one_line(errors[0], None).partition(". ")[0][:200]
    raise ModelFolderError(
        f"there is no folder {model}, and the hub did not deliver a model of that name ({reason}): check the "
        "spelling, or pass the path of a downloaded folder"
    ) from errors[0]


def needed(files: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """Of the files of a repository those to fetch: one format of weights a folder, nothing of other engines.

    Args:
        files: paths in the repository.
        patterns: what may be fetched; a star also matches slashes.
    """
    paths = [
        PurePosixPath(file)
        for file in files
        if any(fnmatchcase(file, pattern) for pattern in patterns)
        and not _OTHER_ENGINES.intersection(PurePosixPath(file).parts[:-1])
    ]
    safe = {path.parent for path in paths if path.name in _SAFETENSORS}
    return [
        str(path)
        for path in paths
        if path.parent not in safe or not any(fnmatchcase(path.name, pattern) for pattern in _PICKLED)
    ]


def _snapshot(hub: Any, name: str, files: Sequence[str], revision: str | None, cache: str | None) -> Path:
    try:
        wanted = needed(hub.list_repo_files(name, revision=revision), files)
    except Exception as unreachable:
        try:
            found = hub.snapshot_download(
                name, revision=revision, cache_dir=cache, allow_patterns=list(files), local_files_only=True
            )
        except Exception:
            raise unreachable from None
        return Path(found)
    exact = [glob.escape(file) for file in wanted]
    return Path(hub.snapshot_download(name, revision=revision, cache_dir=cache, allow_patterns=exact))


def push(
    artifact: Artifact,
    repository: str,
    card: str,
    is_ours: Callable[[str], bool],
    *,
    revision: str | None = None,
    private: bool = False,
    message: str = "",
) -> str:
    """Puts an artifact and its card into a repository of the hub, in one commit; an earlier artifact there is replaced.

    Files of the earlier one that the new one does not have are deleted. Whatever else is there is left alone, and never
    overwritten.

    Args:
        artifact: what is pushed: the files of its manifest, and nothing else.
        repository: `owner/name`; made where there is none.
        card: what README.md is to say.
        is_ours: whether a README.md may be replaced.
        revision: the branch, made where there is none; None is the main one.
        private: whether a repository that is made is private.
        message: of the commit; empty says what was pushed.

    Returns:
        the address of the commit.

    Raises:
        InputError: the repository's name is none.
        ArtifactError: the repository holds something else that would be overwritten, or the hub refuses.
    """
    if not is_repository(repository):
        raise InputError(f"{repository!r} is no repository: name it owner/name")
    hub = require("huggingface_hub", "Pushing an artifact to the hub", "hub")
    api = hub.HfApi()
    with _taken(repository):
        api.create_repo(repository, private=private or None, exist_ok=True)
        if revision is not None:
            api.create_branch(repository, branch=revision, exist_ok=True)
        info = api.repo_info(repository, revision=revision)
        present = {item.rfilename for item in info.siblings or ()}
        earlier = _earlier(hub, repository, info.sha, present)
        files = [MANIFEST_NAME, *(entry.path for entry in artifact.manifest.files)]
        foreign = sorted(present.intersection(files) - earlier)
        if CARD in present and not is_ours(_content(hub, repository, CARD, info.sha)):
            foreign.append(CARD)
    if foreign:
        raise ArtifactError(
            f"{repository} holds {', '.join(foreign)}, which no artifact put there and which would be overwritten: "
            "push to a repository, or to a --revision, of its own"
        )
    operations: list[Any] = [hub.CommitOperationAdd(file, str(artifact.folder / file)) for file in files]
    operations.append(hub.CommitOperationAdd(CARD, card.encode()))
    operations += [hub.CommitOperationDelete(file) for file in sorted((earlier & present).difference(files))]
    with _taken(repository):
        done = api.create_commit(
            repository,
            operations,
            commit_message=message or f"Artifact for {artifact.manifest.target}",
            revision=revision,
            # Somebody else's commit in the meantime is an error, not lost.
            parent_commit=info.sha,
        )
    return str(done.commit_url)


@contextmanager
def _taken(repository: str) -> Iterator[None]:
    """What the hub's client raises, as an error of ours."""
    try:
        yield
    except Exception as error:  # network errors of several libraries
        status = getattr(getattr(error, "response", None), "status_code", None)
        remedy = _REMEDIES.get(status or 0, "")
        raise ArtifactError(f"the hub did not take {repository} ({one_line(error, 200)}){remedy}") from error


def _earlier(hub: Any, repository: str, commit: str, present: set[str]) -> set[str]:
    """The files of the artifact that a repository holds; of what is none, nothing."""
    if MANIFEST_NAME not in present:
        return set()
    try:
        found = Manifest.from_json(_content(hub, repository, MANIFEST_NAME, commit))
    except ArtifactError:
        return set()
    return {MANIFEST_NAME, *(entry.path for entry in found.files)}


def _content(hub: Any, repository: str, file: str, commit: str) -> str:
    return read_text(Path(hub.hf_hub_download(repository, file, revision=commit)))
