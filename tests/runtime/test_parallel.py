"""Many batches run side by side on an engine of their own; few do not pay for it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import stcompile
from stcompile.artifact import Artifact
from stcompile.errors import InputError
from stcompile.runtime import batching
from stcompile.runtime.device import CPU, Device
from stcompile.runtime.engines import Engine, open_engine
from stcompile.runtime.text.base import Feeds
from tests.conftest import Case, Quick, load_case

CASE = "postprocessing"
TARGETS = ["onnx-fp32", "openvino-fp32"]


class Watched:
    """An engine that knows who ran it."""

    kernels = ""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.callers: list[str] = []

    def run(self, feeds: Feeds, outputs: tuple[str, ...]) -> list[npt.NDArray[np.float32]]:
        self.callers.append(threading.current_thread().name)
        return self._engine.run(feeds, outputs)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Watched]:
    """Every engine that is opened from now on; the export of an artifact opens some too."""
    found: list[Watched] = []

    def watched(*arguments: Any) -> Watched:
        found.append(Watched(open_engine(*arguments)))
        return found[-1]

    monkeypatch.setattr("stcompile.runtime.route.open_engine", watched)
    return found


def loaded(artifact: Artifact, opened: list[Watched], *, threads: int) -> stcompile.Encoder:
    """An encoder; from here on only its own engines are `opened`."""
    opened.clear()
    return stcompile.Encoder.load(artifact.folder, threads=threads)


@pytest.fixture(scope="module")
def case() -> Case:
    return load_case(CASE)


@pytest.mark.parametrize("target", TARGETS)
def test_many_batches_run_on_workers_and_give_the_same(
    target: str, opened: list[Watched], case: Case, quick: Quick
) -> None:
    encoder = loaded(quick(CASE, target), opened, threads=2)
    assert len(opened) == 1
    np.testing.assert_allclose(encoder.encode(case.texts, batch_size=2), case.expected(), atol=2e-6)
    assert len(opened) == 2
    assert opened[0].callers == []
    assert all(name.startswith("stcompile") for name in opened[1].callers)
    encoder.encode(case.texts, batch_size=2)
    assert len(opened) == 2, "opened once"


def test_few_batches_run_on_all_threads_one_after_the_other(opened: list[Watched], case: Case, quick: Quick) -> None:
    encoder = loaded(quick(CASE, "onnx-fp32"), opened, threads=2)
    encoder.encode(case.texts[:14], batch_size=2)
    encoder.encode("hello")
    assert len(opened) == 1
    assert set(opened[0].callers) == {threading.current_thread().name}


def test_one_thread_stays_one_thread(opened: list[Watched], case: Case, quick: Quick) -> None:
    encoder = loaded(quick(CASE, "onnx-fp32"), opened, threads=1)
    encoder.encode(case.texts, batch_size=1)
    encoder.single_threaded().encode(case.texts, batch_size=1)
    assert len(opened) == 1
    assert set(opened[0].callers) == {threading.current_thread().name}


@pytest.mark.parametrize("target", TARGETS)
def test_callers_with_threads_of_their_own_share_one_engine(
    target: str, opened: list[Watched], case: Case, quick: Quick
) -> None:
    encoder = loaded(quick(CASE, target), opened, threads=3).single_threaded()
    with ThreadPoolExecutor(3, thread_name_prefix="mine") as pool:
        found = list(pool.map(encoder.encode, case.texts))
    np.testing.assert_allclose(np.stack(found), case.expected(), atol=2e-6)
    assert len(opened) == 2
    assert opened[0].callers == []
    assert all(name.startswith("mine") for name in opened[1].callers)


def test_a_table_of_words_needs_no_workers(opened: list[Watched], quick: Quick) -> None:
    case = load_case("static_normalize")
    encoder = loaded(quick(case.name, "onnx-fp32"), opened, threads=2)
    encoder.encode(case.texts, batch_size=1)
    assert len(opened) == 1


def test_windows_are_tokenized_ahead_and_do_not_show(case: Case, quick: Quick, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = quick(CASE, "onnx-fp32").folder
    encoder = stcompile.load(folder, threads=2)
    monkeypatch.setattr(batching, "WINDOW", 5)
    np.testing.assert_allclose(encoder.encode(case.texts, batch_size=1), case.expected(), atol=2e-6)
    with pytest.raises(InputError, match="item 27 holds half of a surrogate pair"):
        encoder.encode([*case.texts[:27], "\ud800"], batch_size=1)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("stcompile")]


def test_a_long_call_holds_few_token_ids(quick: Quick, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of token ids alive at once: two windows, whatever the number of texts."""
    folder = quick(CASE, "onnx-fp32").folder
    encoder = stcompile.load(folder, threads=2)
    monkeypatch.setattr(batching, "WINDOW", 10)
    text = encoder._routes[""]._text
    tokenize, begun, done = text.tokenize, 0, 0

    def counted(texts: Any, prompt: str | None, **options: Any) -> Any:
        nonlocal begun
        begun += len(texts)
        assert begun - done <= 40
        return tokenize(texts, prompt, **options)

    monkeypatch.setattr(text, "tokenize", counted)
    for rows, _, _ in encoder._routes[""].run([f"text {index}" for index in range(500)], None, 1, "sentence_embedding"):
        done += len(rows)
    assert done == 500


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_gpu_gets_large_batches_and_no_workers(device: str, quick: Quick, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = quick(CASE, "onnx-fp32").folder
    ran: list[Watched] = []

    def on_cpu(folder: Any, graph: Any, manifest: Any, _: str, threads: int, runs: int = 1) -> Engine:
        engine = Watched(open_engine(folder, graph, manifest, Device(CPU), threads, runs))
        ran.append(engine)
        return engine

    monkeypatch.setattr("stcompile.runtime.route.open_engine", on_cpu)
    encoder = stcompile.load(folder, device=device, threads=4)
    encoder.encode([f"{'hello ' * 30}{index}" for index in range(256)])
    batches = sum(len(engine.callers) for engine in ran)
    assert (len(ran), batches > 15) == ((2, True) if device == "cpu" else (1, False))
    assert device == "cpu" or batches == 1
