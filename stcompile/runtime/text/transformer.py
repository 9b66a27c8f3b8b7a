"""Text front end of a Transformer stack: the tokenizer call of module-stack spec, section 5."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from stcompile.errors import ArtifactError
from stcompile.manifest import TextSpec

# A text, or two texts that the tokenizer joins into one sequence.
Text = str | tuple[str, str]

# A text without any token still needs a position to compute on; it is masked.
_MIN_WIDTH = 1

# What is tokenized at once ends at whichever comes first. The tokenizer's own result keeps all that truncation
# cut off, with the spelling and the place of every token: tens of bytes a character of input.
_CHUNK_TEXTS = 512
_CHUNK_CHARS = 1_000_000

# Prompts that differ from call to call must not pile up.
_KNOWN_PROMPTS = 128


@dataclass(frozen=True, slots=True)
class Row:
    """A tokenized text, as small as it gets; `type_ids` is None where all are zero or the graph takes none."""

    ids: NDArray[np.int32]
    type_ids: NDArray[np.int32] | None

    def __len__(self) -> int:
        return len(self.ids)


class TransformerText:
    """Tokenizes and pads. Safe to use from several threads: only a locked, bounded cache ever changes.

    Args:
        folder: the artifact's folder.
        spec: the manifest's description of the front end.
        inputs: names of the graph's inputs; only those are fed.
    """

    def __init__(self, folder: Path, spec: TextSpec, inputs: Sequence[str]) -> None:
        self._spec = spec
        self._inputs = frozenset(inputs)
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / spec.tokenizer))
        except Exception as error:  # tokenizers raises bare Exception
            raise ArtifactError(f"{spec.tokenizer} cannot be read by this tokenizers release: {error}") from error
        self._tokenizer.no_padding()
        if spec.max_seq_length is None:
            self._tokenizer.no_truncation()
        else:
            self._tokenizer.enable_truncation(spec.max_seq_length, direction=spec.truncation_side)
        count = partial(_prompt_tokens, self._tokenizer, frozenset(spec.special_ids))
        self._prompt_tokens = lru_cache(maxsize=_KNOWN_PROMPTS)(count)

    def tokenize(self, texts: Sequence[Text], prompt: str | None) -> list[Row]:
        """One row per text, truncated and not padded, the prompt in front of the (first) text."""
        rows: list[Row] = []
        takes_types = "token_type_ids" in self._inputs
        for chunk in _chunks(self._compose(text, prompt or "") for text in texts):
            # A chat template's text holds its special tokens already.
            for encoding in self._tokenizer.encode_batch_fast(chunk, add_special_tokens=self._spec.chat is None):
                ids = np.array(self._restore_tail(encoding.ids), dtype=np.int32)
                types = encoding.type_ids if takes_types else []
                rows.append(Row(ids, np.array(types, dtype=np.int32) if any(types) else None))
        return rows

    def collate(self, rows: Sequence[Row], prompt: str | None) -> dict[str, NDArray[np.int64]]:
        """Pads rows to the longest.

        Returns:
            The graph's inputs: `input_ids`, `attention_mask` and `token_type_ids` as int64
            `(batch, sequence)`, and the scalar `prompt_length`, each only if the graph takes it.
        """
        width = max(_MIN_WIDTH, max((len(row) for row in rows), default=0))
        shape = (len(rows), width)
        ids = np.full(shape, self._spec.pad_id, dtype=np.int64)
        mask = np.zeros(shape, dtype=np.int64)
        types = np.full(shape, self._spec.pad_type_id, dtype=np.int64) if "token_type_ids" in self._inputs else None
        for index, row in enumerate(rows):
            length = len(row)
            where = slice(0, length) if self._spec.padding_side == "right" else slice(width - length, width)
            ids[index, where] = row.ids
            mask[index, where] = 1
            if types is not None:
                types[index, where] = 0 if row.type_ids is None else row.type_ids
        feeds = {"input_ids": ids, "attention_mask": mask}
        if types is not None:
            feeds["token_type_ids"] = types
        if "prompt_length" in self._inputs:
            feeds["prompt_length"] = np.array(self._prompt_length(prompt), dtype=np.int64)
        return feeds

    def _compose(self, text: Text, prompt: str) -> Text:
        chat = self._spec.chat
        if chat is not None:
            if not isinstance(text, str):
                return text
            head = chat.system_prefix + prompt + chat.system_suffix if prompt else chat.prefix
            return head + text + chat.suffix
        if isinstance(text, str):
            return prompt + text
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


def _prompt_tokens(tokenizer: Tokenizer, special_ids: frozenset[int], prompt: str) -> int:
    ids = tokenizer.encode(prompt).ids
    return len(ids) - 1 if ids and ids[-1] in special_ids else len(ids)


def _chunks(texts: Iterable[Text]) -> Iterator[list[Text]]:
    chunk: list[Text] = []
    chars = 0
    for text in texts:
        chunk.append(text)
        chars += len(text) if isinstance(text, str) else len(text[0]) + len(text[1])
        if len(chunk) >= _CHUNK_TEXTS or chars >= _CHUNK_CHARS:
            yield chunk
            chunk, chars = [], 0
    if chunk:
        yield chunk
