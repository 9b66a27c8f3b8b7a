"""The artifact folder: opened only when it is whole, replaced only by one that is."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest

import stcompile
from stcompile.artifact import claimed, open_artifact, write_manifest, written
from stcompile.artifact.folder import read_manifest
from stcompile.artifact.manifest import MANIFEST_NAME, SCHEMA_VERSION, FileEntry, Manifest, _digest
from stcompile.errors import ArtifactError
from tests.conftest import GOLDEN

Tree = dict[str, bytes]


@contextlib.contextmanager
def staged(destination: Path) -> Iterator[Path]:
    with claimed(destination) as place, place.staged() as folder:
        yield folder


def _write(folder: Path, manifest: Manifest, content: bytes = b"graph") -> None:
    (folder / "model.onnx").write_bytes(content)
    (folder / "more").mkdir()
    (folder / "more/tokenizer.json").write_text("{}")
    write_manifest(folder, manifest)


def _tree(folder: Path) -> Tree:
    """Everything under a folder, hidden names included; a link counts for itself."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


@pytest.fixture
def artifact(tmp_path: Path, manifest: Manifest) -> Path:
    """An artifact, in a folder with nothing else."""
    folder = tmp_path / "home" / "artifact"
    folder.mkdir(parents=True)
    _write(folder, manifest)
    return folder


def test_what_was_written_opens(artifact: Path, manifest: Manifest) -> None:
    opened = open_artifact(str(artifact))
    assert dataclasses.replace(opened.manifest, files=()) == manifest
    assert [entry.path for entry in opened.manifest.files] == ["model.onnx", "more/tokenizer.json"]
    assert opened.size == len(b"graph") + len("{}")


def test_what_is_listed_follows_from_the_files(artifact: Path, manifest: Manifest) -> None:
    stale = dataclasses.replace(manifest, files=(FileEntry("gone", "", 0),))
    assert write_manifest(artifact, stale) == open_artifact(artifact).manifest


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (lambda folder: (folder / "model.onnx").write_bytes(b"grapf"), r"model\.onnx in .* is corrupt or was changed"),
        (lambda folder: (folder / "model.onnx").write_bytes(b"grap"), r"model\.onnx in .* is corrupt or was changed"),
        (lambda folder: (folder / "more/tokenizer.json").unlink(), r"incomplete: more/tokenizer\.json is missing"),
        (lambda folder: (folder / MANIFEST_NAME).unlink(), "is not an stcompile artifact"),
        (
            lambda folder: (folder / MANIFEST_NAME).rename(folder / "config.json"),
            "is a model, .*: run stcompile export",
        ),
        (
            lambda folder: (folder / MANIFEST_NAME).rename(folder / "modules.json"),
            "is a model, not an stcompile artifact",
        ),
        (lambda folder: (folder / MANIFEST_NAME).write_bytes(b"\xff"), "cannot be read"),
        (lambda folder: (folder / MANIFEST_NAME).write_text("{"), "not valid JSON"),
        (lambda folder: _edit(folder, '"dim": 8', '"dim": 9'), "changed after the export"),
        (lambda folder: folder.rename(folder.with_name("elsewhere")), "there is no artifact at"),
    ],
)
def test_a_broken_artifact_is_named(break_it: Callable[[Path], object], reason: str, artifact: Path) -> None:
    break_it(artifact)
    with pytest.raises(ArtifactError, match=reason):
        open_artifact(artifact)


def test_a_file_is_no_artifact(artifact: Path) -> None:
    with pytest.raises(ArtifactError, match="there is no artifact at"):
        open_artifact(artifact / MANIFEST_NAME)


def test_without_the_integrity_check_sizes_still_count(artifact: Path) -> None:
    (artifact / "model.onnx").write_bytes(b"grapf")
    open_artifact(artifact, check_integrity=False)
    (artifact / "model.onnx").write_bytes(b"grap")
    with pytest.raises(ArtifactError, match="corrupt"):
        open_artifact(artifact, check_integrity=False)


