"""Publishing among other processes, mounts and full disks: real ones, killed where it hurts."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stcompile.artifact import claimed, open_artifact, scratch, write_manifest
from stcompile.artifact.manifest import MANIFEST_NAME, Manifest
from stcompile.compiler.parity.runner import Run, run_shipped
from stcompile.errors import ArtifactError, StcompileError
from tests.conftest import Compiled

# An export without a model: stages what it is told to, says so, and publishes when it is told to go on. It kills
# itself at the rename of that number, so that every moment of publishing is tried.
_EXPORT = """
import itertools, os, pathlib, signal, sys
from stcompile.artifact import claimed, write_manifest
from stcompile.errors import StcompileError
from stcompile.artifact.manifest import Manifest

destination, manifest, content, last = sys.argv[1:]
real, count = pathlib.Path.rename, itertools.count()

def rename(path, target):
    if next(count) == int(last):
        os.kill(os.getpid(), signal.SIGKILL)
    return real(path, target)

pathlib.Path.rename = rename
try:
    with claimed(destination) as place, place.staged() as folder:
        (folder / "model.onnx").write_text(content)
        if content == "new":
            (folder / "only-new").write_text(content)
        (folder / "more").mkdir()
        (folder / "more" / "tokenizer.json").write_text(content)
        write_manifest(folder, Manifest.from_json(pathlib.Path(manifest).read_text()))
        print("staged", flush=True)
        sys.stdin.readline()
except StcompileError as error:
    sys.exit(f"stcompile: {error}")
"""

NEVER = -1


class Exports:
    """Exports in processes of their own, from a folder of their choice."""

    def __init__(self, manifest: Path) -> None:
        self._manifest = manifest

    def start(self, destination: Path | str, content: str, last: int = NEVER, cwd: Path | None = None) -> _Process:
        command = [sys.executable, "-c", _EXPORT, str(destination), str(self._manifest), content, str(last)]
        return subprocess.Popen(
            command, cwd=cwd, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def run(self, destination: Path | str, content: str, last: int = NEVER, cwd: Path | None = None) -> tuple[int, str]:
        """Its exit code, and what it said."""
        process = self.start(destination, content, last, cwd)
        _, said = process.communicate("go on\n", timeout=60)
        return process.returncode, said


_Process = subprocess.Popen[str]


@pytest.fixture
def exports(tmp_path: Path, manifest: Manifest) -> Exports:
    path = tmp_path / "of the test.json"
    path.write_text(manifest.to_json(), encoding="utf-8")
    return Exports(path)


@contextlib.contextmanager
def mounted(place: Path, *options: str) -> Iterator[Path]:
    """Something mounted at a new folder; skips the test where that is not allowed."""
    place.mkdir()
    done = subprocess.run(["mount", *options, str(place)], check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture(params=["tmpfs", "bind"])
def mount(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A mount point: another filesystem, or a folder of the same one."""
    (tmp_path / "volume").mkdir()
    options = ("--bind", str(tmp_path / "volume")) if request.param == "bind" else ("-t", "tmpfs", "tmpfs")
    with mounted(tmp_path / "out", *options) as place:
        yield place


def content_of(folder: Path) -> str:
    """Of an artifact whose files are all of one export."""
    artifact = open_artifact(folder)
    found = {(folder / entry.path).read_text() for entry in artifact.manifest.files}
    assert len(found) == 1
    return found.pop()


def test_a_mount_point_is_published_into(mount: Path, exports: Exports) -> None:
    before = mount.stat().st_ino
    for content in ("old", "new", "old"):
        assert exports.run(mount, content) == (0, "")
        assert content_of(mount) == content
        only_new = {"only-new"} if content == "new" else set()
        assert {path.name for path in mount.iterdir()} == {"model.onnx", "more", MANIFEST_NAME} | only_new
    assert mount.stat().st_ino == before


