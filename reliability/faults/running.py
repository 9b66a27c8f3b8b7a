"""Faults of encoders at work: files that go, forks, many threads, and an end in the middle."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import numpy as np

import stcompile
from stcompile.errors import ArtifactError

_TEXTS = ["hello world", "the quick brown fox jumps over the lazy dog", "", "a longer text " * 20]
_THREADS = 32

# Of vectors of length 1 in float32.
_ROUNDING = 1e-6
_CHILD_SECONDS = 60

# Seconds of a whole process that ends in the middle of its work, its start included.
_LONGEST_END = 10

# Encodes on a daemon thread and in an event loop, and ends in the middle of both.
_ENDS = """
import asyncio, random, sys, threading, time
import stcompile

encoder = stcompile.load(sys.argv[1])
texts = ["a text of some words, number %d" % index for index in range(64)]

def encode_always():
    while True:
        encoder.encode(texts)

for _ in range(2):
    threading.Thread(target=encode_always, daemon=True).start()

async def main():
    shared = stcompile.AsyncEncoder(encoder)
    tasks = [asyncio.ensure_future(shared.encode(text)) for text in texts]
    await asyncio.sleep(float(sys.argv[2]))
    if sys.argv[3] == "exit":
        sys.exit(0)
    if sys.argv[3] == "raise":
        raise KeyError("of the caller")

asyncio.run(main())
"""


def files_removed(model: Path, artifact: Path, home: Path, times: int) -> dict[str, int]:
    """Removes a file after another, or the folder, while an encoder is open."""
    found: Counter[str] = Counter()
    chance = random.Random(3)
    for index in range(times):
        folder = Path(shutil.copytree(artifact, home / f"artifact-{index}"))
        with stcompile.load(folder) as encoder:
            expected = encoder.encode(_TEXTS)
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            gone = files if index % 2 else chance.sample(files, 1)
            for path in gone:
                path.unlink()
            # More than once, so that nothing that was read before is all there is.
            for _ in range(3):
                assert np.array_equal(encoder.encode(_TEXTS), expected)
            # As many texts open the engine of single threads, too.
            many = encoder.encode([f"{text} {number}" for number in range(200) for text in _TEXTS[:2]])
            assert np.isfinite(many).all()
        try:
            stcompile.load(folder)
        except ArtifactError:
            found["all files" if index % 2 else "one file"] += 1
        else:
            raise AssertionError(f"{gone} were gone, and the folder loads")
    return dict(found)


def forked_while_busy(model: Path, artifact: Path, home: Path, times: int) -> dict[str, int]:
    """Forks while threads encode; the child encodes, too."""
    encoder = stcompile.load(artifact)
    expected = encoder.encode(_TEXTS)
    stop = threading.Event()

    def encode_always() -> None:
        while not stop.is_set():
            encoder.encode(_TEXTS)

    busy = [threading.Thread(target=encode_always) for _ in range(2)]
    for thread in busy:
        thread.start()
    try:
        for _ in range(times):
            child = os.fork()
            if not child:
                same = np.array_equal(encoder.encode(_TEXTS), expected)
                os._exit(0 if same else 1)
            ended = _waited(child)
            assert ended == 0, f"a child ended with {ended}"
    finally:
        stop.set()
        for thread in busy:
            thread.join()
    return {"children with the same vectors": times}


def _waited(child: int) -> int:
    """The exit code of a child that ends in time."""
    timer = threading.Timer(_CHILD_SECONDS, os.kill, (child, 9))
    timer.start()
    _, status = os.waitpid(child, 0)
    timer.cancel()
    return os.waitstatus_to_exitcode(status)


def many_threads(model: Path, artifact: Path, home: Path, times: int) -> dict[str, int]:
    """Encodes so many texts on 32 threads, batches of all sizes mixed."""
    encoder = stcompile.load(artifact)
    expected = {text: encoder.encode(text) for text in _TEXTS}
    wrong: list[str] = []

    def work(seed: int) -> None:
        chance = random.Random(seed)
        done = 0
        while done < times // _THREADS:
            texts = [chance.choice(_TEXTS) for _ in range(chance.randint(1, 9))]
            done += len(texts)
            for text, vector in zip(texts, encoder.encode(texts), strict=True):
                # Another batch is another shape of matrix behind the layers, which is added up in another order.
                if not np.abs(vector - expected[text]).max() < _ROUNDING:
                    wrong.append(text)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, f"{len(wrong)} vectors differ"
    return {"texts with the same vector": times}


def ended_while_busy(model: Path, artifact: Path, home: Path, times: int) -> dict[str, int]:
    """Ends an interpreter at a random moment of its work, in three ways."""
    found: Counter[str] = Counter()
    chance = random.Random(5)
    for index in range(times):
        way = ("return", "exit", "raise")[index % 3]
        command = [sys.executable, "-c", _ENDS, str(artifact), str(chance.uniform(0, 0.5)), way]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_LONGEST_END)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"it did not end within {_LONGEST_END} s by {way}") from error
        assert done.returncode == (1 if way == "raise" else 0), (way, done.returncode, done.stderr[-2000:])
        assert ("KeyError" in done.stderr) == (way == "raise"), done.stderr[-2000:]
        found[f"ended by {way}"] += 1
    return dict(found)
