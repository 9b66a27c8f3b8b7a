"""`AsyncEncoder`: concurrent callers share runs, and nobody is lost, whoever is cancelled, wrong or late."""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
from collections.abc import Coroutine
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import stcompile
from stcompile.errors import InputError, StcompileError
from stcompile.runtime.async_encoder import AsyncEncoder
from tests.conftest import Case, Compiled, load_case

CASE = "postprocessing"


class Watched:
    """An encoder that can be held, and that knows what it was asked for."""

    def __init__(self, encoder: stcompile.Encoder) -> None:
        self._encoder = encoder
        self.artifact, self.device = encoder.artifact, encoder.device
        self.max_seq_length = encoder.max_seq_length
        self.threads = 2
        self.asked: list[list[Any]] = []
        self.may_run = threading.Event()
        self.may_run.set()

    def single_threaded(self) -> Watched:
        return self

    def encode(self, texts: list[Any], **options: Any) -> Any:
        assert self.may_run.wait(60)
        self.asked.append(texts)
        assert options["show_progress_bar"] is False
        return self._encoder.encode(texts, **options)


@pytest.fixture(scope="module")
def encoder(compiled: Compiled) -> stcompile.Encoder:
    return stcompile.Encoder.load(compiled(CASE), threads=1)


@pytest.fixture
def watched(encoder: stcompile.Encoder) -> Watched:
    return Watched(encoder)


@pytest.fixture(scope="module")
def case() -> Case:
    return load_case(CASE)


def run(work: Coroutine[Any, Any, Any]) -> Any:
    async def in_time() -> Any:
        return await asyncio.wait_for(work, 60)

    return asyncio.run(in_time())


def assert_close(found: Any, expected: npt.NDArray[Any]) -> None:
    np.testing.assert_allclose(np.stack(found), expected, atol=2e-6)


@pytest.mark.parametrize("options", [{"max_wait_ms": 0}, {}, {"workers": 3, "max_tokens": 64}, {"max_pending": 2}])
def test_everyone_gets_his_own_vector(options: dict[str, Any], encoder: stcompile.Encoder, case: Case) -> None:
    async def main() -> list[Any]:
        async with AsyncEncoder(encoder, **options) as shared:
            return await asyncio.gather(*(shared.encode(text) for text in case.texts * 4))

    assert_close(run(main()), np.concatenate([case.expected()] * 4))


def test_those_who_come_together_run_together(watched: Watched, case: Case) -> None:
    async def main() -> None:
        async with AsyncEncoder(watched, workers=1, max_tokens=10_000) as shared:  # type: ignore[arg-type]
            await asyncio.gather(*(shared.encode(text) for text in case.texts))

    run(main())
    assert [len(texts) for texts in watched.asked] == [len(case.texts)]


def test_while_workers_are_busy_the_next_batch_grows(watched: Watched) -> None:
    async def main() -> None:
        async with AsyncEncoder(watched, workers=1, max_wait_ms=0) as shared:  # type: ignore[arg-type]
            watched.may_run.clear()
            first = asyncio.create_task(shared.encode("first"))
            await asyncio.sleep(0.05)
            later = [asyncio.create_task(shared.encode(f"later {index}")) for index in range(7)]
            await asyncio.sleep(0.05)
            watched.may_run.set()
            await asyncio.gather(first, *later)

    run(main())
    assert [len(texts) for texts in watched.asked] == [1, 7]


def test_a_run_ends_at_its_tokens_and_a_larger_text_is_taken_alone(watched: Watched) -> None:
    async def main() -> None:
        async with AsyncEncoder(watched, workers=1, max_tokens=20) as shared:  # type: ignore[arg-type]
            await asyncio.gather(*(shared.encode("word word word") for _ in range(9)), shared.encode("word " * 30))

    run(main())
    assert [len(texts) for texts in watched.asked] == [4, 4, 1, 1]


def test_a_caller_with_one_text_waits_for_one_run_at_most(watched: Watched) -> None:
    """However many texts those have who came before him, and however few may be pending."""
    bulk = [f"text {index}" for index in range(200)]

    async def main() -> list[Any]:
        async with AsyncEncoder(watched, workers=1, max_tokens=40, max_pending=8) as shared:  # type: ignore[arg-type]
            watched.may_run.clear()
            large = [asyncio.create_task(shared.encode(bulk)) for _ in range(2)]
            await asyncio.sleep(0.05)
            small = asyncio.create_task(shared.encode("small"))
            await asyncio.sleep(0.05)
            watched.may_run.set()
            await small
            assert not any(task.done() for task in large)
            return await asyncio.gather(*large)

    found = run(main())
    assert [("small" in texts) for texts in watched.asked[:3]] == [False, True, False]
    assert all(len(texts) <= 8 for texts in watched.asked)
    for vectors in found:
        assert_close(vectors, watched._encoder.encode(bulk))


