"""BoW: a bag of words, one column per word of the vocabulary."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor

from stcompile.artifact.manifest import SENTENCE, TextSpec
from stcompile.compiler.modules.base import Features
from stcompile.compiler.modules.segments import FlatInputModule, flat_features, text_of_each
from stcompile.compiler.modules.texts import prompted, texts_of_words
from stcompile.compiler.modules.word_tokenizers import WhitespaceTokenizer
from stcompile.compiler.modules.word_weights import weights_of
from stcompile.errors import InputError
from stcompile.runtime.text.base import Text


class BoW(FlatInputModule):
    """How often each word of the vocabulary occurs, times its weight (module-stack spec, section 9.5).

    Reads `input_ids` `(words,)` and `offsets` `(batch,)`, int64; writes `sentence_embedding`
    `(batch, vocabulary)` float32, zeros for a text without any word. Words are cut at white space, without stop
    words and without lower-casing.

    Args:
        vocab: words by column; of a repeated word the first counts.
        word_weights: word to weight; also found under its lower-case form.
        unknown_word_weight: of the words it has none for.
        cumulative_term_frequency: add the weight for each occurrence, otherwise once.

    Raises:
        InputError: the vocabulary is empty or not of words.
    """

    config_keys = ("vocab", "word_weights", "unknown_word_weight", "cumulative_term_frequency")
    # Alone of those that read text: its configuration is called config.json.
    save_in_root: ClassVar[bool] = False
    weights: Tensor

    def __init__(
        self,
        vocab: Sequence[str],
        word_weights: Mapping[str, float] = MappingProxyType({}),
        unknown_word_weight: float = 1,
        cumulative_term_frequency: bool = True,
    ) -> None:
        super().__init__()
        self.tokenizer = WhitespaceTokenizer(list(dict.fromkeys(vocab)), stop_words=())
        self.vocab = self.tokenizer.get_vocab()
        if not self.vocab:
            raise InputError("BoW needs a vocabulary of at least one word")
        self.word_weights = dict(word_weights)
        self.unknown_word_weight = unknown_word_weight
        self.cumulative_term_frequency = cumulative_term_frequency
        weights = weights_of(self.vocab, self.word_weights, unknown_word_weight)
        self.register_buffer("weights", weights)

    @property
    def vocabulary_size(self) -> int:
        return len(self.vocab)

    def out_width(self, in_width: int) -> int:
        return len(self.vocab)

    def tokenize(self, texts: Sequence[Text], prompt: str | None) -> Features:
        return flat_features([self.tokenizer.tokenize(text) for text in prompted(texts, prompt)])

    def forward(self, features: Features) -> Features:
        ids, offsets = features["input_ids"], features["offsets"]
        # One place per column of every text: no row of the vocabulary's length for each single word.
        place = text_of_each(ids, offsets) * len(self.vocab) + ids
        empty = torch.zeros(offsets.shape[0] * len(self.vocab), dtype=self.weights.dtype, device=ids.device)
        weights = self.weights.index_select(0, ids)
        filled = (
            empty.scatter_add(0, place, weights) if self.cumulative_term_frequency else empty.scatter(0, place, weights)
        )
        return {**features, SENTENCE: filled.reshape(-1, len(self.vocab))}

    def front_end(self, file: str) -> tuple[TextSpec, str]:
        return TextSpec("bow", file, None), json.dumps(self.tokenizer.splitter.to_json())

    def probe_texts(self) -> list[str]:
        return texts_of_words(self.vocab)

    def summary(self) -> dict[str, Any]:
        return {**self.get_config(), "vocab": len(self.vocab), "word_weights": len(self.word_weights)}