@pytest.mark.parametrize("path", ["../secret", "more/../../secret", "/etc/hostname"])
def test_a_listed_file_outside_is_refused(path: str, artifact: Path) -> None:
    (artifact.parent / "secret").write_text("secret")
    body = json.loads((artifact / MANIFEST_NAME).read_text())
    del body["digest"]
    body["files"][0]["path"] = path
    (artifact / MANIFEST_NAME).write_text(json.dumps({**body, "digest": _digest(body)}))
    with pytest.raises(ArtifactError, match=r"files\[0\].path must be a file inside the artifact"):
        open_artifact(artifact)


@pytest.mark.parametrize("path", ["../secret", "/etc/hostname", "unlisted"])
@pytest.mark.parametrize("place", ["graph", "tokenizer"])
def test_what_is_opened_must_be_listed(place: str, path: str, artifact: Path, manifest: Manifest) -> None:
    for folder in (artifact, artifact.parent):
        (folder / "secret").write_text("{}")
    graph = dataclasses.replace(manifest.graphs[0], file=path if place == "graph" else "model.onnx")
    text = dataclasses.replace(manifest.text, tokenizer=path if place == "tokenizer" else "more/tokenizer.json")
    write_manifest(artifact, dataclasses.replace(manifest, graphs=(graph,), text=text))
    with pytest.raises(ArtifactError):
        open_artifact(artifact)


def test_a_file_that_cannot_be_read_is_named(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # root reads everything, so the refusal is played; outside the test it is another user's artifact
    real = Path.open

    def refuse(path: Path, mode: str = "r", **options: Any) -> object:
        if path.name == "model.onnx":
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, mode, **options)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ArtifactError, match=r"model\.onnx"):
        open_artifact(artifact)


@pytest.mark.parametrize("before", ["nothing", "empty folder", "artifact"])
def test_success_replaces_what_was_there(before: str, artifact: Path, manifest: Manifest) -> None:
    destination = artifact if before == "artifact" else artifact.with_name("new")
    if before == "empty folder":
        destination.mkdir()
    with staged(destination) as folder:
        assert folder.parent.parent == destination.parent
        _write(folder, manifest, b"new graph")
    assert (open_artifact(destination).folder / "model.onnx").read_bytes() == b"new graph"
    assert {path.name for path in artifact.parent.iterdir()} == {"artifact", destination.name}


def test_missing_parents_are_made(tmp_path: Path, manifest: Manifest) -> None:
    with staged(tmp_path / "a/b/artifact") as folder:
        _write(folder, manifest)
    open_artifact(tmp_path / "a/b/artifact")


def test_a_relative_destination_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with staged(Path("artifact")) as folder:
        (folder / MANIFEST_NAME).write_text("{}")
        monkeypatch.chdir(tmp_path / "elsewhere")
    assert (tmp_path / "artifact" / MANIFEST_NAME).is_file()


@pytest.mark.parametrize(
    "error",
    [
        KeyboardInterrupt(),
        ValueError("wrong"),
        # of the block: not everything that fails in an export is its destination
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EIO, "Input/output error"),
    ],
    ids=repr,
)
def test_a_failure_changes_nothing_and_stays_what_it_is(error: BaseException, artifact: Path) -> None:
    before = _tree(artifact.parent)
    with pytest.raises(type(error)) as caught, staged(artifact) as folder:
        _write_half(folder, error)
    assert caught.value is error
    assert _tree(artifact.parent) == before


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "no space left to write .*artifact: free some"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "no space left to write .*artifact: free some"),
        (PermissionError(errno.EACCES, "Permission denied"), r"artifact cannot be written \(Permission denied\)"),
        (OSError(errno.EROFS, "Read-only file system"), "artifact cannot be written"),
        (OSError(errno.EIO, "Input/output error"), "artifact could not be written: .*Input/output error"),
    ],
    ids=repr,
)
def test_what_is_written_to_a_place_is_told_of_that_place(error: OSError, reason: str, artifact: Path) -> None:
    with pytest.raises(ArtifactError, match=reason), written(artifact):
        raise error


