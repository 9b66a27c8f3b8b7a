"""Artifacts by their name on a hub: what is fetched, what is asked again, and what is said where it fails."""

from __future__ import annotations

import sys
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest

import stcompile
from stcompile.artifact import open_artifact
from stcompile.errors import ArtifactError, InputError, MissingExtraError
from tests.conftest import Compiled
from tests.hub.endpoint import Hub, Repository

NAME = "acme/minilm"
TEXTS = ["a dog", "hello world"]


def files_of(artifact: Path) -> dict[str, bytes]:
    return {path.relative_to(artifact).as_posix(): path.read_bytes() for path in artifact.rglob("*") if path.is_file()}


@pytest.fixture
def artifact(compiled: Compiled) -> Path:
    return compiled("normalize")


@pytest.fixture
def repository(hub: Hub, artifact: Path) -> Repository:
    """One with an artifact, and with files that are no part of it."""
    made = hub.repositories[NAME] = Repository()
    made.commit("main", {**files_of(artifact), "README.md": b"# a card", "training_args.bin": b"not ours"})
    return made


def test_it_is_what_the_folder_is(repository: Repository, artifact: Path) -> None:
    fetched, here = stcompile.load(NAME, threads=1), stcompile.load(artifact, threads=1)
    assert np.array_equal(fetched.encode(TEXTS), here.encode(TEXTS))
    assert isinstance(stcompile.Encoder.load(NAME), stcompile.Encoder)
    assert np.array_equal(stcompile.SentenceTransformer(NAME, threads=1).encode(TEXTS), here.encode(TEXTS))


def test_the_files_of_the_manifest_are_fetched_and_nothing_else(repository: Repository, hub: Hub) -> None:
    folder = stcompile.load(NAME).artifact.folder
    listed = {"manifest.json", *(entry.path for entry in open_artifact(folder).manifest.files)}
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*")} == listed
    hub.asked.clear()
    stcompile.load(NAME)
    assert hub.asked == [("HEAD", f"/{NAME}/resolve/main/manifest.json")]


def test_a_commit_that_is_there_is_not_asked_for(repository: Repository, hub: Hub) -> None:
    commit = repository.branches["main"]
    stcompile.load(NAME, revision=commit)
    hub.asked.clear()
    stcompile.load(NAME, revision=commit)
    assert hub.asked == []


def test_a_revision(repository: Repository, compiled: Compiled) -> None:
    other = compiled("normalize", "onnx-int8")
    repository.commit("int8", files_of(other))
    assert stcompile.load(NAME, revision="int8").artifact.manifest.target == "onnx-int8"
    assert stcompile.load(NAME).artifact.manifest.target == "onnx-fp32"
    with pytest.raises(ArtifactError, match="has no revision 'fp16' on the hub"):
        stcompile.load(NAME, revision="fp16")


def test_a_branch_that_moves_while_it_is_fetched(repository: Repository, hub: Hub, compiled: Compiled) -> None:
    """All files are of the commit that the manifest was of."""
    moved = files_of(compiled("normalize", "onnx-int8"))
    hub.after["manifest.json"] = lambda: repository.commit("main", moved)
    assert stcompile.load(NAME).artifact.manifest.target == "onnx-fp32"
    assert stcompile.load(NAME).artifact.manifest.target == "onnx-int8"


