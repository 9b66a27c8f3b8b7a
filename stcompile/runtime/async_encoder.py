"""`AsyncEncoder`: one encoder for many concurrent callers of an event loop, whose texts share runs of the graph."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from stcompile.errors import InputError, StcompileError
from stcompile.runtime.encoder import Encoder
from stcompile.runtime.inputs import Sentences, at_least_one, listed

# What decides when a batch is full is an estimate; the engine's own batches keep to the exact number.
_CHARACTERS_A_TOKEN = 4

# Only what leaves every caller's vectors his own.
_OPTIONS = frozenset(("prompt_name", "prompt", "normalize_embeddings", "truncate_dim", "task"))


@dataclass(eq=False)
class _Call:
    """One caller who waits.

    Attributes:
        method: of the encoder: `encode`, `encode_query` or `encode_document`.
        texts: his.
        options: of `encode`, sorted: calls with the same may share a run.
        tokens: an estimate of all his texts together.
        answer: what he waits for.
    """

    method: str
    texts: list[Any]
    options: tuple[tuple[str, Any], ...]
    tokens: int
    answer: asyncio.Future[Any]


class AsyncEncoder:
    """Encodes for callers of one event loop; their texts are collected and run together.

    While every worker is busy, what arrives is collected for the next free one, so batches grow with the load; an idle
    encoder begins at once, or after `max_wait_ms`. A caller who is cancelled before his texts run costs nothing.

        async with AsyncEncoder(stcompile.load(folder)) as encoder:
            vector = await encoder.encode("a text")

    Args:
        encoder: what encodes.
        max_wait_ms: how long an idle worker waits for company for a text; 0 takes only what is there already. 1 ms
            made 64 callers 5% slower.
        max_tokens: about how many tokens a worker takes at once, where they are enough for all; a caller with more is
            taken alone. Larger runs are no faster, and leave nothing for the next worker to begin with.
        max_pending: texts that may wait or run; callers beyond that wait at the door, and nothing grows.
        workers: batches that run at once, each on one thread; None takes as many as the encoder has threads.

    Raises:
        InputError: a number is out of range.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        max_wait_ms: float = 0.0,
        max_tokens: int = 256,
        max_pending: int = 4096,
        workers: int | None = None,
    ) -> None:
        if not isinstance(max_wait_ms, (int, float)) or not 0 <= max_wait_ms <= 60_000:
            raise InputError(f"max_wait_ms must be from 0 to 60000 milliseconds, got {max_wait_ms!r}")
        self.encoder = encoder
        self._encoder = encoder.single_threaded()
        self._max_wait = max_wait_ms / 1000
        self._max_tokens = at_least_one("max_tokens", max_tokens)
        self._workers = encoder.threads if workers is None else at_least_one("workers", workers)
        self._longest = encoder.max_seq_length
        self._waiting: deque[_Call] = deque()
        self._arrived = asyncio.Event()
        self._door = _Door(at_least_one("max_pending", max_pending))
        self._idle = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._pool: ThreadPoolExecutor | None = None

    async def __aenter__(self) -> AsyncEncoder:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def encode(self, sentences: Sentences, **options: Any) -> Any:
        """What `Encoder.encode` gives for the same texts.

        Args:
            sentences: one text or a list of texts, as there.
            options: `prompt_name`, `prompt`, `normalize_embeddings`, `truncate_dim` and `task`, as there.

        Returns:
            float32 `(n, dim)`, for a single text `(dim,)`.

        Raises:
            InputError: as there, and for other options; no other caller notices.
            StcompileError: the encoder is closed, or belongs to another event loop.
        """
        return await self._ask("encode", sentences, options)

    async def encode_query(self, sentences: Sentences, **options: Any) -> Any:
        """As `encode`, with the meaning of `Encoder.encode_query`."""
        return await self._ask("encode_query", sentences, options)

    async def encode_document(self, sentences: Sentences, **options: Any) -> Any:
        """As `encode`, with the meaning of `Encoder.encode_document`."""
        return await self._ask("encode_document", sentences, options)

    async def aclose(self) -> None:
        """Answers everybody who waits, takes nobody new, and ends the workers. May be called more than once."""
        await self._door.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        if self._pool is not None:
            self._pool.shutdown(wait=False)
            self._pool = None

    async def _ask(self, method: str, sentences: Sentences, options: dict[str, Any]) -> Any:
        texts, single = listed(sentences)
        _check_options(options)
        self._start()
        await self._door.enter(len(texts))
        try:
            call = _Call(
                method,
                texts,
                tuple(sorted(options.items())),
                sum(map(self._tokens, texts)),
                asyncio.get_running_loop().create_future(),
            )
            self._waiting.append(call)
            self._arrived.set()
            vectors = await call.answer
        finally:
            self._door.leave(len(texts))
        return vectors[0] if single else vectors

    def _start(self) -> None:
        self._door.check()
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
            self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="stcompile-async")
            self._tasks = [loop.create_task(self._work(self._pool)) for _ in range(self._workers)]
        elif self._loop is not loop:
            raise StcompileError("an AsyncEncoder belongs to the event loop that it was first used on: make one a loop")

    async def _work(self, pool: ThreadPoolExecutor) -> None:
        """One worker: takes what there is, runs it on a thread, answers, and again."""
        loop = asyncio.get_running_loop()
        while True:
            self._idle += 1
            calls = await self._collected()
            self._idle -= 1
            for group in _alike(calls):
                answers = await loop.run_in_executor(pool, self._run, group)
                for call, answer in zip(group, answers, strict=True):
                    if call.answer.done():
                        continue
                    if isinstance(answer, BaseException):
                        call.answer.set_exception(answer)
                    else:
                        call.answer.set_result(answer)

    async def _collected(self) -> list[_Call]:
        """Calls for one worker: at least one, and no more than `max_tokens` unless it is a single one."""
        calls: list[_Call] = []
        while not calls:
            while not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
            if self._max_wait and self._estimated() < self._max_tokens:
                await asyncio.sleep(self._max_wait)
            # No worker takes what another one that idles could do at the same time.
            share = min(self._max_tokens, -(-self._estimated() // max(1, self._idle)))
            tokens = 0
            while self._waiting and (not calls or tokens + self._waiting[0].tokens <= share):
                call = self._waiting.popleft()
                # Otherwise he was cancelled.
                if not call.answer.done():
                    calls.append(call)
                    tokens += call.tokens
        return calls

    def _estimated(self) -> int:
        return sum(call.tokens for call in self._waiting)

    def _tokens(self, text: Any) -> int:
        """An estimate; of what is no text, which is refused later, nothing."""
        parts = text.values() if isinstance(text, dict) else (text,) if isinstance(text, str) else text
        try:
            length = sum(map(len, parts)) // _CHARACTERS_A_TOKEN + 2
        except TypeError:
            return 0
        return length if self._longest is None else min(length, self._longest)

    def _run(self, calls: Sequence[_Call]) -> list[Any]:
        """The vectors of each call, or what went wrong for it alone."""
        encode = getattr(self._encoder, calls[0].method)
        options = dict(calls[0].options)
        try:
            vectors = encode([text for call in calls for text in call.texts], **options)
        except Exception as error:  # a caller must get an answer whatever happened
            if len(calls) == 1:
                return [error]
            return [answer for call in calls for answer in self._run([call])]
        answers, start = [], 0
        for call in calls:
            # A copy: a view would keep the whole batch in memory as long as one caller keeps his vector.
            answers.append(vectors[start : start + len(call.texts)].copy())
            start += len(call.texts)
        return answers


class _Door:
    """Lets callers in, first come first served, while no more than `most` texts are inside.

    Nothing here waits but callers at the door: who is cancelled, wherever he is, is counted out at once.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._inside = 0
        self._queue: deque[tuple[asyncio.Future[None], int]] = deque()
        self._empty = asyncio.Event()
        self._is_closed = False

    async def enter(self, count: int) -> None:
        """Waits for room; more than `most` come in when all others have left.

        Raises:
            StcompileError: the door is closed.
        """
        self.check()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((turn, count))
        self._let_in()
        try:
            await turn
        except asyncio.CancelledError:
            self.leave(count if turn.done() and not turn.cancelled() else 0)
            raise

    def check(self) -> None:
        """Raises `StcompileError` where it is closed."""
        if self._is_closed:
            raise StcompileError("the encoder is closed: make a new AsyncEncoder")

    def leave(self, count: int) -> None:
        """Makes room."""
        self._inside -= count
        self._let_in()
        if not self._inside and not self._queue:
            self._empty.set()

    async def close(self) -> None:
        """Takes nobody new, and waits until those who came before have left."""
        self._is_closed = True
        self._let_in()
        while self._inside or self._queue:
            self._empty.clear()
            await self._empty.wait()

    def _let_in(self) -> None:
        while self._queue:
            turn, count = self._queue[0]
            if turn.cancelled():
                self._queue.popleft()
                continue
            if self._inside and self._inside + count > self._most:
                return
            self._queue.popleft()
            self._inside += count
            turn.set_result(None)


def _check_options(options: dict[str, Any]) -> None:
    unknown = sorted(set(options) - _OPTIONS)
    if unknown:
        raise InputError(f"texts of several callers share a run: {', '.join(unknown)} cannot be chosen for one")
    for name, value in options.items():
        if value is not None and not isinstance(value, (str, int)):
            raise InputError(f"{name} must be text or a number, got {type(value).__name__}")


def _alike(calls: Sequence[_Call]) -> list[list[_Call]]:
    """Calls that may share a run."""
    groups: dict[tuple[Any, ...], list[_Call]] = {}
    for call in calls:
        key = (call.method, *call.options)
        groups.setdefault(key, []).append(call)
    return list(groups.values())
