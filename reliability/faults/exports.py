"""Faults of exports: processes that die, disks that are full, and two at once."""

from __future__ import annotations

import contextlib
import hashlib
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import stcompile

# Short of all else, and of every step of an export.
_TARGET = "onnx-fp32"

_BAD_INPUT, _INTERRUPTED = 2, 130

# Seconds that an export may take to end once it is told to.
_LONGEST = 60


class Skipped(Exception):
    """What a fault needs and this machine has not."""


def killed(model: Path, artifact: Path, home: Path, times: int) -> dict[str, int]:
    """Kills an export at moments drawn from all of its time."""
    return _ended(model, artifact, home, times, signal.SIGKILL)


def interrupted(model: Path, artifact: Path, home: Path, times: int) -> dict[str, int]:
    """Interrupts one as Ctrl-C does."""
    # Of a command in the background of a shell it is ignored, and so it would be in what this process starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return _ended(model, artifact, home, times, signal.SIGINT)


def _ended(model: Path, artifact: Path, home: Path, times: int, how: signal.Signals) -> dict[str, int]:
    out = Path(shutil.copytree(artifact, home / "out"))
    old = _digest(out)
    begun = time.monotonic()
    assert _start(model, home / "whole").wait() == 0
    whole = time.monotonic() - begun
    new, chance = _digest(home / "whole"), random.Random(19)
    found: Counter[str] = Counter()
    for _ in range(times):
        process = _start(model, out)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(chance.uniform(0, whole * 1.05))
        process.send_signal(how)
        try:
            code = process.wait(_LONGEST)
        except subprocess.TimeoutExpired as error:
            process.kill()
            raise AssertionError(f"it did not end within {_LONGEST} s of {how.name}") from error
        holds = _digest(out)
        assert holds in (old, new), f"{out} holds a mixture"
        stcompile.load(out, self_test=True).close()
        found["published before it" if holds == new else "old artifact whole"] += 1
        if how == signal.SIGINT and code:
            # Before the command has begun, Python itself ends by the signal.
            assert code in (_INTERRUPTED, -signal.SIGINT, 1), f"exit code {code}"
            beside = [path.name for path in home.iterdir() if path.name not in ("out", "whole")]
            assert not beside, f"left beside the artifact: {beside}"
        if holds == new:
            shutil.rmtree(out)
            shutil.copytree(artifact, out)
    assert _start(model, out).wait() == 0, "what was left is in the way of the next export"
    assert _digest(out) == new
    beside = sorted(path.name for path in home.iterdir() if path.name not in ("out", "whole"))
    assert not beside, f"left beside the artifact: {beside}"
    return dict(found)


def onto_full_disks(model: Path, artifact: Path, home: Path, times: int) -> dict[str, int]:
    """Exports onto small disks of several sizes."""
    found: Counter[str] = Counter()
    for index in range(times):
        size = 1 + index * 59 // max(1, times - 1)
        with _mounted(home / f"disk-{index}", "-t", "tmpfs", "-o", f"size={size}m", "tmpfs") as disk:
            code, said = _exported(model, disk / "out")
            assert (code, said.count("\n"), "space" in said.lower()) == (_BAD_INPUT, 1, True), (code, said)
            assert not [path for path in disk.iterdir() if path.name != "out" or any(path.iterdir())]
            found["refused, nothing left"] += 1
    return dict(found)


def onto_a_read_only_disk(model: Path, artifact: Path, home: Path, times: int) -> dict[str, int]:
    """Exports onto a disk that takes nothing."""
    with _mounted(home / "disk", "-t", "tmpfs", "-o", "ro", "tmpfs") as disk:
        for _ in range(times):
            code, said = _exported(model, disk / "out")
            assert (code, said.count("\n")) == (_BAD_INPUT, 1), (code, said)
    return {"refused": times}


def two_into_one_folder(model: Path, artifact: Path, home: Path, times: int) -> dict[str, int]:
    """Starts two exports at about the same time."""
    found: Counter[str] = Counter()
    for index in range(times):
        out = home / f"out-{index}"
        both = [_start(model, out) for _ in range(2)]
        said = [process.communicate()[1] for process in both]
        codes = sorted(process.returncode for process in both)
        assert codes in ([0, 0], [0, _BAD_INPUT]), (codes, said)
        stcompile.load(out, self_test=True).close()
        found["one after the other" if codes == [0, 0] else "one published, one refused"] += 1
    return dict(found)


def _command(model: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "stcompile", "export", str(model), "--target", _TARGET, "--output", str(out)]


def _start(model: Path, out: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(_command(model, out), text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def _exported(model: Path, out: Path) -> tuple[int, str]:
    """The exit code, and what was said behind the names of the steps."""
    done = subprocess.run(_command(model, out), text=True, capture_output=True, check=False)
    return done.returncode, "".join(line for line in done.stderr.splitlines(True) if line.startswith("stcompile:"))


def _digest(folder: Path) -> str:
    """Of the names and the content of all files."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(f"{path.relative_to(folder)} {path.stat().st_size} ".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


@contextlib.contextmanager
def _mounted(place: Path, *options: str) -> Iterator[Path]:
    place.mkdir()
    done = subprocess.run(["mount", *options, str(place)], check=False, capture_output=True, text=True)
    if done.returncode:
        raise Skipped(f"mounting is not allowed here ({done.stderr.strip()})")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)
