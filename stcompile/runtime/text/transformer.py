"""Text front end of a Transformer stack: the tokenizer call of module-stack spec, section 5."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from stcompile.artifact.manifest import ChatTemplate, TextSpec
from stcompile.errors import InputError
from stcompile.runtime.forks import engine_call
from stcompile.runtime.text.base import (
    Feeds,
    Row,
    Spelled,
    Text,
    encodings,
    open_tokenizer,
    padded,
    spelled_of,
)

# Prompts that differ from call to call must not pile up.
_KNOWN_PROMPTS = 128


class TransformerText:
    """Tokenizes and pads. Safe to use from several threads: only a locked, bounded cache ever changes."""

    def __init__(self, folder: Path, spec: TextSpec, inputs: Sequence[str]) -> None:
        self._spec = spec
        self._inputs = frozenset(inputs)
        self.tokenizer = open_tokenizer(folder, spec)
        self._pair_tokens = self.tokenizer.num_special_tokens_to_add(True)
        count = partial(_prompt_tokens, self.tokenizer, frozenset(spec.special_ids))
        self._prompt_tokens = lru_cache(maxsize=_KNOWN_PROMPTS)(count)

    @property
    def takes_pairs(self) -> bool:
        """Not where a chat template wants one message, or the network has no token type for the second text."""
        chat = self._spec.chat
        return self._spec.takes_pairs if chat is None else chat.middle is not None

    @property
    def has_room_for_pairs(self) -> bool:
        """Where there is none tokenizers would cut nothing at all, and the network may have no positions for it."""
        limit = self._spec.max_seq_length
        return limit is None or limit >= self._pair_tokens

    def tokenize(self, texts: Sequence[Text], prompt: str | None, *, on_pool: bool = False) -> list[Row]:
        """One row per text, truncated and not padded, the prompt in front of the (first) text."""
        rows: list[Row] = []
        takes_types = "token_type_ids" in self._inputs
        for encoding in self._encodings(texts, prompt, on_pool=on_pool):
            ids = np.array(self._restore_tail(encoding.ids), dtype=np.int32)
            types = encoding.type_ids if takes_types else []
            rows.append(self._made_longer(ids, np.array(types, dtype=np.int32) if any(types) else None))
        return rows

    def are_cut(self, texts: Sequence[Text], prompt: str | None) -> list[bool]:
        """Whether a text, or pair, has more tokens than there may be."""
        return [bool(encoding.overflowing) for encoding in self._encodings(texts, prompt)]

    def spelled(self, texts: Sequence[str], prompt: str | None) -> list[Spelled]:
        """The tokens of each text."""
        return [spelled_of(encoding) for encoding in self._encodings(texts, prompt)]

    def collate(self, rows: Sequence[Row], prompt: str | None) -> Feeds:
        """Pads rows to the longest: `input_ids`, `attention_mask` ... `(batch, sequence)`, and a `prompt_length`."""
        feeds = padded(rows, self._spec, pad_id=self._spec.pad_id)
        if "token_type_ids" in self._inputs:
            types = np.full(feeds["input_ids"].shape, self._spec.pad_type_id, dtype=np.int64)
            # Rows first and their positions second: the order in which a mask picks what it keeps.
            types[feeds["attention_mask"] > 0] = np.concatenate([_type_ids(row) for row in rows])
            feeds["token_type_ids"] = types
        if "prompt_length" in self._inputs:
            feeds["prompt_length"] = np.array(self._prompt_length(prompt), dtype=np.int64)
        return feeds

    def _encodings(self, texts: Sequence[Text], prompt: str | None, *, on_pool: bool = False) -> Iterator[Encoding]:
        composed = (self._compose(text, prompt or "") for text in texts)
        # A chat template's text holds its special tokens already.
        special = self._spec.chat is None
        return encodings(self.tokenizer, composed, add_special_tokens=special, on_pool=on_pool)

    def _made_longer(self, ids: NDArray[np.int32], types: NDArray[np.int32] | None) -> Row:
        """A row, filled up with tokens that are scored where the text is to be longer."""
        longer = self._spec.expansion
        missing = 0 if longer is None else max(longer.length - len(ids), 0)
        if longer is None or not missing:
            return Row(ids, types)
        ids = np.concatenate([ids, np.full(missing, longer.token_id, dtype=np.int32)])
        types = None if types is None else np.pad(types, (0, missing))
        return Row(ids, types, 0 if longer.is_seen else missing)

    def _compose(self, text: Text, prompt: str) -> Text:
        chat = self._spec.chat
        if chat is not None:
            head = chat.system_prefix + prompt + chat.system_suffix if prompt else chat.prefix
            return head + _message(text, chat) + chat.suffix
        if isinstance(text, str):
            return prompt + text
        if not self.has_room_for_pairs:
            raise InputError(
                f"texts are cut at {self._spec.max_seq_length} tokens, fewer than the {self._pair_tokens} that a pair "
                "of texts has of its own: join each pair into one text, or export the model with a larger "
                "max_seq_length"
            )
        return (prompt + text[0], text[1])

    def _restore_tail(self, ids: list[int]) -> list[int]:
        chat = self._spec.chat
        if chat is None or not chat.tail_ids or len(ids) != self._spec.max_seq_length:
            return ids
        keep = min(len(chat.tail_ids), len(ids))
        return ids[: len(ids) - keep] + list(chat.tail_ids[-keep:])

    def _prompt_length(self, prompt: str | None) -> int:
        """Tokens of the lone prompt that pooling leaves out, as `Transformer._get_prompt_length` counts them."""
        if not prompt or self._spec.chat is not None:
            return 0
        return self._prompt_tokens(prompt)


def _message(text: Text, chat: ChatTemplate) -> str:
    if chat.middle is None:
        assert isinstance(text, str)  # `takes_pairs` says so
        return text
    if isinstance(text, str):
        raise InputError("this model's chat template is for pairs of texts, and one came by itself: pass (query, text)")
    return text[0] + chat.middle + text[1]


def _prompt_tokens(tokenizer: Tokenizer, special_ids: frozenset[int], prompt: str) -> int:
    with engine_call:
        ids = tokenizer.encode(prompt).ids
    return len(ids) - 1 if ids and ids[-1] in special_ids else len(ids)


def _type_ids(row: Row) -> NDArray[np.int32]:
    return np.zeros(len(row), dtype=np.int32) if row.type_ids is None else row.type_ids
