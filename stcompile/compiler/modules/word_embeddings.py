"""WordEmbeddings: one table row per word, with a word tokenizer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from stcompile.artifact.manifest import TOKENS, TextSpec
from stcompile.compiler.kinds.word_embeddings import KIND
from stcompile.compiler.modules.base import Example, Features, InputModule
from stcompile.compiler.modules.embedding_files import read_embeddings
from stcompile.compiler.modules.tables import as_table
from stcompile.compiler.modules.texts import prompted, texts_of_words
from stcompile.compiler.modules.weights import read_state
from stcompile.compiler.modules.word_tokenizers import (
    TransformersTokenizerWrapper,
    WhitespaceTokenizer,
    WordTokenizer,
    tokenizer_class,
)
from stcompile.errors import InputError, ModelFolderError
from stcompile.runtime.arguments import local_path
from stcompile.runtime.text.base import Text

_TABLE = "emb_layer.weight"

# Large enough that the axis is not taken for a constant.
_EXAMPLE_SEQUENCE = 7


class WordEmbeddings(InputModule):
    """Looks words up in a table (module-stack spec, section 9.1).

    Reads `input_ids` and `attention_mask`, int64 `(batch, sequence)`; writes `token_embeddings`
    `(batch, sequence, dim)` float32 and `sentence_lengths` `(batch,)` int64. Padding is id 0, to the right; a batch
    without any word still has one position, masked.

    Args:
        tokenizer: one of `stcompile.compiler.modules.word_tokenizers`, or of transformers.
        embedding_weights: the table `(vocabulary, dim)`, cast to float32.
        update_embeddings: whether training changes the table.
        max_seq_length: most words of a text.

    Raises:
        InputError: another kind of tokenizer, or a table without a row for every id of it.
    """

    config_file: ClassVar[str] = KIND.config_files[0]
    has_cls_token: ClassVar[bool] = False
    has_weights: ClassVar[bool] = True
    writes = TOKENS

    def __init__(
        self,
        tokenizer: WordTokenizer | PreTrainedTokenizerBase,
        embedding_weights: Sequence[Sequence[float]] | NDArray[Any] | Tensor,
        update_embeddings: bool = False,
        max_seq_length: int | None = 1_000_000,
    ) -> None:
        super().__init__()
        if isinstance(tokenizer, PreTrainedTokenizerBase):
            tokenizer = TransformersTokenizerWrapper(tokenizer)
        if not isinstance(tokenizer, WordTokenizer):
            raise InputError(f"WordEmbeddings needs a word tokenizer, got {type(tokenizer).__name__}")
        table = as_table(embedding_weights, "WordEmbeddings")
        if len(table) < tokenizer.vocabulary_size:
            raise InputError(
                f"the table has {len(table)} rows, but the tokenizer makes ids up to "
                f"{tokenizer.vocabulary_size - 1}: they belong to different models"
            )
        self.tokenizer: WordTokenizer = tokenizer
        self.update_embeddings = update_embeddings
        self.max_seq_length = max_seq_length
        # torch has no types for it
        self.emb_layer: nn.Embedding = nn.Embedding.from_pretrained(table, freeze=not update_embeddings)  # type: ignore[no-untyped-call]

    @classmethod
    def load(cls, folder: Path, config: dict[str, Any]) -> Self:
        """Builds the module from its folder; tensors besides the table are ignored.

        Raises:
            ModelFolderError: the table or the tokenizer are missing or malformed, or do not fit each other.
            UnsupportedError: a tokenizer of another class.
        """
        options = dict(config)
        tokenizer = tokenizer_class(options.pop("tokenizer_class")).load(folder)
        state = read_state(folder)
        if _TABLE not in state:
            raise ModelFolderError(f"the weights in {folder} have no {_TABLE}: copy the model again")
        try:
            return cls(tokenizer, state[_TABLE], **options)
        except InputError as error:
            raise ModelFolderError(f"{folder}: {error}; copy the model again") from error

    @classmethod
    def from_text_file(
        cls,
        embeddings_file_path: str | Path,
        update_embeddings: bool = False,
        item_separator: str = " ",
        tokenizer: WordTokenizer | None = None,
        max_vocab_size: int | None = None,
    ) -> Self:
        """Word vectors from a GloVe or word2vec text file, also gzipped; see `read_embeddings`.

        Args:
            embeddings_file_path: the file; nothing is downloaded.
            update_embeddings: whether training changes the table.
            item_separator: stands between the items of a line.
            tokenizer: gets the file's words; None makes a `WhitespaceTokenizer` with English stop words.
            max_vocab_size: read so many words at most.

        Raises:
            InputError: there is no such file, or it is not of that format.
        """
        words, table = read_embeddings(local_path(embeddings_file_path), item_separator, max_vocab_size)
        tokenizer = WhitespaceTokenizer() if tokenizer is None else tokenizer
        tokenizer.set_vocab(words)
        return cls(tokenizer, table, update_embeddings)

    @property
    def input_names(self) -> tuple[str, ...]:
        return ("input_ids", "attention_mask")

    @property
    def vocabulary_size(self) -> int:
        return self.tokenizer.vocabulary_size

    @property
    def features(self) -> frozenset[str]:
        return frozenset({*self.input_names, "sentence_lengths"})

    def out_width(self, in_width: int) -> int:
        return self.emb_layer.embedding_dim

    def tokenize(self, texts: Sequence[Text], prompt: str | None) -> Features:
        rows = [self.tokenizer.tokenize(text)[: self.max_seq_length] for text in prompted(texts, prompt)]
        ids = torch.zeros((len(rows), max([1, *map(len, rows)])), dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = torch.tensor(row, dtype=torch.int64)
            mask[index, : len(row)] = 1
        return {"input_ids": ids, "attention_mask": mask}

    def forward(self, features: Features) -> Features:
        x = self.emb_layer(features["input_ids"])
        return {**features, TOKENS: x, "sentence_lengths": features["attention_mask"].sum(dim=1)}

    def widened(self, features: Features, length: int) -> Features:
        missing = max(length - features["input_ids"].shape[1], 0)
        return {name: functional.pad(features[name], (0, missing)) for name in self.input_names}

    def front_end(self, file: str) -> tuple[TextSpec, str]:
        spec = TextSpec("words", file, self.max_seq_length)
        return spec, json.dumps(self.tokenizer.splitter.to_json())

    def examples(self) -> dict[str, Example]:
        limit = self.max_seq_length
        width = _EXAMPLE_SEQUENCE if limit is None else max(2, min(_EXAMPLE_SEQUENCE, limit))
        ids = torch.arange(2 * width, dtype=torch.int64).reshape(2, width) % max(1, self.vocabulary_size)
        mask = torch.ones_like(ids)
        mask[1, -1] = 0
        axes = ("batch", "sequence")
        return {"input_ids": Example(ids, axes), "attention_mask": Example(mask, axes)}

    def probe_texts(self) -> list[str]:
        return texts_of_words(list(self.tokenizer.get_vocab()))

    def get_config(self) -> dict[str, Any]:
        return {
            "tokenizer_class": self.tokenizer.type_path,
            "update_embeddings": self.update_embeddings,
            "max_seq_length": self.max_seq_length,
        }

    def save(self, folder: Path) -> None:
        super().save(folder)
        self.tokenizer.save(folder)
