"""`AsyncEncoder`: concurrent callers share runs, and nobody is lost, whoever is cancelled, wrong or late."""

from __future__ import annotations

import asyncio
import threading
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
        self.max_seq_length = encoder.max_seq_length
        self.threads = 2
        self.asked: list[list[Any]] = []
        self.may_run = threading.Event()
        self.may_run.set()

    def single_threaded(self) -> Watched:
        return self

    def encode(self, texts: list[Any], **options: Any) -> Any:
        assert self.may_run.wait(20)
        self.asked.append(texts)
        return self._encoder.encode(texts, **options)

    def encode_query(self, texts: list[Any], **options: Any) -> Any:
        self.asked.append(texts)
        return self._encoder.encode_query(texts, **options)


@pytest.fixture(scope="module")
def encoder(compiled: Compiled) -> stcompile.Encoder:
    return stcompile.load(compiled(CASE), threads=1)


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


def test_a_batch_ends_at_its_tokens_and_a_larger_caller_is_taken_alone(watched: Watched) -> None:
    async def main() -> None:
        async with AsyncEncoder(watched, workers=1, max_tokens=20) as shared:  # type: ignore[arg-type]
            await asyncio.gather(
                shared.encode(["word " * 8] * 10), *(shared.encode("word word word") for _ in range(9))
            )

    run(main())
    assert [len(texts) for texts in watched.asked] == [10, 4, 4, 1]


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
        ("a", {"prompt": ["a"]}, "prompt must be text or a number"),
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


def test_no_more_are_let_in_than_may_be_pending(watched: Watched) -> None:
    async def main() -> None:
        async with AsyncEncoder(watched, workers=1, max_wait_ms=0, max_pending=3) as shared:  # type: ignore[arg-type]
            watched.may_run.clear()
            tasks = [asyncio.create_task(shared.encode(f"text {index}")) for index in range(20)]
            await asyncio.sleep(0.05)
            assert len(shared._waiting) <= 3
            watched.may_run.set()
            await asyncio.gather(*tasks)
            # more than may be pending at all: in when the others are out
            assert len(await shared.encode(["a", "b", "c", "d", "e"])) == 5

    run(main())
    assert all(len(texts) <= 3 for texts in watched.asked[:-1])


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

    assert_close(run(main()), case.expected())
    for thread in threading.enumerate():
        if thread.name.startswith("stcompile-async"):
            thread.join(20)
            assert not thread.is_alive()


def test_another_loop_is_refused_and_does_not_hang(encoder: stcompile.Encoder) -> None:
    shared = AsyncEncoder(encoder)
    assert run(shared.encode("first loop")).shape == (32,)
    with pytest.raises(StcompileError, match="belongs to the event loop"):
        run(shared.encode("second loop"))


def test_nobody_came() -> None:
    async def main() -> None:
        async with AsyncEncoder(object.__new__(_NoModel)):  # type: ignore[arg-type]
            pass

    run(main())


class _NoModel:
    max_seq_length, threads = None, 2

    def single_threaded(self) -> None:
        return


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
