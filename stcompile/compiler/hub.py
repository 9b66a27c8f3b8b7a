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
_PUSHING = "Pushing an artifact to the hub"

# By the status of the hub's answer, what can be done about it.
_LOG_IN = ": log in with a token that may write there, by hf auth login or HF_TOKEN"
_REMEDIES = {401: _LOG_IN, 403: _LOG_IN, 412: ": somebody else pushed there in the meantime, push again"}

_SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")
_PICKLED = ("pytorch_model*.bin", "pytorch_model*.bin.index.json")
_WEIGHTS = (*_SAFETENSORS, *_PICKLED)

# Where a network's graph is, where a repository holds nothing else of it.
_GRAPHS = ("*.onnx", "openvino_model*.xml")
_USUAL_GRAPHS = ("onnx/model.onnx", "model.onnx", "openvino/openvino_model.xml", "openvino_model.xml")


def download(
    model: str,
    files: Sequence[str],
    *,
    revision: str | None = None,
    cache_dir: str | None = None,
    graph: str | None = None,
) -> tuple[Path, str]:
    """Fetches the files of a model, or finds them in the hub's cache.

    Args:
        model: hub id. Without a slash it is one of sentence-transformers, or of the few models that have no owner.
        files: names, also with stars. Of weights that are there in both formats the safetensors are taken, and nothing
            of other engines' exports.
        revision: hub revision.
        cache_dir: where the hub's files are kept.
        graph: an ONNX or OpenVINO file that is wanted, too; where there are no weights, the usual one is.

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
            return _snapshot(hub, name, files, revision, cache, graph), name
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


def needed(files: Iterable[str], patterns: Sequence[str], graph: str | None = None) -> list[str]:
    """Of the files of a repository those to fetch: one format of weights a folder, nothing of other engines.

    Args:
        files: paths in the repository.
        patterns: what may be fetched; a star also matches slashes.
        graph: an ONNX or OpenVINO file that is wanted, too, with what lies beside it under its name; where a repository
            has no weights, None takes the usual one, or the only one.
    """
    every = list(files)
    has_weights = any(fnmatchcase(PurePosixPath(file).name, name) for file in every for name in _WEIGHTS)
    known = [file for file in every if any(fnmatchcase(PurePosixPath(file).name, name) for name in _GRAPHS)]
    usual = next((file for file in _USUAL_GRAPHS if file in known), known[0] if len(known) == 1 else None)
    wanted = graph or (None if has_weights else usual)
    # ONNX's weights begin with the graph's whole name, OpenVINO's with its stem.
    stems = () if wanted is None else (wanted, wanted.removesuffix(".xml") + ".bin")
    graphs = [file for file in every if file.startswith(stems)] if stems else []
    paths = [
        PurePosixPath(file)
        for file in every
        if any(fnmatchcase(file, pattern) for pattern in patterns)
        and not _OTHER_ENGINES.intersection(PurePosixPath(file).parts[:-1])
    ]
    safe = {path.parent for path in paths if path.name in _SAFETENSORS}
    return graphs + [
        str(path)
        for path in paths
        if path.parent not in safe or not any(fnmatchcase(path.name, pattern) for pattern in _PICKLED)
    ]


def _snapshot(
    hub: Any, name: str, files: Sequence[str], revision: str | None, cache: str | None, graph: str | None
) -> Path:
    try:
        # One request, never repeated: without a network, the client's list of files waits half a minute.
        found = hub.model_info(name, revision=revision, timeout=hub.constants.HF_HUB_ETAG_TIMEOUT)
        wanted = needed((item.rfilename for item in found.siblings or ()), files, graph)
    except Exception as unreachable:
        try:
            cached = hub.snapshot_download(
                name, revision=revision, cache_dir=cache, allow_patterns=list(files), local_files_only=True
            )
        except Exception:
            raise unreachable from None
        return Path(cached)
    exact = [glob.escape(file) for file in wanted]
    return Path(hub.snapshot_download(name, revision=revision, cache_dir=cache, allow_patterns=exact))


def check_repository(repository: str) -> None:
    """Whether something can be pushed to a repository of that name.

    Raises:
        InputError: it is none.
        MissingExtraError: what asks the hub is not installed.
    """
    if not is_repository(repository):
        raise InputError(f"{repository!r} is no repository: name it owner/name")
    require("huggingface_hub", _PUSHING, "hub")


def push(
    artifact: Artifact,
    repository: str,
    card: str,
    is_ours: Callable[[str], bool],
    *,
    revision: str | None = None,
    private: bool = False,
    message: str = "",
) -> tuple[str, bool]:
    """Puts an artifact and its card into a repository of the hub, in one commit; an earlier artifact there is replaced.

    Files of the earlier one that the new one does not have are deleted. Whatever else is there is left alone, and never
    overwritten; nothing is made before that is certain.

    Args:
        artifact: what is pushed: the files of its manifest, and nothing else.
        repository: `owner/name`; made where there is none.
        card: what README.md is to say.
        is_ours: whether a README.md may be replaced; one that may not stays.
        revision: the branch, made where there is none; None is the main one.
        private: whether a repository that is made is private.
        message: of the commit; empty says what was pushed.

    Returns:
        the address of the commit, and whether the card is in it.

    Raises:
        InputError: the repository's name is none.
        ArtifactError: the repository holds something else that would be overwritten, or an artifact that this release
            cannot read; it is there and public, and was to be private; or the hub refuses.
    """
    check_repository(repository)
    hub = require("huggingface_hub", _PUSHING, "hub")
    api = hub.HfApi()
    there = _there(hub, api, repository, revision)
    if there is not None and private and not there.private:
        raise ArtifactError(f"{repository} is there, and is public: make it private on the hub, or leave --private out")
    present = set() if there is None else {item.rfilename for item in there.siblings or ()}
    earlier = _earlier(hub, repository, there.sha, present) if MANIFEST_NAME in present else set()
    files = [MANIFEST_NAME, *(entry.path for entry in artifact.manifest.files)]
    foreign = sorted(present.intersection(files) - earlier)
    if foreign:
        raise ArtifactError(
            f"{repository} holds {', '.join(foreign)}, which no artifact put there and which would be overwritten: "
            "push to a repository of its own"
        )
    with _taken(repository):
        writes_card = CARD not in present or is_ours(_content(hub, repository, CARD, there.sha))
        api.create_repo(repository, private=private or None, exist_ok=True)
        if revision is not None:
            api.create_branch(repository, branch=revision, exist_ok=True)
        # A new branch begins where the main one was.
        parent = api.repo_info(repository, revision=revision).sha if there is None else there.sha
        operations: list[Any] = [hub.CommitOperationAdd(file, str(artifact.folder / file)) for file in files]
        operations += [hub.CommitOperationAdd(CARD, card.encode())] if writes_card else []
        operations += [hub.CommitOperationDelete(file) for file in sorted((earlier & present).difference(files))]
        done = api.create_commit(
            repository,
            operations,
            commit_message=message or f"Artifact for {artifact.manifest.target}",
            revision=revision,
            # Somebody else's commit in the meantime is an error, not lost.
            parent_commit=parent,
        )
    return str(done.commit_url), writes_card


def _there(hub: Any, api: Any, repository: str, revision: str | None) -> Any:
    """What the hub knows of a branch, or of the main one where there is no such branch yet; None of no repository."""
    with _taken(repository):
        try:
            return api.repo_info(repository, revision=revision)
        except hub.errors.RevisionNotFoundError:
            return api.repo_info(repository)
        except hub.errors.RepositoryNotFoundError:
            return None


@contextmanager
def _taken(repository: str) -> Iterator[None]:
    """What the hub's client raises, as an error of ours."""
    try:
        yield
    except Exception as error:  # network errors of several libraries
        status = getattr(getattr(error, "response", None), "status_code", None)
        remedy = _REMEDIES.get(status or 0, "")
        reason = one_line(error, None).partition(" For more information")[0][:200]
        raise ArtifactError(f"the hub did not take {repository} ({reason}){remedy}") from error


def _earlier(hub: Any, repository: str, commit: str, present: set[str]) -> set[str]:
    """The files of the artifact that a repository holds; of a manifest of somebody else's, nothing.

    Raises:
        ArtifactError: it is one of ours, of a newer schema or damaged.
    """
    with _taken(repository):
        content = _content(hub, repository, MANIFEST_NAME, commit)
    try:
        found = Manifest.from_json(content)
    except ArtifactError as error:
        if '"schema_version"' not in content:
            return set()
        raise ArtifactError(f"{repository} holds an artifact that cannot be replaced: {error}") from error
    return {MANIFEST_NAME, *(entry.path for entry in found.files)}


def _content(hub: Any, repository: str, file: str, commit: str) -> str:
    return read_text(Path(hub.hf_hub_download(repository, file, revision=commit)))
