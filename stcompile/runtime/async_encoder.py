"""`AsyncEncoder`: one encoder for many concurrent callers of an event loop, whose texts share runs of the graph."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from typing import Any, Unpack, cast

import numpy as np
from numpy.typing import NDArray

from stcompile.artifact.manifest import ENCODER, HYBRID
from stcompile.errors import InputError, StcompileError
from stcompile.runtime.desk import Call, Desk, Piece
from stcompile.runtime.encoder import Encoder
from stcompile.runtime.inputs import Sentences, at_least_one, listed
from stcompile.runtime.options import DOCUMENT, QUERY, EncodeOptions
from stcompile.runtime.pictures import IMAGE_KEY, is_image
from stcompile.runtime.signatures import SharedOptions

# What decides when a run is full is an estimate; the engine's own batches keep to the exact number.
_CHARACTERS_A_TOKEN = 4


class AsyncEncoder:
    """Encodes for callers of one event loop; their texts are collected and run together.

    While every worker is busy, what arrives is collected for the next free one, so runs grow with the load; an idle
    encoder begins at once, or after `max_wait_ms`. A run takes texts from all callers in turn, one each, so that a
    caller with one text is not kept waiting by one with thousands. A caller who is cancelled gives up what no run took.

        async with AsyncEncoder(stcompile.load(folder)) as encoder:
            vector = await encoder.encode("a text")

    It belongs to the event loop it is used on until that loop is closed, in a forked child to the child's. The encoder
    stays open when it is closed.

    Args:
        encoder: what encodes.
        max_wait_ms: how long an idle worker waits for company for a text; 0 takes only what is there already. 1 ms
            made 64 callers 5% slower.
        max_tokens: about how many tokens a worker takes at once, four times as many where a single caller waits; a
            longer text runs alone. Larger runs are no faster, and leave nothing for the next worker to begin with.
        max_pending: most texts that runs take from their callers at a time; the others stay where they are, in the
            lists of those who wait.
        workers: runs at once, each on one thread; None takes as many as the encoder has threads.

    Raises:
        InputError: a number is out of range, or it is no Encoder.
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
        if not hasattr(encoder, "encode") or getattr(encoder, "kind", ENCODER) not in (ENCODER, HYBRID):
            raise InputError(f"AsyncEncoder collects the texts of an Encoder, got {type(encoder).__name__}")
        if not isinstance(max_wait_ms, (int, float)) or not 0 <= max_wait_ms <= 60_000:
            raise InputError(f"max_wait_ms must be from 0 to 60000 milliseconds, got {max_wait_ms!r}")
        self.encoder = encoder
        self._encoder = encoder.single_threaded()
        self._max_wait = max_wait_ms / 1000
        self._max_tokens = at_least_one("max_tokens", max_tokens)
        self._max_pending = at_least_one("max_pending", max_pending)
        self._workers = encoder.threads if workers is None else at_least_one("workers", workers)
        self._longest = encoder.max_seq_length
        self._desk: Desk | None = None
        self._is_closed = False
        self._copied = partial(
            type(self), max_wait_ms=max_wait_ms, max_tokens=max_tokens, max_pending=max_pending, workers=workers
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return self._copied, (self.encoder,)

    async def __aenter__(self) -> AsyncEncoder:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def encode(self, sentences: Sentences, **options: Unpack[SharedOptions]) -> NDArray[np.float32]:
        """What `Encoder.encode` gives for the same texts.

        Args:
            sentences: one text or a list of texts, as there.
            options: `prompt_name`, `prompt`, `normalize_embeddings`, `truncate_dim` and `task`, as there.

        Returns:
            float32 `(n, dim)`, for a single text `(dim,)`.

        Raises:
            InputError: as there, and for other options; no other caller notices.
            StcompileError: it is closed, or belongs to another event loop.
        """
        return await self._ask(sentences, options, None)

    async def encode_query(self, sentences: Sentences, **options: Unpack[SharedOptions]) -> NDArray[np.float32]:
        """As `encode`, with the meaning of `Encoder.encode_query`."""
        return await self._ask(sentences, options, QUERY)

    async def encode_document(self, sentences: Sentences, **options: Unpack[SharedOptions]) -> NDArray[np.float32]:
        """As `encode`, with the meaning of `Encoder.encode_document`."""
        return await self._ask(sentences, options, DOCUMENT)

    async def aclose(self) -> None:
        """Answers everybody who waits, takes nobody new, and ends the workers. May be called more than once.

        Raises:
            StcompileError: it belongs to another event loop.
        """
        desk = self._here()
        self._is_closed = True
        if desk is not None:
            await desk.end()

    async def _ask(self, sentences: Sentences, options: SharedOptions, role: str | None) -> NDArray[np.float32]:
        texts, single = listed(sentences)
        unknown = sorted(options.keys() - SharedOptions.__annotations__.keys())
        if unknown:
            raise InputError(f"texts of several callers share a run: {', '.join(unknown)} cannot be chosen for one")
        asked = EncodeOptions(**cast("dict[str, Any]", options), show_progress_bar=False)
        settled = asked.settled(self.encoder.artifact.manifest, self.encoder.device, role)
        if self._is_closed:
            raise StcompileError("the encoder is closed: make a new AsyncEncoder")
        desk = self._here()
        if desk is None:
            desk = self._desk = Desk(self._run, self._workers, self._max_wait, self._max_tokens, self._max_pending)
        vectors = await desk.answer(Call(settled, texts, [self._tokens(text) for text in texts]))
        return vectors[0] if single else vectors  # type: ignore[no-any-return] # what the encoder gave

    def _here(self) -> Desk | None:
        """The desk of this event loop, if there is one."""
        desk = self._desk
        if desk is None or desk.is_left:
            return None
        if desk.loop is not asyncio.get_running_loop():
            raise StcompileError("an AsyncEncoder belongs to the event loop that it was first used on: make one a loop")
        return desk

    def _tokens(self, text: Any) -> int:
        """An estimate; of what is no text, which is refused when it runs, nothing, so that it runs first."""
        # A run of its own: an image takes as long as many texts.
        if is_image(text) or (isinstance(text, dict) and text.keys() == {IMAGE_KEY}):
            return self._max_tokens
        parts = text.values() if isinstance(text, dict) else (text,) if isinstance(text, str) else text
        try:
            length = sum(map(len, parts)) // _CHARACTERS_A_TOKEN + 2
        except TypeError:
            return 0
        return length if self._longest is None else min(length, self._longest)

    def _run(self, pieces: Sequence[Piece]) -> list[Any]:
        """The vectors of each piece, all of equal options, or what went wrong for it alone. On a worker's thread."""
        try:
            vectors = self._encoded(pieces[0][0], [call.texts[place] for call, places in pieces for place in places])
        except Exception as error:  # a caller must get an answer whatever happened
            if len(pieces) > 1:
                return [answer for piece in pieces for answer in self._run([piece])]
            return [self._told_of_all(*pieces[0], error)]
        ends = accumulate(len(places) for _, places in pieces)
        return [vectors[end - len(places) : end] for end, (_, places) in zip(ends, pieces, strict=True)]

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
            self._encoded(call, texts)
        except Exception as again:
            return again
        return error

    def _encoded(self, call: Call, texts: list[Any]) -> Any:
        return self._encoder.encode(texts, **vars(call.options))