def test_somebodys_mount_point_is_refused_and_untouched(mount: Path, exports: Exports) -> None:
    (mount / "index.html").write_text("<html>")
    code, said = exports.run(mount, "new")
    assert (code, said.count("\n")) == (1, 1)
    assert "is not empty and not an stcompile artifact" in said
    assert [path.name for path in mount.iterdir()] == ["index.html"]


def test_a_new_filesystem_of_a_volume_is_not_empty(tmp_path: Path, exports: Exports) -> None:
    with mounted(tmp_path / "out", "-t", "tmpfs", "tmpfs") as place:
        (place / "lost+found").mkdir()
        for content in ("old", "new"):
            assert exports.run(place, content) == (0, "")
            assert content_of(place) == content
        assert (place / "lost+found").is_dir()


def test_the_folder_somebody_is_in_stays_where_it_is(tmp_path: Path, exports: Exports) -> None:
    """`-o .`, and the shell that said so goes on in the same folder."""
    here = tmp_path / "here"
    here.mkdir()
    before = here.stat().st_ino
    for content in ("old", "new"):
        assert exports.run(".", content, cwd=here) == (0, "")
        assert content_of(here) == content
    assert here.stat().st_ino == before


@pytest.mark.parametrize("where", ["beside", "in place"])
def test_an_export_that_is_killed_at_any_moment_leaves_the_old_or_the_new(
    where: str, tmp_path: Path, exports: Exports
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    _kill_everywhere(home / "artifact", exports, in_place=where == "in place")
    assert {path.name for path in home.iterdir()} == {"artifact"}


def test_a_mount_point_survives_a_kill_at_any_moment(mount: Path, exports: Exports) -> None:
    _kill_everywhere(mount, exports, in_place=False)
    assert {path.name for path in mount.iterdir()} == {"model.onnx", "more", "only-new", MANIFEST_NAME}


def _kill_everywhere(destination: Path, exports: Exports, *, in_place: bool) -> None:
    destination.mkdir(exist_ok=True)
    assert exports.run(destination, "old") == (0, "")
    for last in range(100):
        code, _ = exports.run(destination, "new", last, destination if in_place else None)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        with claimed(destination):
            assert content_of(destination) == "old"
    assert last > 1
    assert content_of(destination) == "new"


def test_of_two_exports_one_wins_and_the_other_says_so(tmp_path: Path, exports: Exports) -> None:
    home = tmp_path / "home"
    first = exports.start(home / "artifact", "first")
    assert first.stdout is not None
    assert first.stdout.readline() == "staged\n"
    code, said = exports.run(home / "artifact", "second")
    assert code == 1
    assert said.count("\n") == 1
    assert "another export is writing to" in said
    assert exports.run(home / "other", "other") == (0, "")
    first.communicate("go on\n", timeout=60)
    assert first.returncode == 0
    assert content_of(home / "artifact") == "first"
    assert {path.name for path in home.iterdir()} == {"artifact", "other"}


def test_a_crowd_of_exports_leaves_one_whole_artifact(tmp_path: Path, exports: Exports) -> None:
    home = tmp_path / "home"
    crowd = [exports.start(home / "artifact", str(number)) for number in range(6)]
    said = [process.communicate("go on\n", timeout=60)[1] for process in crowd]
    assert 0 in [process.returncode for process in crowd]
    assert all("another export is writing" in text for text in said if text)
    assert content_of(home / "artifact") in map(str, range(6))
    assert {path.name for path in home.iterdir()} == {"artifact"}


def test_what_a_killed_export_staged_is_removed_by_the_next(tmp_path: Path, exports: Exports) -> None:
    home = tmp_path / "home"
    process = exports.start(home / "artifact", "killed")
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    process.communicate()
    assert list(home.iterdir()) != []
    assert exports.run(home / "artifact", "new") == (0, "")
    assert {path.name for path in home.iterdir()} == {"artifact"}


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
def test_a_lock_counts_across_process_namespaces(tmp_path: Path, exports: Exports) -> None:
    """Two containers that share a volume: the process number of one says nothing in the other."""
    unshare = ["unshare", "--map-root-user", "--pid", "--fork", "--mount-proc"]
    if subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode:
        pytest.skip("namespaces are not allowed here")
    home = tmp_path / "home"
    first = exports.start(home / "artifact", "first")
    assert first.stdout is not None
    first.stdout.readline()
    command = [*unshare, sys.executable, "-c", _EXPORT, str(home / "artifact")]
    inside = subprocess.run(
        [*command, str(tmp_path / "of the test.json"), "second", str(NEVER)],
        check=False,
        capture_output=True,
        text=True,
        input="go on\n",
    )
    assert inside.returncode == 1
    assert "another export is writing" in inside.stderr
    first.communicate("go on\n", timeout=60)
    assert content_of(home / "artifact") == "first"


def test_what_is_put_where_a_killed_export_was_is_nobodys_to_remove(tmp_path: Path, exports: Exports) -> None:
    """Killed between the two renames, the old artifact waits until the place is free again."""
    destination = tmp_path / "home" / "artifact"
    exports.run(destination, "old")
    assert exports.run(destination, "new", 1)[0] == -signal.SIGKILL
    destination.mkdir()
    (destination / "index.html").write_text("<html>")
    with pytest.raises(ArtifactError, match="choose another destination"), claimed(destination):
        pytest.fail("it is somebody's")
    assert [path.name for path in destination.iterdir()] == ["index.html"]
    shutil.rmtree(destination)
    with claimed(destination):
        assert content_of(destination) == "old"
    assert {path.name for path in destination.parent.iterdir()} == {"artifact"}


def test_a_full_destination_says_so_and_keeps_the_old(tmp_path: Path, manifest: Manifest) -> None:
    from stcompile.artifact import written

    with mounted(tmp_path / "out", "-t", "tmpfs", "-o", "size=256k", "tmpfs") as place:
        with claimed(place) as destination, destination.staged() as folder:
            (folder / "model.onnx").write_text("old")
            write_manifest(folder, manifest)
        with (
            pytest.raises(ArtifactError, match=f"no space left to write {place}: free some"),
            claimed(place) as destination,
            destination.staged() as folder,
            written(destination.path),
        ):
            (folder / "model.onnx").write_bytes(b"x" * 1_000_000)
        assert (place / "model.onnx").read_text() == "old"
        assert {path.name for path in place.iterdir()} == {"model.onnx", MANIFEST_NAME}


@pytest.mark.processes
@pytest.mark.parametrize("size", ["8k", "64k"], ids=["the job", "the vectors"])
def test_a_full_temporary_folder_is_named_and_not_the_destination(
    size: str, tmp_path: Path, compiled: Compiled, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = compiled("pool_mean")
    with mounted(tmp_path / "tmp", "-t", "tmpfs", "-o", f"size={size}", "tmpfs") as place:
        monkeypatch.setattr("tempfile.tempdir", str(place))
        monkeypatch.setenv("TMPDIR", str(place))
        sentence = f"no space left in the temporary folder {place}: free some, or name another .* TMPDIR"
        with pytest.raises(StcompileError, match=sentence):
            run_shipped(artifact, ["a text"], {"run": Run([0] * 4000)}, device="cpu", threads=1)


def test_no_temporary_folder_at_all_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(StcompileError, match=r"the temporary folder .*gone.* TMPDIR"), scratch("test"):
        pytest.fail("there is none")


def test_another_error_of_a_block_with_a_temporary_folder_stays_what_it_is(tmp_path: Path) -> None:
    error = OSError(28, "No space left on device", str(tmp_path / "elsewhere"))
    with pytest.raises(OSError, match="No space left on device") as caught, scratch("test"):
        raise error
    assert caught.value is error


def test_a_folder_whose_parent_is_closed_is_published_into(tmp_path: Path, exports: Exports) -> None:
    if os.geteuid() == 0:
        pytest.skip("root writes everywhere")
    (tmp_path / "closed/out").mkdir(parents=True)
    (tmp_path / "closed").chmod(0o555)
    assert exports.run(tmp_path / "closed/out", "new") == (0, "")
    assert content_of(tmp_path / "closed/out") == "new"