def test_many_texts_of_one_caller_run_on_all_workers(watched: Watched) -> None:
    threads = set[int]()

    class Meeting(Watched):
        both = threading.Barrier(2, timeout=60)

        def encode(self, texts: list[Any], **options: Any) -> Any:
            if threading.get_ident() not in threads:
                threads.add(threading.get_ident())
                self.both.wait()
            return super().encode(texts, **options)

    async def main() -> Any:
        async with AsyncEncoder(Meeting(watched._encoder), workers=2, max_tokens=40) as shared:  # type: ignore[arg-type]
            return await shared.encode([f"text {index}" for index in range(50)])

    assert len(run(main())) == 50
    assert len(threads) == 2


def test_lists_queries_and_options_keep_their_meaning(encoder: stcompile.Encoder, case: Case) -> None:
    texts = case.texts[:5]

    async def main() -> tuple[Any, ...]:
        async with AsyncEncoder(encoder) as shared:
            return await asyncio.gather(
                shared.encode(texts),
                shared.encode(texts, truncate_dim=4, normalize_embeddings=True),
                shared.encode_query(texts[0]),
                shared.encode_document(texts),
                shared.encode([]),
            )

    plain, cut, query, documents, none = run(main())
    assert_close(plain, encoder.encode(texts))
    assert_close(cut, encoder.encode(texts, truncate_dim=4, normalize_embeddings=True))
    assert_close(query, encoder.encode_query(texts[0]))
    assert_close(documents, encoder.encode_document(texts))
    assert none.shape == (0, encoder.get_sentence_embedding_dimension())


@pytest.mark.parametrize(
    ("sentences", "options", "sentence"),
    [
        ([3], {}, "item 0 is int"),
        (7, {}, "got int"),
        ("half a pair \ud800", {}, "surrogate"),
        ("a", {"prompt_name": "none such"}, "unknown prompt"),
        ("a", {"batch_size": 3}, "texts of several callers share a run: batch_size"),
        ("a", {"precision": "int8"}, "texts of several callers share a run: precision"),
        ("a", {"prompt": ["a"]}, "prompt must be text"),
    ],
)
def test_who_is_wrong_hears_it_alone(
    sentences: Any, options: dict[str, Any], sentence: str, encoder: stcompile.Encoder, case: Case
) -> None:
    async def main() -> list[Any]:
        async with AsyncEncoder(encoder, workers=1) as shared:
            return await asyncio.gather(
                *(shared.encode(text) for text in case.texts[:4]),
                shared.encode(sentences, **options),
                return_exceptions=True,
            )

    *others, wrong = run(main())
    assert isinstance(wrong, InputError)
    assert sentence in str(wrong)
    assert_close(others, case.expected()[:4])


def test_who_is_cancelled_costs_nothing_and_hurts_nobody(watched: Watched, case: Case) -> None:
    async def main() -> list[Any]:
        async with AsyncEncoder(watched, workers=1, max_wait_ms=0, max_pending=6) as shared:  # type: ignore[arg-type]
            watched.may_run.clear()
            running = asyncio.create_task(shared.encode("running"))
            await asyncio.sleep(0.05)
            waiting = [asyncio.create_task(shared.encode(text)) for text in case.texts[:5]]
            at_the_door = [asyncio.create_task(shared.encode(text)) for text in case.texts[5:9]]
            await asyncio.sleep(0.05)
            for task in (running, waiting[1], at_the_door[0]):
                task.cancel()
            await asyncio.sleep(0.05)
            watched.may_run.set()
            return await asyncio.gather(*waiting, *at_the_door, return_exceptions=True)

    answers = run(main())
    assert [index for index, answer in enumerate(answers) if isinstance(answer, BaseException)] == [1, 5]
    kept = [0, 2, 3, 4, 6, 7, 8]
    assert_close([answers[index] for index in kept], case.expected()[kept])
    ran = [text for texts in watched.asked for text in texts]
    assert sorted(ran) == sorted(["running", *(case.texts[index] for index in kept)])