def test_without_the_hub_the_cache_is_enough(
    repository: Repository, hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stcompile.load(NAME)
    hub.close()
    stcompile.load(NAME)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    stcompile.load(NAME)
    with pytest.raises(ArtifactError, match="is not in the hub's cache, and the hub cannot be reached"):
        stcompile.load(NAME, cache_dir=tmp_path / "another")


def test_where_files_are_kept(repository: Repository, tmp_path: Path) -> None:
    kept = tmp_path / "mine"
    assert kept in stcompile.load(NAME, cache_dir=kept).artifact.folder.parents


def test_a_folder_of_that_name_wins(
    repository: Repository, hub: Hub, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme" / "minilm").symlink_to(artifact)
    monkeypatch.chdir(tmp_path)
    stcompile.load(NAME)
    assert hub.asked == []
    with pytest.raises(InputError, match="is a folder here, which has no revision"):
        stcompile.load(NAME, revision="main")


def test_what_was_changed_on_the_hub_is_refused(repository: Repository, artifact: Path) -> None:
    files = files_of(artifact)
    repository.commit("main", {**files, "model.onnx": files["model.onnx"][:-1] + b"?"})
    with pytest.raises(ArtifactError, match="no longer matches its sha256"):
        stcompile.load(NAME)


def test_what_is_missing_is_said(repository: Repository, hub: Hub, artifact: Path) -> None:
    files = files_of(artifact)
    del files["tokenizer.json"]
    repository.commit("main", files)
    with pytest.raises(ArtifactError, match=r"is incomplete: tokenizer\.json is missing"):
        stcompile.load(NAME)
    hub.repositories["acme/model"] = Repository()
    hub.repositories["acme/model"].commit("main", {"modules.json": b"[]"})
    with pytest.raises(ArtifactError, match=r"is no stcompile artifact, it has no manifest\.json"):
        stcompile.load("acme/model")
    with pytest.raises(ArtifactError, match="neither as a folder here nor on the hub"):
        stcompile.load("acme/nothing")


def test_a_private_one_is_for_who_is_logged_in(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    repository.private = True
    stcompile.load(NAME)
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
    with pytest.raises(ArtifactError, match="log in where it is private"):
        stcompile.load(NAME, cache_dir=tmp_path / "empty")


def test_without_the_client_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"There is no folder acme/minilm here.* 'stcompile\[hub\]'"):
        stcompile.load(NAME)


@pytest.mark.parametrize("path", ["no/such/folder", "./acme/minilm", "minilm", "acme/../minilm", "acme/mini lm"])
def test_other_paths_are_never_asked_for(path: str, hub: Hub) -> None:
    with pytest.raises(ArtifactError, match="there is no artifact at"):
        stcompile.load(path)
    assert hub.asked == []


def test_what_else_lies_in_the_cache_is_nobodys_harm(repository: Repository, hub: Hub) -> None:
    """As `hf download` leaves it: all that is in the repository."""
    for file in repository.commits[repository.branches["main"]]:
        huggingface_hub.hf_hub_download(NAME, file)
    folder = stcompile.load(NAME).artifact.folder
    assert (folder / "training_args.bin").is_file()


def test_it_is_called_as_its_repository(repository: Repository) -> None:
    assert stcompile.load(NAME).artifact.name == NAME
    assert repr(stcompile.load(NAME)).startswith(f"Encoder('{NAME}', ")


def test_a_revision_behind_the_name(repository: Repository, compiled: Compiled) -> None:
    repository.commit("v2/int8", files_of(compiled("normalize", "onnx-int8")))
    assert stcompile.load(f"{NAME}@v2/int8").artifact.manifest.target == "onnx-int8"
    with pytest.raises(InputError, match="names a revision, and revision='main' another"):
        stcompile.load(f"{NAME}@v2/int8", revision="main")
    with pytest.raises(InputError, match="neither a folder here nor owner/name on the hub"):
        stcompile.load("minilm", revision="v2")


def test_a_path_is_a_folder_always(repository: Repository, hub: Hub) -> None:
    with pytest.raises(ArtifactError, match="there is no artifact at"):
        stcompile.load(Path(NAME))
    assert hub.asked == []


def test_who_forbids_the_network_is_obeyed(repository: Repository, hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="is not in the hub's cache"):
        stcompile.SentenceTransformer(NAME, local_files_only=True)
    assert hub.asked == []


def test_a_name_that_no_file_can_have_is_one_error() -> None:
    with pytest.raises(ArtifactError):
        stcompile.load("x" * 5000)


@pytest.mark.parametrize("kind", ["GatedRepoError", "RevisionNotFoundError", "LocalEntryNotFoundError"])
def test_errors_of_the_client_have_names_in_every_release(kind: str) -> None:
    """What is looked up in `errors` by name; 0.34 has no RemoteEntryNotFoundError, and these it has."""
    assert issubclass(getattr(huggingface_hub.errors, kind), Exception)
