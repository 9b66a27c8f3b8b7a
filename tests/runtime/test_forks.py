"""Forked children and other processes: they work, they end, and the parent does not notice."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stcompile.runtime.forks import _LONGEST_UNREST, _Gate, _pools_run
from tests.conftest import Quick, load_case

CASE = "postprocessing"

ENGINES = pytest.mark.parametrize("target", ["onnx-fp32", "openvino-fp32"])

# Float32 rounding of a small network, in batches of other sizes.
ATOL = 2e-6

# Of scripts that take a few: a process that hangs fails its test, one on a busy machine does not.
_SECONDS = 600

_COMMON = """
import asyncio, json, multiprocessing, os, signal, sys, threading, time
import numpy as np
import stcompile

folder, texts, expected = sys.argv[1], json.load(open(sys.argv[2])), np.load(sys.argv[3])

def right(vectors):
    np.testing.assert_allclose(vectors, expected, rtol=0, atol={atol})

def ended(pid, seconds=150):
    '''Its exit code; of a child that hangs, a word.'''
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "hung"
"""


def in_python(script: str, folder: Path, tmp_path: Path) -> str:
    """Runs a script with the texts and vectors of the case; nothing may be said on standard error."""
    case = load_case(CASE)
    file, texts, expected = (tmp_path / name for name in ("script.py", "texts.json", "expected.npy"))
    file.write_text(_COMMON.replace("{atol}", str(ATOL)) + script, encoding="utf-8")
    texts.write_text(json.dumps(case.texts), encoding="utf-8")
    np.save(expected, case.expected())
    command = [sys.executable, str(file), str(folder), str(texts), str(expected)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


_FORK = """
encoder = stcompile.load(folder, threads=2)
mine = encoder.single_threaded()
shared = stcompile.AsyncEncoder(encoder)
many = texts * 5
right(encoder.encode(texts))

is_over = threading.Event()

def busy():
    while not is_over.is_set():
        encoder.encode(texts)

async def together():
    async with shared:
        return await asyncio.gather(*(shared.encode(text) for text in texts))

threads = [threading.Thread(target=busy) for _ in range(BUSY)]
for thread in threads:
    thread.start()
codes = []
for turn in range(TIMES):
    time.sleep(0.005 * turn)
    pid = os.fork()
    if not pid:
        right(encoder.encode(many)[: len(texts)])
        right(mine.encode(texts))
        right(asyncio.run(together()))
        grandchild = os.fork()
        right(encoder.encode(texts))
        sys.exit(ended(grandchild) if grandchild else 0)
    codes.append(ended(pid))
is_over.set()
for thread in threads:
    thread.join()
right(encoder.encode(texts))
right(asyncio.run(together()))
print(codes)
"""


@ENGINES
@pytest.mark.parametrize(("busy", "times"), [(0, 1), pytest.param(2, 3, marks=pytest.mark.servers)])
def test_a_forked_child_encodes_and_ends(busy: int, times: int, target: str, quick: Quick, tmp_path: Path) -> None:
    script = _FORK.replace("BUSY", str(busy)).replace("TIMES", str(times))
    assert in_python(script, quick(CASE, target).folder, tmp_path).strip() == str([0] * times)


_MULTIPROCESSING = """
from concurrent.futures import ProcessPoolExecutor

def work(encoder):
    right(encoder.encode(texts))
    assert repr(encoder).endswith("threads=1)")

def inherited(_):
    return encoder.encode(texts)

