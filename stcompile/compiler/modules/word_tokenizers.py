"""Tokenizers of word models: the splitters of the runtime, with the folder formats of sentence-transformers."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar, Self

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from stcompile.compiler.modules.backbone import quiet_transformers
from stcompile.compiler.modules.stop_words import ENGLISH_STOP_WORDS
from stcompile.errors import InputError, ModelFolderError, UnsupportedError, one_line
from stcompile.runtime.text.splitters import PhraseSplitter, Splitter, TokenizerSplitter, WhitespaceSplitter

_OLD = "sentence_transformers.models.tokenizer"
_NEW = "sentence_transformers.sentence_transformer.modules.tokenizer"


class WordTokenizer(ABC):
    """What `WordEmbeddings` cuts texts with.

    Attributes:
        type_path: what wordembedding_config.json calls it: the old path, which every release still reads.
    """

    type_path: ClassVar[str]

    @property
    @abstractmethod
    def splitter(self) -> Splitter:
        """What the torch-free runtime cuts texts with.

        Raises:
            UnsupportedError: there is no such thing.
        """

    @property
    @abstractmethod
    def vocabulary_size(self) -> int:
        """One more than the largest id it can make."""

    @abstractmethod
    def tokenize(self, text: str) -> list[int]:
        """The ids of one text, without padding; unknown words leave none."""

    @abstractmethod
    def get_vocab(self) -> list[str] | dict[str, int]:
        """The words: by id, or each with its id."""

    @abstractmethod
    def set_vocab(self, vocab: Sequence[str]) -> None:
        """Gives it other words.

        Args:
            vocab: words by id.

        Raises:
            InputError: they are not words, or its words are its own.
        """

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Writes its file or files into the module's folder."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path) -> Self:
        """Reads it from the module's folder.

        Raises:
            ModelFolderError: its files are missing or malformed.
        """


class _ListTokenizer(WordTokenizer):
    """A tokenizer over a list of words, in one JSON file that holds its constructor's arguments."""

    config_file: ClassVar[str]
    config_keys: ClassVar[tuple[str, ...]] = ("vocab", "stop_words", "do_lower_case")

    def __init__(self, splitter: WhitespaceSplitter | PhraseSplitter) -> None:
        self._splitter = splitter

    @property
    def splitter(self) -> WhitespaceSplitter | PhraseSplitter:
        return self._splitter

    @property
    def vocabulary_size(self) -> int:
        return len(self._splitter.vocab)

    def tokenize(self, text: str) -> list[int]:
        return self._splitter(text)

    def get_vocab(self) -> list[str]:
        return self._splitter.vocab

    def set_vocab(self, vocab: Sequence[str]) -> None:
        settings = {key: value for key, value in self._splitter.to_json().items() if key != "kind"}
        self._splitter = type(self._splitter)(**{**settings, "vocab": vocab})

    def save(self, folder: Path) -> None:
        described = self._splitter.to_json()
        config = {key: described[key] for key in self.config_keys}
        (folder / self.config_file).write_text(json.dumps(config), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        path = folder / cls.config_file
        if not path.is_file():
            raise ModelFolderError(f"{folder} has no {cls.config_file}: copy the model again")
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(config, dict) or "vocab" not in config:
                raise TypeError("it has no vocab")  # noqa: TRY301 - one sentence for all that can be wrong
            return cls(**{key: config[key] for key in cls.config_keys if key in config})
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise ModelFolderError(f"{path} is malformed ({error}): copy the model again") from error


class WhitespaceTokenizer(_ListTokenizer):
    """Words between white space; see `WhitespaceSplitter` (module-stack spec, section 9.2).

    Args:
        vocab: words by id.
        stop_words: words to leave out.
        do_lower_case: lower-case the text first.

    Raises:
        InputError: an argument of another type.
    """

    type_path = f"{_OLD}.WhitespaceTokenizer.WhitespaceTokenizer"
    config_file = "whitespacetokenizer_config.json"

    def __init__(
        self, vocab: Sequence[str] = (), stop_words: Iterable[str] = ENGLISH_STOP_WORDS, do_lower_case: bool = False
    ) -> None:
        super().__init__(WhitespaceSplitter(vocab, stop_words, do_lower_case))


class PhraseTokenizer(_ListTokenizer):
    """Words as NLTK cuts them, joined to phrases; see `PhraseSplitter` (module-stack spec, section 9.3).

    Args:
        vocab: words and phrases by id.
        stop_words: words to leave out.
        do_lower_case: kept, and without effect, as in sentence-transformers.
        ngram_separator: stands between the words of a phrase.
        max_ngram_length: most words of a phrase.

    Raises:
        InputError: an argument of another type.
        MissingExtraError: NLTK is not installed.
    """

    type_path = f"{_OLD}.PhraseTokenizer.PhraseTokenizer"
    config_file = "phrasetokenizer_config.json"
    config_keys = (*_ListTokenizer.config_keys, "ngram_separator", "max_ngram_length")

    def __init__(
        self,
        vocab: Sequence[str] = (),
        stop_words: Iterable[str] = ENGLISH_STOP_WORDS,
        do_lower_case: bool = False,
        ngram_separator: str | None = "_",
        max_ngram_length: int = 5,
    ) -> None:
        super().__init__(PhraseSplitter(vocab, stop_words, do_lower_case, ngram_separator, max_ngram_length))


class TransformersTokenizerWrapper(WordTokenizer):
    """A transformers tokenizer, special tokens included (module-stack spec, section 9.4).

    Args:
        tokenizer: any; only a fast one can be compiled.
    """

    type_path = f"{_OLD}.WordTokenizer.TransformersTokenizerWrapper"

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer

    @property
    def splitter(self) -> TokenizerSplitter:
        if not self.tokenizer.is_fast:
            reason = "its tokenizer has no fast version (tokenizer.json): convert it with transformers first"
            raise UnsupportedError(type(self.tokenizer).__name__, reason)
        backend, split = self.tokenizer.backend_tokenizer, bool(self.tokenizer.split_special_tokens)
        return TokenizerSplitter(backend.to_str(), split)

    @property
    def vocabulary_size(self) -> int:
        return max(self.get_vocab().values(), default=-1) + 1

    def tokenize(self, text: str) -> list[int]:
        # Quiet: the limit it would warn of is that of the network it came with.
        return list(self.tokenizer(text, verbose=False)["input_ids"])

    def get_vocab(self) -> dict[str, int]:
        # By id: the order that transformers gives is the process's own.
        return dict(sorted(self.tokenizer.get_vocab().items(), key=lambda word: word[1]))

    def set_vocab(self, vocab: Sequence[str]) -> None:
        raise InputError("the words of a transformers tokenizer are its own: use a WhitespaceTokenizer")

    def save(self, folder: Path) -> None:
        with quiet_transformers():
            self.tokenizer.save_pretrained(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        try:
            with quiet_transformers():
                options = {"use_fast": True, "local_files_only": True, "trust_remote_code": False}
                return cls(AutoTokenizer.from_pretrained(folder, **options))
        except Exception as error:  # transformers and tokenizers raise whatever they meet
            raise ModelFolderError(
                f"the tokenizer in {folder} cannot be loaded ({one_line(error)}): copy the model again"
            ) from error


# Class, and the module it lived in before 5.4 and since.
_HOMES: dict[type[WordTokenizer], tuple[str, str]] = {
    WhitespaceTokenizer: ("WhitespaceTokenizer", "whitespace"),
    PhraseTokenizer: ("PhraseTokenizer", "phrase"),
    TransformersTokenizerWrapper: ("WordTokenizer", "word"),
}

_BY_PATH: dict[str, type[WordTokenizer]] = {
    f"{home}.{kind.__name__}": kind
    for kind, (old, new) in _HOMES.items()
    for home in (_OLD, f"{_OLD}.{old}", _NEW, f"{_NEW}.{new}")
}


def tokenizer_class(type_path: str) -> type[WordTokenizer]:
    """The class a `tokenizer_class` of any release names (module-stack spec, section 2.2).

    Raises:
        UnsupportedError: it names another one.
    """
    kind = _BY_PATH.get(type_path)
    if kind is None:
        known = ", ".join(found.__name__ for found in _HOMES)
        raise UnsupportedError(
            "WordEmbeddings",
            f"the tokenizer_class {type_path!r} of its WordEmbeddings is none of {known}: save it with one of these",
        )
    return kind