def test_no_more_run_than_may_be_pending(watched: Watched) -> None:
    async def main() -> None:
        async with AsyncEncoder(watched, workers=1, max_pending=3) as shared:  # type: ignore[arg-type]
            tasks = [asyncio.create_task(shared.encode(f"text {index}")) for index in range(20)]
            await asyncio.gather(*tasks)
            assert len(await shared.encode(["a", "b", "c", "d", "e"])) == 5

    run(main())
    assert all(len(texts) <= 3 for texts in watched.asked)


@pytest.mark.parametrize("position", [0, 25, 59])
@pytest.mark.parametrize("wrong", [5, "half a pair \ud800"])
def test_a_wrong_text_is_named_by_its_place_among_all_of_its_callers(
    wrong: Any, position: int, encoder: stcompile.Encoder, case: Case
) -> None:
    texts: list[Any] = [f"text {'word ' * (index % 7)}" for index in range(60)]
    texts[position] = wrong

    async def main() -> list[Any]:
        async with AsyncEncoder(encoder, workers=1, max_tokens=40) as shared:
            calls = [shared.encode(texts), *(shared.encode(text) for text in case.texts)]
            return await asyncio.gather(*calls, return_exceptions=True)

    error, *others = run(main())
    with pytest.raises(InputError) as expected:
        encoder.encode(texts)
    assert str(error) == str(expected.value)
    assert_close(others, case.expected())


class Broken(Watched):
    """An encoder whose first run fails, whoever it was for."""

    error: BaseException = ValueError("broken")

    def encode(self, texts: list[Any], **options: Any) -> Any:
        self.asked.append(texts)
        if len(self.asked) == 1:
            raise self.error
        return super().encode(texts, **options)


class Unforeseen(BaseException):
    """What nobody catches by its name."""


@pytest.mark.parametrize("error", [Unforeseen("a thread was ended"), GeneratorExit()])
def test_whatever_ends_a_run_reaches_all_its_callers(error: BaseException, encoder: stcompile.Encoder) -> None:
    broken = Broken(encoder)
    broken.error = error

    async def main() -> list[Any]:
        shared = AsyncEncoder(broken, workers=1)  # type: ignore[arg-type]
        found = await asyncio.gather(*(shared.encode(text) for text in "abc"), return_exceptions=True)
        assert (await shared.encode("next")).shape == (32,)
        await shared.aclose()
        return found

    assert all(answer is error for answer in run(main()))


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_a_run_ends_the_loop_as_python_has_it(
    error: type[BaseException], encoder: stcompile.Encoder
) -> None:
    broken = Broken(encoder)
    broken.error = error()

    async def main() -> None:
        async with AsyncEncoder(broken, workers=1) as shared:  # type: ignore[arg-type]
            await asyncio.gather(*(shared.encode(text) for text in "abc"))

    with pytest.raises(error):
        asyncio.run(main())


@pytest.mark.parametrize("error", [MemoryError(), StopIteration(), RuntimeError("engine")])
def test_texts_of_a_run_that_failed_are_tried_alone(error: Exception, encoder: stcompile.Encoder, case: Case) -> None:
    broken = Broken(encoder)
    broken.error = error

    async def main() -> list[Any]:
        async with AsyncEncoder(broken, workers=1) as shared:  # type: ignore[arg-type]
            return await asyncio.gather(*(shared.encode(text) for text in case.texts[:3]))

    assert_close(run(main()), case.expected()[:3])


def test_a_failure_that_no_future_can_be_told_is_told_otherwise(encoder: stcompile.Encoder) -> None:
    broken = Broken(encoder)
    broken.error = StopIteration("odd")

    async def main() -> None:
        async with AsyncEncoder(broken, workers=1) as shared:  # type: ignore[arg-type]
            await shared.encode("a")

    with pytest.raises(RuntimeError, match="odd"):
        run(main())


def test_no_text_beside_the_end(encoder: stcompile.Encoder) -> None:
    async def main() -> list[Any]:
        shared = AsyncEncoder(encoder)
        asked = [asyncio.create_task(shared.encode([], truncate_dim=4)) for _ in range(3)]
        await asyncio.sleep(0)
        await shared.aclose()
        return await asyncio.gather(*asked)

    assert [vectors.shape for vectors in run(main())] == [(0, 4)] * 3


