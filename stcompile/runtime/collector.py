"""Texts of many callers of an event loop, collected into runs they share: what `AsyncEncoder` and its kin do."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any, ClassVar, Self, TypedDict

from stcompile.errors import InputError, StcompileError, UnavailableError
from stcompile.runtime.desk import Call, Desk, Found, Piece
from stcompile.runtime.inputs import at_least_one, checked
from stcompile.runtime.pictures import IMAGE_KEY, is_image
from stcompile.runtime.route import tokens_of_each
from stcompile.runtime.text.base import Text

# What decides when a run is full is an estimate; the engine's own batches keep to the exact number.
_CHARACTERS_A_TOKEN = 4


@dataclass
class Usage:
    """What calls had, each text counted, equal ones too.

    Attributes:
        texts: and images.
        tokens: of the texts as they were run, prompts and special tokens among them, what was cut off not; images have
            none.
    """

    texts: int = 0
    tokens: int = 0


class CollectorOptions(TypedDict, total=False):
    """What a `Collector` is told, as of its arguments."""

    max_wait_ms: float
    max_tokens: int
    max_pending: int
    workers: int | None


class Collector:
    """What is loaded, for many callers of one event loop; their texts are collected and run together.

    While every worker is busy, what arrives is collected for the next free one, so runs grow with the load; an idle
    one begins at once, or after `max_wait_ms`. A run takes texts from all callers in turn, one each, so that a
    caller with one text is not kept waiting by one with thousands. A caller who is cancelled gives up what no run took.

    It belongs to the event loop it is used on until that loop is closed, in a forked child to the child's. What is
    loaded stays open when it is closed.

    Args:
        loaded: what computes.
        max_wait_ms: how long an idle worker waits for company for a text; 0 takes only what is there already. 1 ms
            made 64 callers 5% slower.
        max_tokens: about how many tokens a worker takes at once, four times as many where a single caller waits; a
            longer text runs alone. Larger runs are no faster, and leave nothing for the next worker to begin with.
        max_pending: most texts that runs take from their callers at a time; the others stay where they are, in the
            lists of those who wait.
        workers: runs at once, each on one thread; None takes as many as what is loaded has threads.

    Raises:
        InputError: a number is out of range, or it is none of the `kinds`.
    """

    kinds: ClassVar[tuple[str, ...]]
    takes: ClassVar[str]

    def __init__(
        self,
        loaded: Any,
        *,
        max_wait_ms: float = 0.0,
        max_tokens: int = 256,
        max_pending: int = 4096,
        workers: int | None = None,
    ) -> None:
        if getattr(loaded, "kind", self.kinds[0]) not in self.kinds or not hasattr(loaded, "single_threaded"):
            raise InputError(f"{type(self).__name__} collects the texts of {self.takes}, got {type(loaded).__name__}")
        if not isinstance(max_wait_ms, (int, float)) or not 0 <= max_wait_ms <= 60_000:
            raise InputError(f"max_wait_ms must be from 0 to 60000 milliseconds, got {max_wait_ms!r}")
        self._loaded = loaded
        self._worker = loaded.single_threaded()
        self._max_wait = max_wait_ms / 1000
        self._max_tokens = at_least_one("max_tokens", max_tokens)
        self._max_pending = at_least_one("max_pending", max_pending)
        self._workers = loaded.threads if workers is None else at_least_one("workers", workers)
        self._longest = loaded.max_seq_length
        self._desk: Desk | None = None
        self._is_closed = False
        self._copied = partial(
            type(self), max_wait_ms=max_wait_ms, max_tokens=max_tokens, max_pending=max_pending, workers=workers
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return self._copied, (self._loaded,)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Answers everybody who waits, takes nobody new, and ends the workers. May be called more than once.

        Raises:
            StcompileError: it belongs to another event loop.
        """
        desk = self._here()
        self._is_closed = True
        if desk is not None:
            await desk.end()

    def _computed(self, texts: list[Any], options: Any) -> Any:
        """One result a text, in their order: an array's rows, or what can be sliced. On a worker's thread."""
        raise NotImplementedError

    async def _ask(self, texts: list[Any], options: Hashable, usage: Usage | None) -> Any:
        """The results of one call: an array of rows, or a list of objects; calls of equal options may share a run.

        What it had is added to `usage`.
        """
        if self._is_closed:
            raise UnavailableError(f"the encoder is closed: make a new {type(self).__name__}")
        desk = self._here()
        if desk is None:
            desk = self._desk = Desk(self._run, self._workers, self._max_wait, self._max_tokens, self._max_pending)
        call = Call(options, texts, [self._tokens(text) for text in texts])
        found = await desk.answer(call)
        if usage is not None:
            usage.texts += len(texts)
            usage.tokens += call.computed
        return found

    def _here(self) -> Desk | None:
        """The desk of this event loop, if there is one."""
        desk = self._desk
        if desk is None or desk.is_left:
            return None
        if desk.loop is not asyncio.get_running_loop():
            raise StcompileError(
                f"an {type(self).__name__} belongs to the event loop that it was first used on: make one a loop"
            )
        return desk

    def _tokens(self, text: Any) -> int:
        """An estimate; of what is no text, which is refused when it runs, nothing, so that it runs first."""
        # A run of its own: an image takes as long as many texts.
        if _is_image(text):
            return self._max_tokens
        parts = text.values() if isinstance(text, dict) else (text,) if isinstance(text, str) else text
        try:
            length = sum(map(len, parts)) // _CHARACTERS_A_TOKEN + 2
        except TypeError:
            return 0
        return length if self._longest is None else min(length, self._longest)

    def _run(self, pieces: Sequence[Piece]) -> list[Found | Exception]:
        """What was found of each piece, all of equal options, or what went wrong for it alone. On a worker's thread."""
        try:
            texts = [call.texts[place] for call, places in pieces for place in places]
            with tokens_of_each() as tokens:
                found = self._computed(texts, pieces[0][0].options)
            lengths = [_length(text, tokens) for text in texts]
        except Exception as error:  # a caller must get an answer whatever happened
            if len(pieces) > 1:
                return [answer for piece in pieces for answer in self._run([piece])]
            return [self._told_of_all(*pieces[0], error)]
        ends = accumulate(len(places) for _, places in pieces)
        parts = [slice(end - len(places), end) for end, (_, places) in zip(ends, pieces, strict=True)]
        return [Found(found[part], sum(lengths[part])) for part in parts]

    def _told_of_all(self, call: Call, places: list[int], error: Exception) -> Exception:
        """What went wrong with some texts of a call, told with their places among all of it."""
        if len(places) == len(call.texts):
            return error
        some = call.texts[places[0]]
        keyed = isinstance(some, dict) and some.keys() != {IMAGE_KEY}
        texts: list[Any] = [dict.fromkeys(some, "") if keyed else ""] * len(call.texts)
        for place in places:
            texts[place] = call.texts[place]
        try:
            self._computed(texts, call.options)
        except Exception as again:
            return again
        return error


def _is_image(item: Any) -> bool:
    return is_image(item) or (isinstance(item, dict) and item.keys() == {IMAGE_KEY})


def _length(item: Any, tokens: Mapping[Text, int]) -> int:
    """The tokens of a text as it was run, without the key that it came with; of an image, however it is told, none."""
    try:
        return tokens.get(checked(next(iter(item.values())) if isinstance(item, dict) else item, 0), 0)
    except InputError:
        return 0
