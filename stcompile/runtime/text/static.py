"""Text front end of StaticEmbedding: token ids of one text behind those of the other (spec section 10)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Encoding

from stcompile.artifact.manifest import TextSpec
from stcompile.runtime.text.base import Feeds, Row, Spelled, encodings, flat, open_tokenizer, spelled_of


class StaticText:
    """Tokenizes, without special tokens and without padding; without `max_seq_length` a text is as long as it is.

    Raises:
        ArtifactError: this tokenizers release cannot read the tokenizer.
    """

    takes_pairs = False
    has_room_for_pairs = False

    def __init__(self, folder: Path, spec: TextSpec, inputs: Sequence[str]) -> None:
        self._inputs = tuple(inputs)
        self.tokenizer = open_tokenizer(folder, spec)

    def tokenize(self, texts: Sequence[Any], prompt: str | None, *, on_pool: bool = False) -> list[Row]:
        """One row of token ids per text, truncated, the prompt put in front of the text as it is."""
        found = self._encodings(texts, prompt, on_pool=on_pool)
        return [Row(np.array(encoding.ids, dtype=np.int32)) for encoding in found]

    def are_cut(self, texts: Sequence[Any], prompt: str | None) -> list[bool]:
        """Whether a text has more tokens than there may be."""
        return [bool(encoding.overflowing) for encoding in self._encodings(texts, prompt)]

    def spelled(self, texts: Sequence[str], prompt: str | None) -> list[Spelled]:
        """The tokens of each text."""
        return [spelled_of(encoding) for encoding in self._encodings(texts, prompt)]

    def _encodings(self, texts: Sequence[Any], prompt: str | None, *, on_pool: bool = False) -> Iterator[Encoding]:
        composed = (prompt + text for text in texts) if prompt else texts
        return encodings(self.tokenizer, composed, add_special_tokens=False, on_pool=on_pool)

    def collate(self, rows: Sequence[Row], prompt: str | None) -> Feeds:
        """Joins rows to `input_ids` `(tokens,)` and `offsets` `(batch,)`; a row may be empty."""
        feeds = flat(rows)
        return {name: feeds[name] for name in self._inputs}