def test_no_bar_is_drawn(
    encoder: stcompile.Encoder, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    async def main() -> None:
        async with AsyncEncoder(encoder) as shared:
            await shared.encode(["a", "b"])

    with caplog.at_level("INFO", logger="stcompile"):
        run(main())
    assert capsys.readouterr().err == ""


def test_true_is_no_one(encoder: stcompile.Encoder) -> None:
    """Two that are equal to Python; one of them is refused."""

    async def main() -> list[Any]:
        async with AsyncEncoder(encoder, workers=1) as shared:
            calls = [shared.encode("a", truncate_dim=value) for value in (1, True)]
            return await asyncio.gather(*calls, return_exceptions=True)

    found, error = run(main())
    assert found.shape == (1,)
    assert isinstance(error, InputError)


def test_closing_answers_those_inside_and_refuses_those_who_come_later(watched: Watched, case: Case) -> None:
    async def main() -> list[Any]:
        shared = AsyncEncoder(watched, workers=2, max_pending=4)  # type: ignore[arg-type]
        watched.may_run.clear()
        tasks = [asyncio.create_task(shared.encode(text)) for text in case.texts]
        await asyncio.sleep(0.02)
        closing = asyncio.create_task(shared.aclose())
        await asyncio.sleep(0.02)
        with pytest.raises(StcompileError, match="the encoder is closed"):
            await shared.encode("late")
        watched.may_run.set()
        answers = await asyncio.gather(*tasks)
        await closing
        await shared.aclose()
        assert len(asyncio.all_tasks()) <= 2, "no worker is left"
        return answers

    # Those of a server that other tests ask stay.
    before = set(threading.enumerate())
    assert_close(run(main()), case.expected())
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith("stcompile-async"):
            thread.join(20)
            assert not thread.is_alive()


def test_another_loop_is_refused_and_does_not_hang(encoder: stcompile.Encoder) -> None:
    shared = AsyncEncoder(encoder)
    is_used, may_end = threading.Event(), threading.Event()

    async def first() -> None:
        await shared.encode("first loop")
        is_used.set()
        assert await asyncio.to_thread(may_end.wait, 60)
        await shared.aclose()

    async def second() -> None:
        for call in (shared.encode("second loop"), shared.aclose()):
            with pytest.raises(StcompileError, match="belongs to the event loop"):
                await call

    thread = threading.Thread(target=run, args=(first(),))
    thread.start()
    assert is_used.wait(60)
    run(second())
    may_end.set()
    thread.join(60)
    assert not thread.is_alive()


def test_a_loop_that_is_over_leaves_it_to_the_next(encoder: stcompile.Encoder, case: Case) -> None:
    shared = AsyncEncoder(encoder)
    for _ in range(3):
        assert_close(run(shared.encode(case.texts)), case.expected())
    run(shared.aclose())
    with pytest.raises(StcompileError, match="the encoder is closed"):
        run(shared.encode("late"))


def test_a_copy_is_as_new(encoder: stcompile.Encoder, case: Case) -> None:
    shared = AsyncEncoder(encoder, workers=1, max_tokens=40)
    run(shared.encode("used"))
    copied = pickle.loads(pickle.dumps(shared))
    assert (copied._workers, copied._max_tokens) == (1, 40)
    assert_close(run(copied.encode(case.texts)), case.expected())


def test_nobody_came() -> None:
    async def main() -> None:
        async with AsyncEncoder(object.__new__(_NoModel)):  # type: ignore[arg-type]
            pass

    run(main())


class _NoModel:
    max_seq_length, threads = None, 2

    def single_threaded(self) -> None:
        return

    def encode(self, texts: list[str]) -> None:
        raise AssertionError("nobody asked for a vector")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"max_wait_ms": -1}, "max_wait_ms"),
        ({"max_wait_ms": "1"}, "max_wait_ms"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_pending": 0}, "max_pending"),
        ({"workers": 0}, "workers"),
    ],
)
def test_numbers_out_of_range(options: dict[str, Any], sentence: str, encoder: stcompile.Encoder) -> None:
    with pytest.raises(InputError, match=sentence):
        AsyncEncoder(encoder, **options)


def test_a_busy_loop_keeps_no_worker_waiting(watched: Watched) -> None:
    """Where enough texts wait to fill a run, it is handed out before its worker is free."""

    async def main() -> int:
        async with AsyncEncoder(watched, workers=1, max_tokens=20) as shared:  # type: ignore[arg-type]
            watched.may_run.clear()
            calls = [
                asyncio.ensure_future(shared.encode([f"a text of words {n} {m}" for m in range(9)])) for n in (1, 2)
            ]
            await asyncio.sleep(0.1)
            watched.may_run.set()
            until = time.monotonic() + 30
            while len(watched.asked) < 2 and time.monotonic() < until:
                time.sleep(0.01)
            begun = len(watched.asked)
            await asyncio.gather(*calls)
            return begun

    assert run(main()) == 2
