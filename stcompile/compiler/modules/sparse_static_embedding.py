"""SparseStaticEmbedding: the weight of each token that a text has, without a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from tokenizers import Tokenizer
from torch import nn

from stcompile.artifact.manifest import SENTENCE, TextSpec
from stcompile.compiler.kinds.sparse_static_embedding import table_of
from stcompile.compiler.modules.base import Features, SavedModule
from stcompile.compiler.modules.segments import FlatInputModule, flat_features, membership
from stcompile.compiler.modules.texts import prompted
from stcompile.compiler.modules.tokenizer import limit_of, load_tokenizer
from stcompile.compiler.modules.weights import read_state
from stcompile.errors import ModelFolderError
from stcompile.runtime.text.base import Text

# Above this a tokenizer's limit means none; transformers writes 1e30.
_UNLIMITED = 10**20


class SparseStaticEmbedding(FlatInputModule):
    """One weight for each token of the vocabulary, zero where a text does not have it (spec section 15.3).

    Reads `input_ids` `(tokens,)` and `offsets` `(batch,)`, int64; writes `sentence_embedding` `(batch, vocabulary)`.
    How often a token occurs does not matter. There are no special tokens. A `[PAD]` that a text spells out is a token
    like any other; in sentence-transformers it is lost where the batch is padded.

    Args:
        tokenizer: a fast one of transformers.
        weight: float32 `(vocabulary,)`.

    Raises:
        ModelFolderError: the tokenizer makes ids that have no weight.
    """

    def __init__(self, tokenizer: Any, weight: torch.Tensor) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.weight = nn.Parameter(weight.float(), requires_grad=False)
        limit = limit_of(tokenizer.model_max_length, "model_max_length of the tokenizer")
        self.max_seq_length = limit if limit <= _UNLIMITED else None
        largest = max(tokenizer.get_vocab().values(), default=-1)
        if largest >= len(weight):
            raise ModelFolderError(
                f"there are {len(weight)} weights, but the tokenizer makes ids up to {largest}: they belong to "
                "different models"
            )

    @classmethod
    def build(cls, saved: SavedModule) -> Self:
        folder, config = saved.folder, saved.entry.config
        tokenizer = load_tokenizer(str(saved.home), None, {}, {"trust_remote_code": False})
        table = table_of(folder, saved.entry.path, config)
        if table is None:
            state = read_state(saved.home)
            if state.keys() != {"weight"} or state["weight"].dim() != 1:
                raise ModelFolderError(f"{saved.home} has no vector named weight alone: copy the model again")
            return cls(tokenizer, state["weight"])
        weights = folder.json(table)
        if not isinstance(weights, dict) or not all(_is_number(value) for value in weights.values()):
            raise ModelFolderError(f"{folder.inside(table)} must map tokens to numbers: copy the model again")
        weight = torch.zeros(len(tokenizer.get_vocab()))
        for token, value in weights.items():
            # Of a word that is no token the id of the unknown one, as in sentence-transformers.
            place = tokenizer.convert_tokens_to_ids(token)
            if not isinstance(place, int) or not 0 <= place < len(weight):
                raise ModelFolderError(f"{folder.inside(table)} weighs {token!r:.60}, which is no token: correct it")
            weight[place] = value
        return cls(tokenizer, weight)

    @property
    def vocabulary_size(self) -> int:
        return len(self.weight)

    def out_width(self, in_width: int) -> int:
        return len(self.weight)

    def tokenize(self, texts: Sequence[Text], prompt: str | None) -> Features:
        options = {} if self.max_seq_length is None else {"truncation": True, "max_length": self.max_seq_length}
        return flat_features(
            [
                self.tokenizer(text, add_special_tokens=False, verbose=False, **options)["input_ids"]
                for text in prompted(texts, prompt)
            ]
        )

    def forward(self, features: Features) -> Features:
        ids, offsets = features["input_ids"], features["offsets"]
        # Of every token its text; those that are there twice write the same twice.
        text = membership(ids, offsets).to(torch.int64).argmax(dim=0)
        empty = torch.zeros(offsets.shape[0], len(self.weight), dtype=self.weight.dtype)
        return {**features, SENTENCE: empty.index_put((text, ids), self.weight[ids])}

    def front_end(self, file: str) -> tuple[TextSpec, str]:
        plain = Tokenizer.from_str(self.tokenizer.backend_tokenizer.to_str())
        plain.no_padding()
        plain.no_truncation()
        side = str(self.tokenizer.truncation_side)
        split = bool(self.tokenizer.split_special_tokens)
        spec = TextSpec("static", file, self.max_seq_length, truncation_side=side, split_special_tokens=split)
        return spec, plain.to_str()

    def summary(self) -> dict[str, Any]:
        return {"num_embeddings": len(self.weight)}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
