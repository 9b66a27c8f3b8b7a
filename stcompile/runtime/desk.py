"""Where the callers of a `Collector` wait: whose texts run next, and who is told of what came out."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

# Times the tokens of other runs that one takes where a single caller waits: of more texts of like length, fewer
# positions are padding, 10% of the CPU time of 600 short ones.
_ALONE = 4


class Found(NamedTuple):
    """What a run made of some texts of a call.

    Attributes:
        results: one a text, in their order: rows of an array, or a list of objects.
        tokens: that it computed for them.
    """

    results: Any
    tokens: int


class Call:
    """One caller, his texts, and what is there of his answer.

    Options are settled ones: calls of equal ones may share a run. Tokens are an estimate for each text.

    Attributes:
        computed: tokens that runs had of it.
    """

    def __init__(self, options: Hashable, texts: list[Any], tokens: Sequence[int]) -> None:
        self.options = options
        self.texts = texts
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._tokens = tokens
        # Like lengths run together, for least padding.
        self._waiting = deque(sorted(range(len(texts)), key=tokens.__getitem__))
        self._missing = len(texts)
        self._results: Any = None
        self.computed = 0

    @property
    def is_waiting(self) -> bool:
        """Whether there are texts that no run took yet."""
        return bool(self._waiting)

    @property
    def next_tokens(self) -> int:
        """Of the text that runs next; of none, nothing."""
        return self._tokens[self._waiting[0]] if self._waiting else 0

    def take(self) -> list[int]:
        """The place of the text that runs next; of no text, none."""
        return [self._waiting.popleft()] if self._waiting else []

    def give_up(self) -> int:
        """Takes back what no run took, and says how many tokens that was."""
        tokens = sum(self._tokens[place] for place in self._waiting)
        self._waiting.clear()
        return tokens

    def tell(self, places: list[int], found: Found | BaseException) -> None:
        """Keeps the results of some texts, and answers with the last of them; or with an error, at once.

        Rows of an array become an array of all, anything else a list of objects.
        """
        if self.answer.done():
            return
        if isinstance(found, StopIteration):
            # The one thing that a future cannot be told.
            found = RuntimeError(f"the run ended with {found!r}")
        if isinstance(found, BaseException):
            self.answer.set_exception(found)
            return
        results, tokens = found
        self.computed += tokens
        if isinstance(results, np.ndarray):
            if self._results is None:
                # Copied: a view would keep the vectors of a whole run in memory as long as one caller keeps his own.
                self._results = np.empty((len(self.texts), *results.shape[1:]), results.dtype)
            self._results[places] = results
        else:
            if self._results is None:
                self._results = [None] * len(self.texts)
            for place, result in zip(places, results, strict=True):
                self._results[place] = result
        self._missing -= len(places)
        if not self._missing:
            self.answer.set_result(self._results)


# A caller, and the places of some of his texts.
Piece = tuple[Call, list[int]]


class Desk:
    """Callers of one event loop, and the threads that work for them.

    Everything but `run` happens on the loop's own thread, so there is nothing to lock. Where as many texts wait as fill
    a run, the next one is handed out before its worker is free: a loop that is busy, with HTTP for one, would keep
    it waiting for a quarter of the time.

    Args:
        run: what was found for each of some pieces of equal options, or an error; called on threads.
        workers: threads.
        max_wait: seconds that an idle worker waits for company.
        max_tokens: about so many a run.
        max_pending: most texts of all runs together.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Piece]], Sequence[Found | BaseException]],
        workers: int,
        max_wait: float,
        max_tokens: int,
        max_pending: int,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self._process = os.getpid()
        self._run = run
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="stcompile-async")
        self._workers = self._idle = workers
        # Runs that are handed out and that no worker has begun.
        self._ahead = 0
        self._max_wait = max_wait
        self._max_tokens = max_tokens
        self._room = max_pending
        # Whose turn is next; somebody who is gone stays until it would be his.
        self._turns: deque[Call] = deque()
        self._waiting_tokens = 0
        self._callers = 0
        self._start: asyncio.Handle | None = None
        self._closing: list[asyncio.Future[None]] = []

    @property
    def is_left(self) -> bool:
        """Whether its event loop is over, or is another process's."""
        return self.loop.is_closed() or self._process != os.getpid()

    async def answer(self, call: Call) -> Any:
        """Waits for the results of a call; raises what its texts raised."""
        self._callers += 1
        self._turns.append(call)
        self._waiting_tokens += sum(call._tokens)
        self._wake()
        try:
            return await call.answer
        finally:
            self._waiting_tokens -= call.give_up()
            self._callers -= 1
            self._tell_closing()

    async def end(self) -> None:
        """Waits until everybody has his answer and every thread is done."""
        done = self.loop.create_future()
        self._closing.append(done)
        self._tell_closing()
        await done
        self._pool.shutdown(wait=False)

    def _tell_closing(self) -> None:
        if self._callers or self._idle < self._workers:
            return
        for done in self._closing:
            if not done.done():
                done.set_result(None)
        self._closing.clear()

    def _wake(self) -> None:
        """Lets idle workers begin, after all that is ready in this turn of the loop has come."""
        if not self._turns or not (self._idle or self._fills_another):
            return
        waits = bool(self._max_wait) and self._waiting_tokens < self._max_tokens
        if self._start is not None:
            if waits or not isinstance(self._start, asyncio.TimerHandle):
                return
            self._start.cancel()
        self._start = self.loop.call_later(self._max_wait, self._begin) if waits else self.loop.call_soon(self._begin)

    @property
    def _fills_another(self) -> bool:
        """Whether a run can be handed out though no worker is idle."""
        return self._ahead < self._workers and self._waiting_tokens >= self._max_tokens

    def _begin(self) -> None:
        self._start = None
        while (self._idle or self._fills_another) and (pieces := self._next()):
            if self._idle:
                self._idle -= 1
            else:
                self._ahead += 1
            alike: dict[Hashable, list[Piece]] = {}
            for piece in pieces:
                alike.setdefault(piece[0].options, []).append(piece)
            self._pool.submit(self._work, list(alike.values()))

    def _next(self) -> list[Piece]:
        """What one worker takes: a text of each caller in turn, up to its share of tokens, but at least one."""
        # No worker takes what another one that idles could do at the same time.
        most = self._max_tokens * (_ALONE if len(self._turns) == 1 else 1)
        share = min(most, -(-self._waiting_tokens // max(1, self._idle)))
        taken: dict[Call, list[int]] = {}
        tokens = 0
        while self._turns and self._room:
            call = self._turns[0]
            if not call.answer.done():
                if taken and tokens + call.next_tokens > share:
                    break
                tokens += call.next_tokens
                self._waiting_tokens -= call.next_tokens
                places = call.take()
                taken.setdefault(call, []).extend(places)
                self._room -= len(places)
                if call.is_waiting:
                    self._turns.append(call)
            self._turns.popleft()
        return list(taken.items())

    def _work(self, groups: list[list[Piece]]) -> None:
        """One worker's run, on its thread."""
        for pieces in groups:
            found: Sequence[Found | BaseException]
            try:
                found = self._run(pieces)
            except BaseException as error:  # whatever it is, nobody may wait for ever
                found = [error] * len(pieces)
            self._on_loop(self._tell, pieces, found)
        self._on_loop(self._rest, sum(len(places) for pieces in groups for _, places in pieces))

    def _on_loop(self, do: Callable[..., None], *arguments: Any) -> None:
        # A loop that is closed says so with a RuntimeError: nobody waits there any more.
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(do, *arguments)

    def _tell(self, pieces: list[Piece], found: Sequence[Found | BaseException]) -> None:
        for (call, places), results in zip(pieces, found, strict=True):
            try:
                call.tell(places, results)
            except Exception as error:  # no memory for the answer
                call.tell(places, error)

    def _rest(self, texts: int) -> None:
        """A worker is idle again, or has begun what was handed out ahead."""
        self._room += texts
        if self._ahead:
            self._ahead -= 1
        else:
            self._idle += 1
        self._tell_closing()
        self._wake()