@pytest.mark.parametrize("step", ["sync", "first rename", "second rename"])
def test_a_full_disk_while_publishing_changes_nothing(
    step: str, artifact: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []
    real = Path.rename

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def rename(path: Path, target: Path) -> Path:
        calls.append(path)
        if len(calls) == ("first rename", "second rename").index(step) + 1:
            full()
        return real(path, target)

    if step == "sync":
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr(Path, "rename", rename)
    before = _tree(artifact.parent)
    with pytest.raises(ArtifactError, match="no space left"), staged(artifact) as folder:
        _write(folder, manifest, b"new graph")
    assert _tree(artifact.parent) == before


def _web_app(folder: Path) -> Path:
    _fill(folder)
    (folder / "letters" / MANIFEST_NAME).write_text('{"short_name": "Letters", "start_url": "index.html"}')
    return folder / "letters"


def _fill(folder: Path) -> Path:
    (folder / "letters").mkdir()
    (folder / "letters/love").write_text("dear")
    return folder / "letters"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_fill, "is not empty and not an stcompile artifact"),
        (_web_app, r"is not empty and not an stcompile artifact \(manifest.json is not an stcompile manifest"),
        (lambda folder: _fill(folder) / "love", "is a file"),
        (lambda folder: _link(folder / "dangling", folder / "nowhere"), "is a file"),
        (lambda folder: _fill(folder) / "love" / "artifact", "could not be written"),
        (lambda folder: _fill(folder) / ("a" * 250), "could not be written"),
    ],
    ids=["foreign folder", "web app", "file", "dangling link", "below a file", "name too long for the staging folder"],
)
def test_a_destination_of_another_kind_is_refused(
    make: Callable[[Path], Path], reason: str, tmp_path: Path, manifest: Manifest
) -> None:
    destination = make(tmp_path)
    before = _tree(tmp_path) if reason != "is a file" else {}
    with pytest.raises(ArtifactError, match=reason), staged(destination) as folder:
        _write(folder, manifest)
    assert not before or _tree(tmp_path) == before


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_without_write_permission_is_refused(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(ArtifactError, match="cannot be written"), staged(tmp_path / "locked/artifact"):
        pytest.fail("nothing may be staged")


@pytest.mark.parametrize("use", [lambda path: staged(path).__enter__(), open_artifact], ids=["staged", "open"])
def test_a_name_that_is_too_long_is_named(use: Callable[[Path], object], tmp_path: Path) -> None:
    with pytest.raises(ArtifactError):
        use(tmp_path / ("a" * 300))


def test_a_link_to_an_artifact_is_replaced_by_an_artifact(artifact: Path, manifest: Manifest) -> None:
    link = _link(artifact.with_name("link"), artifact)
    with staged(link) as folder:
        _write(folder, manifest, b"new graph")
    # what it pointed to is not ours to change
    assert (artifact / "model.onnx").read_bytes() == b"graph"
    assert (link / "model.onnx").read_bytes() == b"new graph"
    assert {path.name for path in artifact.parent.iterdir()} == {"artifact", "link"}


def _later_schema(folder: Path) -> None:
    body = json.loads((folder / MANIFEST_NAME).read_text())
    (folder / MANIFEST_NAME).write_text(json.dumps({**body, "schema_version": SCHEMA_VERSION + 1}))


# Each makes of an artifact a folder that is not only one.
SOMEBODYS: dict[str, Callable[[Path], object]] = {
    "a file": lambda folder: (folder / "index.html").write_text("<html>"),
    "a hidden file": lambda folder: (folder / ".env").write_text("KEY="),
    "what loads": lambda folder: (folder / "README.md").write_text("mine"),
    "a file in a folder of ours": lambda folder: (folder / "more/notes.txt").write_text("mine"),
    "an empty folder": lambda folder: (folder / "to come").mkdir(),
    "a link": lambda folder: _link(folder / "latest", folder / "model.onnx"),
    "a later schema": _later_schema,
    "a changed manifest": lambda folder: _edit(folder, '"dim": 8', '"dim": 9'),
    "another manifest": lambda folder: (folder / MANIFEST_NAME).write_text('{"manifest_version": 3, "name": "x"}'),
}


@pytest.mark.parametrize("add", SOMEBODYS.values(), ids=SOMEBODYS)
def test_a_folder_that_is_not_only_an_artifact_is_refused_before_the_work(
    add: Callable[[Path], object], artifact: Path
) -> None:
    add(artifact)
    before = _tree(artifact.parent)
    with pytest.raises(ArtifactError, match="choose another destination"), claimed(artifact):
        pytest.fail("no work may be done")
    assert _tree(artifact.parent) == before


@pytest.mark.parametrize("add", SOMEBODYS.values(), ids=SOMEBODYS)
def test_what_somebody_adds_during_the_work_is_left_alone(
    add: Callable[[Path], object], artifact: Path, manifest: Manifest
) -> None:
    trees = []

    def work(folder: Path) -> None:
        _write(folder, manifest, b"new graph")
        add(artifact)
        trees.append(_tree(artifact))

    with pytest.raises(ArtifactError, match="choose another destination"), staged(artifact) as folder:
        work(folder)
    assert trees == [_tree(artifact)]
    assert [path.name for path in artifact.parent.iterdir()] == ["artifact"]


def test_a_damaged_artifact_is_replaced(artifact: Path, manifest: Manifest) -> None:
    (artifact / "model.onnx").write_bytes(b"half")
    (artifact / "more/tokenizer.json").unlink()
    (artifact / "more").rmdir()
    with staged(artifact) as folder:
        _write(folder, manifest, b"new graph")
    open_artifact(artifact)


def _of_last_week(folder: Path) -> None:
    """Schema 4 before it was released: everything in the manifest, and the proof in parity.json."""
    body = json.loads((folder / MANIFEST_NAME).read_text())
    del body["digest"]
    report = json.loads((folder / "report.json").read_text())
    (folder / "report.json").rename(folder / "parity.json")
    for entry in body["files"]:
        entry["path"] = "parity.json" if entry["path"] == "report.json" else entry["path"]
    body |= report
    (folder / MANIFEST_NAME).write_text(json.dumps({**body, "digest": _digest(body)}))


FROZEN = ["v1/full_stack-onnx-int8-dynamic", "v2/static_normalize-onnx-fp16", "v3/full_stack-onnx-int8"]
EARLIER: list[tuple[str, Callable[[Path], object]]] = [
    *((name, lambda _: None) for name in FROZEN),
    ("v4/full_stack-onnx-int8", lambda _: None),
    ("v4/full_stack-onnx-int8", _of_last_week),
]


@pytest.mark.parametrize(("name", "change"), EARLIER, ids=[*(name for name, _ in EARLIER[:-1]), "v4 of last week"])
def test_an_artifact_of_any_layout_is_replaced(
    name: str, change: Callable[[Path], object], tmp_path: Path, manifest: Manifest
) -> None:
    destination = Path(shutil.copytree(GOLDEN / "artifacts" / name, tmp_path / "home/artifact"))
    change(destination)
    encoder = stcompile.load(destination, threads=1)
    assert encoder.encode("hello").shape == (encoder.get_sentence_embedding_dimension(),)
    (destination / "notes.txt").write_text("mine")
    with pytest.raises(ArtifactError, match=r"also holds notes\.txt"), claimed(destination):
        pytest.fail("no work may be done")
    (destination / "notes.txt").unlink()
    with staged(destination) as folder:
        _write(folder, manifest, b"new graph")
    assert _tree(destination).keys() == {MANIFEST_NAME, "model.onnx", "more/tokenizer.json"}


def test_a_report_beside_an_older_manifest_is_a_foreign_file(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(GOLDEN / "artifacts" / FROZEN[0], tmp_path / "artifact"))
    (folder / "report.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"holds report\.json, which its manifest\.json does not list"):
        open_artifact(folder)


@pytest.mark.parametrize(
    "name", ["weights.data", "model.onnx.data", "more/x", "README.rst", ".hidden", "more/.cache", "..x"]
)
def test_a_file_that_is_not_listed_is_refused(name: str, artifact: Path) -> None:
    (artifact / name).write_bytes(b"")
    with pytest.raises(ArtifactError, match=f"holds {name}, which its manifest.json does not list"):
        open_artifact(artifact, check_integrity=False)


@pytest.mark.parametrize("name", [".cache/w.bin", ".git/w.bin", "README.md", "LICENSE", "nowhere"])
def test_weights_that_are_not_listed_are_refused(name: str, artifact: Path) -> None:
    """Also under names that are passed over, as of what a hub adds."""
    entry = onnx.StringStringEntryProto(key="location", value=name)
    tensor = onnx.TensorProto(name="w", data_location=onnx.TensorProto.EXTERNAL, external_data=[entry])
    (artifact / "model.onnx").write_bytes(
        onnx.ModelProto(graph=onnx.GraphProto(initializer=[tensor])).SerializeToString()
    )
    write_manifest(artifact, read_manifest(artifact))
    (artifact / name).parent.mkdir(exist_ok=True)
    (artifact / name).write_bytes(b"weights")
    with pytest.raises(ArtifactError, match=rf"model\.onnx in .* reads weights from {re.escape(name)}, which"):
        open_artifact(artifact)


def test_a_link_that_is_not_listed_is_refused(artifact: Path) -> None:
    _link(artifact / "weights", artifact.parent)
    with pytest.raises(ArtifactError, match="holds weights, which"):
        open_artifact(artifact)


def test_what_a_hub_and_version_control_add_is_accepted(artifact: Path) -> None:
    for name in ("README.md", "LICENSE", ".gitattributes", ".git/HEAD", ".cache/huggingface/download/model.onnx.lock"):
        (artifact / name).parent.mkdir(parents=True, exist_ok=True)
        (artifact / name).write_text("x")
    open_artifact(artifact)


def test_what_systems_hide_in_a_folder_is_accepted(artifact: Path) -> None:
    for name in (".gitkeep", ".DS_Store", "more/.DS_Store", "._model.onnx", "more/._tokenizer.json"):
        (artifact / name).write_text("x")
    open_artifact(artifact)


def test_a_volume_of_kubernetes_is_accepted(artifact: Path, tmp_path: Path) -> None:
    """Files are links through ..data, which is a link to a dated folder."""
    volume = tmp_path / "volume"
    dated = volume / "..2026_11_30_23_59_59.123456789"
    shutil.copytree(artifact, dated)
    _link(volume / "..data", dated)
    for file in (path.relative_to(dated) for path in dated.rglob("*") if path.is_file()):
        (volume / file).parent.mkdir(exist_ok=True)
        _link(volume / file, volume / "..data" / file)
    open_artifact(volume)
    (volume / "..data_of_mine").write_text("x")
    with pytest.raises(ArtifactError, match=r"holds \.\.data_of_mine, which"):
        open_artifact(volume)


def test_parents_that_were_made_for_nothing_are_gone_again(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), staged(tmp_path / "a/b/artifact"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_two_exports_of_one_process_do_not_share_a_destination(artifact: Path, manifest: Manifest) -> None:
    with staged(artifact) as first:
        with pytest.raises(ArtifactError, match=r"another export is writing to .*artifact: wait"), claimed(artifact):
            pytest.fail("only one may")
        _write(first, manifest, b"first")
    assert (artifact / "model.onnx").read_bytes() == b"first"
    assert [path.name for path in artifact.parent.iterdir()] == ["artifact"]


def test_a_folder_that_cannot_be_renamed_is_filled(
    artifact: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of a lower layer of an overlay, as images of containers have them."""
    real = Path.rename

    def rename(path: Path, target: Path) -> Path:
        if path == artifact:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return real(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    with staged(artifact) as folder:
        _write(folder, manifest, b"new graph")
    assert (open_artifact(artifact).folder / "model.onnx").read_bytes() == b"new graph"
    assert [path.name for path in artifact.parent.iterdir()] == ["artifact"]


def _write_half(folder: Path, error: BaseException) -> None:
    (folder / "half").write_text("half")
    raise error


def _link(path: Path, target: Path) -> Path:
    path.symlink_to(target)
    return path


def _edit(folder: Path, old: str, new: str) -> None:
    text = (folder / MANIFEST_NAME).read_text()
    assert old in text
    (folder / MANIFEST_NAME).write_text(text.replace(old, new))
