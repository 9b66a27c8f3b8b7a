"""StaticEmbedding: the mean of one table row per token, with a tokenizer as the whole network."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from stcompile.artifact.manifest import SENTENCE, TextSpec
from stcompile.artifact.target import PCA_DIMS
from stcompile.compiler.modules import model2vec
from stcompile.compiler.modules.base import Features
from stcompile.compiler.modules.segments import FlatInputModule, ends, flat_features, membership
from stcompile.compiler.modules.tables import as_table
from stcompile.compiler.modules.texts import prompted
from stcompile.compiler.modules.weights import read_state
from stcompile.errors import InputError, ModelFolderError
from stcompile.runtime.text.base import Text


class StaticEmbedding(FlatInputModule):
    """Mean of the rows of a table, no attention, no position (module-stack spec, section 10).

    Reads `input_ids` `(tokens,)` and `offsets` `(batch,)`, int64; writes `sentence_embedding` `(batch, dim)`
    float32, zeros for a text without any token. The tokenizer adds no special tokens, and truncates as it was set
    up to.

    Args:
        tokenizer: of `tokenizers`, or a fast one of transformers; its padding is switched off.
        embedding_weights: the table `(vocabulary, dim)`, cast to float32; integers are taken as the numbers they are.
        embedding_dim: width of a new, random table.

    Raises:
        InputError: a tokenizer without a fast version or without tokens, no table and no width, or a table without a
            row for every token, or with numbers that are not finite.
    """

    def __init__(
        self,
        tokenizer: Tokenizer | PreTrainedTokenizerBase,
        embedding_weights: NDArray[Any] | Tensor | None = None,
        embedding_dim: int | None = None,
    ) -> None:
        super().__init__()
        self.tokenizer = _fast_tokenizer(tokenizer)
        self._vocabulary_size = max(self.tokenizer.get_vocab().values(), default=-1) + 1
        if not self._vocabulary_size:
            raise InputError("the tokenizer of a StaticEmbedding has no tokens: train it first")
        truncation = self.tokenizer.truncation
        self.max_seq_length = None if truncation is None else int(truncation["max_length"])
        if embedding_weights is not None:
            table = as_table(embedding_weights, "StaticEmbedding")
        elif embedding_dim is not None:
            table = nn.EmbeddingBag(self._vocabulary_size, embedding_dim).weight.detach()
        else:
            raise InputError("StaticEmbedding needs embedding_weights, or embedding_dim for a new table")
        _check_table(table, self._vocabulary_size)
        self.embedding = nn.EmbeddingBag.from_pretrained(table.contiguous(), freeze=False, mode="mean")

    @classmethod
    def load(cls, folder: Path, config: dict[str, Any]) -> Self:
        """Reads `tokenizer.json` and the table of its folder, or of a folder that model2vec wrote.

        Args:
            folder: the module's folder.
            config: not used; the module has none.

        Raises:
            ModelFolderError: one of the two is missing or unreadable, or they do not fit each other.
        """
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise ModelFolderError(f"{folder} has no tokenizer.json: copy the model again")
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises bare Exception
            raise ModelFolderError(f"{path} cannot be read by this tokenizers release: {error}") from error
        state = read_state(folder)
        try:
            table = state["embedding.weight"] if "embedding.weight" in state else model2vec.fold_state(state)
            return cls(tokenizer, table)
        except InputError as error:
            raise ModelFolderError(f"{folder}: {error}; copy the model again") from error

    @classmethod
    def from_model2vec(cls, model_id_or_path: str | Path) -> Self:
        """A model of the model2vec library, from its folder or the hub; the library itself is not needed.

        Raises:
            ModelFolderError: it cannot be found, fetched or read.
        """
        return cls.load(model2vec.fetched(model_id_or_path), {})

    @classmethod
    def from_distillation(
        cls,
        model_name: str,
        vocabulary: list[str] | None = None,
        device: str | None = None,
        pca_dims: int | None = PCA_DIMS,
        apply_zipf: bool = True,
        sif_coefficient: float | None = 1e-4,
        token_remove_pattern: str | None = r"\[unused\d+\]",
        quantize_to: str = "float32",
        use_subword: bool = True,
        **kwargs: Any,
    ) -> Self:
        """Distills the table out of a transformers network, with the model2vec library.

        Args:
            model_name: folder or hub id of the network.
            vocabulary: words to add to the tokenizer's own.
            device: where to run the network; None lets model2vec choose.
            pca_dims: width of the table; None keeps the network's.
            apply_zipf: weigh tokens by their rank; releases of model2vec that lack it always do.
            sif_coefficient: the weighting's strength; None means no weighting.
            token_remove_pattern: regular expression of tokens to leave out.
            quantize_to: type of the table; it is float32 here in any case.
            use_subword: keep the tokenizer's own tokens; releases of model2vec that lack it always do.
            kwargs: what else the installed model2vec knows.

        Raises:
            MissingExtraError: model2vec is not installed.
            InputError: an argument the installed model2vec does not know, or it cannot distill the model.
        """
        given = {
            **kwargs,
            "vocabulary": vocabulary,
            "device": device,
            "pca_dims": pca_dims,
            "apply_zipf": apply_zipf,
            "sif_coefficient": sif_coefficient,
            "token_remove_pattern": token_remove_pattern,
            "quantize_to": quantize_to,
            "use_subword": use_subword,
        }
        own = inspect.signature(cls.from_distillation).parameters
        tokenizer, table = model2vec.distill(
            model_name, given, {name: own[name].default for name in given if name in own}
        )
        return cls(tokenizer, table)

    @property
    def vocabulary_size(self) -> int:
        return self._vocabulary_size

    def out_width(self, in_width: int) -> int:
        return self.embedding.embedding_dim

    def tokenize(self, texts: Sequence[Text], prompt: str | None) -> Features:
        encodings = self.tokenizer.encode_batch(prompted(texts, prompt), add_special_tokens=False)
        return flat_features([encoding.ids for encoding in encodings])

    def forward(self, features: Features) -> Features:
        ids, offsets = features["input_ids"], features["offsets"]
        mean = self._traced_mean if torch.compiler.is_exporting() else self.embedding
        return {**features, SENTENCE: mean(ids, offsets)}

    def front_end(self, file: str) -> tuple[TextSpec, str]:
        plain = Tokenizer.from_str(self.tokenizer.to_str())
        plain.no_truncation()
        truncation = self.tokenizer.truncation
        side = "right" if truncation is None else str(truncation["direction"])
        return TextSpec("static", file, self.max_seq_length, truncation_side=side), plain.to_str()

    def summary(self) -> dict[str, Any]:
        return {"num_embeddings": self.embedding.num_embeddings, "embedding_dim": self.embedding.embedding_dim}

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        table = self.embedding.weight.detach().contiguous()
        save_file({"embedding.weight": table}, str(folder / "model.safetensors"), metadata={"format": "pt"})
        self.tokenizer.save(str(folder / "tokenizer.json"))

    def _traced_mean(self, ids: Tensor, offsets: Tensor) -> Tensor:
        """What EmbeddingBag computes, of operators ONNX has: one matrix multiplication adds up every text's rows.

        Its work grows with the square of the batch, which is nothing for some dozens of texts. Measured for a table
        of 30000 x 256 and texts of 15 tokens on one thread of a Xeon: 4 us a text in a batch of 32, 6 in 64,
        20 in 256, 88 in 1024. A cumulative sum in float64 takes 10, 10, 11 and 18, an ordered scatter 24 to 58.
        """
        rows = functional.embedding(ids, self.embedding.weight)
        total = membership(ids, offsets).to(rows.dtype) @ rows
        count = (ends(ids, offsets) - offsets).clamp(min=1).unsqueeze(-1)
        return total / count.to(rows.dtype)


def _fast_tokenizer(tokenizer: Tokenizer | PreTrainedTokenizerBase) -> Tokenizer:
    fast = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not isinstance(fast, Tokenizer):
        raise InputError(
            f"StaticEmbedding needs a fast tokenizer, got {type(tokenizer).__name__}: pass one of `tokenizers`, or a "
            "transformers tokenizer with a tokenizer.json"
        )
    if fast.padding is not None:
        # not the caller's own
        fast = Tokenizer.from_str(fast.to_str())
        fast.no_padding()
    return fast


def _check_table(table: Tensor, vocabulary_size: int) -> None:
    if len(table) < vocabulary_size:
        raise InputError(
            f"the table has {len(table)} rows, but the tokenizer makes ids up to {vocabulary_size - 1}: they belong "
            "to different models"
        )
    # One such row would spoil every text of a batch, see _traced_mean.
    if not bool(torch.isfinite(table).all()):
        raise InputError("the table has numbers that are not finite: the model's training went wrong")
