"""What every text front end has in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from stcompile.artifact.manifest import TextSpec
from stcompile.errors import ArtifactError, one_line
from stcompile.runtime.forks import engine_call

# A text, or two texts that the tokenizer joins into one sequence.
Text = str | tuple[str, str]

Feeds = dict[str, NDArray[np.int64]]

# What `attention_mask` is of a token that is computed, and that no token attends to.
UNSEEN = 2

# What is tokenized at once ends at whichever comes first. The tokenizer's own result keeps all that truncation
# cut off, with the spelling and the place of every token: tens of bytes a character of input.
_CHUNK_TEXTS = 512
_CHUNK_CHARS = 1_000_000

# Less than this takes a millisecond or two, and is not worth the tokenizer's thread pool, which then stays for good.
_POOL_CHARS = 32_768


@dataclass(frozen=True, slots=True)
class Row:
    """A tokenized text, as small as it gets; `type_ids` is None where all are zero or the graph takes none.

    The last `unseen` of its tokens are computed, and none attends to them.
    """

    ids: NDArray[np.int32]
    type_ids: NDArray[np.int32] | None = None
    unseen: int = 0

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Spelled:
    """What a tokenizer made of a text.

    Attributes:
        ids: of each token.
        tokens: how each is spelled.
        is_special: whether it is a special one.
        spans: where each stands in the text, prompt and all: `(start, end)` in characters.
    """

    ids: list[int]
    tokens: list[str]
    is_special: list[bool]
    spans: list[tuple[int, int]]


class TextFrontEnd(Protocol):
    """Strings to the arrays a graph takes. Safe to use from several threads at once.

    It is made of the artifact's folder, the manifest's description of it, and the names of the graph's inputs: only
    those are fed.
    """

    @property
    def tokenizer(self) -> Tokenizer | None:
        """That of the tokenizers library which it reads with, and which names the tokens; None where it has none."""
        ...

    @property
    def takes_pairs(self) -> bool:
        """Whether a text may be a pair of texts."""
        ...

    @property
    def has_room_for_pairs(self) -> bool:
        """Whether texts are cut where a pair, which has tokens of its own, is still one."""
        ...

    def tokenize(self, texts: Sequence[Any], prompt: str | None, *, on_pool: bool = False) -> list[Row]:
        """One row per text, truncated and not padded, the prompt in front; threads may be started only `on_pool`."""
        ...

    def are_cut(self, texts: Sequence[Any], prompt: str | None) -> list[bool]:
        """Whether a text has more tokens than there may be, so that some of it is cut off, the prompt in front."""
        ...

    def spelled(self, texts: Sequence[str], prompt: str | None) -> list[Spelled]:
        """The tokens of each text as `tokenize` makes them; raises InputError where they have no spelling."""
        ...

    def collate(self, rows: Sequence[Row], prompt: str | None) -> Feeds:
        """The graph's inputs for one batch of at least one row: int64, only those that it takes."""
        ...


def open_tokenizer(folder: Path, spec: TextSpec) -> Tokenizer:
    """The tokenizer of an artifact, without padding, truncating as the manifest says.

    Raises:
        ArtifactError: this tokenizers release cannot read it.
    """
    try:
        tokenizer = Tokenizer.from_file(str(folder / spec.tokenizer))
    except Exception as error:  # tokenizers raises bare Exception
        raise ArtifactError(f"{spec.tokenizer} cannot be read by this tokenizers release: {one_line(error)}") from error
    tokenizer.no_padding()
    # A setting of the call, which tokenizer.json cannot hold.
    tokenizer.encode_special_tokens = spec.split_special_tokens
    if spec.max_seq_length is None:
        tokenizer.no_truncation()
    else:
        tokenizer.enable_truncation(spec.max_seq_length, direction=spec.truncation_side)
    return tokenizer


def encodings(
    tokenizer: Tokenizer, texts: Iterable[Any], *, add_special_tokens: bool, on_pool: bool
) -> Iterator[Encoding]:
    """What the tokenizer makes of each text or pair of texts.

    `on_pool` lets much text go to its thread pool. It has one for the whole process, of as many threads as there are
    CPUs, and takes it for a batch of a single text too.
    """
    for chunk in chunks(texts):
        # Once a chunk: to pass the gate takes as long as a tenth of a short text.
        with engine_call:
            if on_pool and sum(map(_chars, chunk)) >= _POOL_CHARS:
                found = tokenizer.encode_batch_fast(chunk, add_special_tokens=add_special_tokens)
            else:
                sides = ((text, None) if isinstance(text, str) else text for text in chunk)
                found = [tokenizer.encode(one, other, add_special_tokens=add_special_tokens) for one, other in sides]
        yield from found


def spelled_of(encoding: Encoding) -> Spelled:
    """What a tokenizer made of a text."""
    special = [bool(mark) for mark in encoding.special_tokens_mask]
    return Spelled(encoding.ids, encoding.tokens, special, encoding.offsets)


def padded(rows: Sequence[Row], spec: TextSpec, *, pad_id: int) -> Feeds:
    """Rows as `input_ids` and `attention_mask`, int64 `(batch, sequence)`, padded on the side that the spec says.

    The mask is 1 for a token, `UNSEEN` for one that none attends to, and 0 for padding.

    They are as wide as the longest row, or wider where the spec asks for more positions or for a multiple of some.
    """
    side, width = spec.padding_side, width_of(max(map(len, rows), default=0), spec)
    ids = np.full((len(rows), width), pad_id, dtype=np.int64)
    mask = np.zeros((len(rows), width), dtype=np.int64)
    for index, row in enumerate(rows):
        length = len(row)
        where = slice(0, length) if side == "right" else slice(width - length, width)
        ids[index, where] = row.ids
        mask[index, where] = 1
        if row.unseen:
            mask[index, where.stop - row.unseen : where.stop] = UNSEEN
    return {"input_ids": ids, "attention_mask": mask}


def width_of(length: int, spec: TextSpec) -> int:
    """Positions that a text of `length` tokens takes when it is padded by itself."""
    width = max(1, spec.min_seq_length, length)
    even = -(-width // spec.length_multiple) * spec.length_multiple
    # Beyond its limit a network may have no positions.
    return max(width, even if spec.max_seq_length is None else min(even, spec.max_seq_length))


def flat(rows: Sequence[Row]) -> Feeds:
    """Rows behind each other: `input_ids` `(tokens,)`, and `offsets` `(batch,)`, where each row starts; int64."""
    ends = np.cumsum([len(row) for row in rows], dtype=np.int64)
    offsets = np.zeros(len(rows), dtype=np.int64)
    offsets[1:] = ends[:-1]
    return {"input_ids": np.concatenate([row.ids for row in rows]).astype(np.int64), "offsets": offsets}


def chunks(texts: Iterable[Any]) -> Iterator[list[Any]]:
    """Texts in lists small enough to be tokenized at once."""
    chunk: list[Any] = []
    chars = 0
    for text in texts:
        chunk.append(text)
        chars += _chars(text)
        if len(chunk) >= _CHUNK_TEXTS or chars >= _CHUNK_CHARS:
            yield chunk
            chunk, chars = [], 0
    if chunk:
        yield chunk


def _chars(text: Text) -> int:
    return len(text) if isinstance(text, str) else len(text[0]) + len(text[1])
