"""The texts parity is judged on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from importlib import resources

# Longer limits would cost tens of gigabytes of attention scores in torch for a single text.
_LONGEST_RUN = 2048


def probe_texts() -> list[str]:
    """The default texts: many languages, domains and lengths, with empty, whitespace, emoji and odd ones."""
    texts: list[str] = json.loads(resources.files(__package__).joinpath("probe_texts.json").read_text("utf-8"))
    return texts


def over_length_text(texts: Sequence[str], max_seq_length: int | None) -> list[str]:
    """One text that is certain to be cut, where the limit is short enough to run it.

    Every word is at least one token, so half as many words again as the limit are enough.
    """
    words = " ".join(texts).split()
    if max_seq_length is None or max_seq_length > _LONGEST_RUN or not words:
        return []
    wanted = max_seq_length + max_seq_length // 2 + 2
    return [" ".join(words[index % len(words)] for index in range(wanted))]


def texts_sha256(texts: Sequence[str]) -> str:
    """Hash of the texts and their order."""
    return hashlib.sha256(json.dumps(list(texts), ensure_ascii=False).encode()).hexdigest()
