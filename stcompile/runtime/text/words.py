"""Text front ends of WordEmbeddings and BoW: word ids in padded rows, or of one text behind those of the other.

Module-stack spec, sections 9.1 and 9.5.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stcompile.artifact.manifest import TextSpec
from stcompile.errors import ArtifactError, InputError
from stcompile.runtime.text.base import Feeds, Row, Spelled, flat, padded
from stcompile.runtime.text.splitters import Splitter, splitter_from_json

_PAD_ID = 0


class WordsText:
    """Splits texts as the file called `tokenizer` says, see `splitter_from_json`, and pads.

    Raises:
        ArtifactError: the file is missing or describes no splitter.
        MissingExtraError: the splitter needs a package that is not installed.
    """

    takes_pairs = False
    has_room_for_pairs = False
    tokenizer = None

    def __init__(self, folder: Path, spec: TextSpec, inputs: Sequence[str]) -> None:
        self._spec = spec
        self._inputs = tuple(inputs)
        self._split = _read_splitter(folder, spec.tokenizer)

    def tokenize(self, texts: Sequence[Any], prompt: str | None, *, on_pool: bool = False) -> list[Row]:
        """One row of word ids per text, cut to the limit, the prompt put in front of the text as it is."""
        limit = self._spec.max_seq_length
        front = prompt or ""
        return [Row(np.array(self._split(front + text)[:limit], dtype=np.int32)) for text in texts]

    def are_cut(self, texts: Sequence[Any], prompt: str | None) -> list[bool]:
        """Whether a text has more words with a vector than there may be."""
        limit, front = self._spec.max_seq_length, prompt or ""
        return [limit is not None and len(self._split(front + text)) > limit for text in texts]

    def spelled(self, texts: Sequence[str], prompt: str | None) -> list[Spelled]:
        """Refuses: words without a vector are passed over, and what is left has no place in the text."""
        raise InputError("this model reads words, and has no tokenizer that spells its tokens")

    def collate(self, rows: Sequence[Row], prompt: str | None) -> Feeds:
        """Pads rows to `input_ids` and `attention_mask` `(batch, sequence)`, one position at least."""
        feeds = padded(rows, self._spec, pad_id=_PAD_ID)
        return {name: feeds[name] for name in self._inputs}


class BowText(WordsText):
    """As `WordsText`, without padding: a bag of words needs none."""

    def collate(self, rows: Sequence[Row], prompt: str | None) -> Feeds:
        """Joins rows to `input_ids` `(tokens,)` and `offsets` `(batch,)`; a row may be without any word."""
        feeds = flat(rows)
        return {name: feeds[name] for name in self._inputs}


def _read_splitter(folder: Path, file: str) -> Splitter:
    try:
        return splitter_from_json(json.loads((folder / file).read_text(encoding="utf-8")))
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"{file} does not say how to split text ({error}): export the model again") from error