if __name__ == "__main__":
    encoder = stcompile.load(folder, threads=1)
    right(encoder.encode(texts))
    context = multiprocessing.get_context("METHOD")
    processes = [context.Process(target=work, args=(encoder,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    print([process.exitcode for process in processes])
    if "METHOD" == "fork":
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            for vectors in pool.map(inherited, range(4)):
                right(vectors)
"""


@ENGINES
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_multiprocessing(method: str, target: str, quick: Quick, tmp_path: Path) -> None:
    script = _MULTIPROCESSING.replace("METHOD", method)
    assert in_python(script, quick(CASE, target).folder, tmp_path).strip() == "[0, 0]"


_JOBLIB = """
import joblib

if __name__ == "__main__":
    encoder = stcompile.load(folder, threads=1)
    half = len(texts) // 2
    with joblib.parallel_config("loky", n_jobs=2):
        found = joblib.Parallel()(joblib.delayed(encoder.encode)(part) for part in (texts[:half], texts[half:]))
    right(np.concatenate(found))
"""


@pytest.mark.servers
@ENGINES
def test_joblib(target: str, quick: Quick, tmp_path: Path) -> None:
    pytest.importorskip("joblib")
    in_python(_JOBLIB, quick(CASE, target).folder, tmp_path)


_GONE = """
import shutil
encoder = stcompile.load(folder, threads=1)
HAPPENS
pid = os.fork()
if not pid:
    for _ in range(2):
        try:
            encoder.encode(texts)
        except stcompile.ArtifactError as error:
            print(error, flush=True)
    sys.exit(0)
assert ended(pid) == 0
right(encoder.encode(texts))
"""


@ENGINES
@pytest.mark.parametrize(
    ("happens", "sentence"),
    [
        ("shutil.rmtree(folder)", "there is no artifact at"),
        ("open(folder + '/manifest.json', 'a').write(' ')", "holds another artifact than when the encoder was loaded"),
    ],
)
def test_a_child_whose_folder_changed_says_so(
    happens: str, sentence: str, target: str, quick: Quick, tmp_path: Path
) -> None:
    folder = tmp_path / "artifact"
    quick(CASE, target, folder)
    assert in_python(_GONE.replace("HAPPENS", happens), folder, tmp_path).count(sentence) == 2


_STREAM = """
encoder = stcompile.load(folder, threads=1)
stream = encoder.encode_iter(texts)
pid = os.fork()
try:
    right(list(stream))
except stcompile.StcompileError as error:
    print(error, flush=True)
    assert not pid
assert not pid or ended(pid) == 0
"""


@ENGINES
def test_a_stream_does_not_go_on_in_a_child(target: str, quick: Quick, tmp_path: Path) -> None:
    told = in_python(_STREAM, quick(CASE, target).folder, tmp_path)
    assert told == "what began to encode before a fork cannot go on in the child: begin it there\n"


_RELATIVE = """
home, name = os.path.split(folder)
os.chdir(home)
encoder = stcompile.load(name, threads=1)
os.chdir("/")
pid = os.fork()
right(encoder.encode(texts))
assert not pid or ended(pid) == 0
"""


def test_a_server_may_go_to_another_folder(quick: Quick, tmp_path: Path) -> None:
    in_python(_RELATIVE, quick(CASE, "onnx-fp32").folder, tmp_path)


_THREADS = """
def started():
    return len(os.listdir("/proc/self/task"))

encoder = stcompile.load(folder, threads=THREADS)
encoder = encoder.single_threaded() if SINGLE else encoder
encoder.encode("a first run, whose threads are the engine's")
pid = os.fork() if FORKED else 0
if pid:
    sys.exit(ended(pid))
encoder.encode("a first run, whose threads are the engine's")
before = started()
for _ in range(2):
    encoder.encode(texts[:1])
    # more text than is tokenized at once, in batches too few for workers
    encoder.encode(["hello " * 20_000] * 4, batch_size=4)
print(started() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in /proc")
@ENGINES
@pytest.mark.parametrize(
    ("threads", "single", "forked"), [(1, False, False), (2, True, False), (2, False, True), (2, False, False)]
)
def test_the_tokenizer_starts_no_pool(
    threads: int, single: bool, forked: bool, target: str, quick: Quick, tmp_path: Path
) -> None:
    """But for an encoder of several threads, in its own process: that it does is how we know that the test counts."""
    script = _THREADS.replace("THREADS", str(threads)).replace("SINGLE", str(single)).replace("FORKED", str(forked))
    more = int(in_python(script, quick(CASE, target).folder, tmp_path))
    assert (more > 0) is (threads > 1 and not single and not forked)


def test_a_fork_waits_for_the_batch_that_runs() -> None:
    gate, runs, may_end, order = _Gate(), threading.Event(), threading.Event(), list[str]()

    def batch() -> None:
        with gate:
            runs.set()
            assert may_end.wait(20)
            order.append("batch")

    def fork() -> None:
        gate.before_fork()
        order.append("fork")
        gate.after_fork()

    running = threading.Thread(target=batch)
    running.start()
    assert runs.wait(20)
    forking = threading.Thread(target=fork)
    forking.start()
    forking.join(0.05)
    assert forking.is_alive()
    may_end.set()
    for thread in (running, forking):
        thread.join(20)
    assert order == ["batch", "fork"]
    with gate:
        # a signal's handler, in the midst of the batch of its own thread
        gate.before_fork()
        gate.after_fork()


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="the system does not tell what its threads do")
def test_a_fork_waits_until_an_engines_threads_lie_down() -> None:
    """A thread that no Python started; one that never rests delays a fork, and does not stop it."""
    gate, over = _Gate(), threading.Event()
    library = ctypes.PyDLL(None)
    work = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(lambda _: _spin(over))
    thread = ctypes.c_ulong()
    _until(lambda: not _pools_run())  # other tests' engines have lain down
    assert library.pthread_create(ctypes.byref(thread), None, work, None) == 0
    try:
        _until(_pools_run)
        with gate:
            pass
        began = time.monotonic()
        gate.before_fork()
        assert time.monotonic() - began >= _LONGEST_UNREST
        began = time.monotonic()
        gate.before_fork()
        assert time.monotonic() - began < _LONGEST_UNREST  # no call went before
    finally:
        over.set()
        ctypes.CDLL(None).pthread_join(thread, None)
    _until(lambda: not _pools_run())


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline


def _spin(over: threading.Event) -> None:
    while not over.is_set():
        zlib.crc32(bytes(10_000_000))  # without Python's lock: nobody else is kept from running
