"""Loading the transformers tokenizer of a Transformer module: a fast one, with a padding token."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from tokenizers import normalizers
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from stcompile.errors import MissingExtraError, ModelFolderError, UnsupportedError, one_line

# What transformers reads other tokenizers than tokenizer.json with, in the order in which it tries: package to module.
_READERS = {"sentencepiece": "sentencepiece", "protobuf": "google", "tiktoken": "tiktoken"}


def load_tokenizer(
    source: str, max_seq_length: int | None, tokenizer_args: dict[str, Any], shared: dict[str, Any]
) -> PreTrainedTokenizerBase:
    """The tokenizer.

    Args:
        source: folder or hub id.
        max_seq_length: most tokens of a row, where `tokenizer_args` names no `model_max_length`.
        tokenizer_args: further arguments for loading it.
        shared: arguments of all that is loaded from there: trust, cache and revision.

    Raises:
        ModelFolderError: it is missing or unreadable.
        MissingExtraError: transformers needs a package to read it.
        UnsupportedError: it has no fast version, or no padding token.
    """
    arguments = {name: value for name, value in tokenizer_args.items() if name != "trust_remote_code"}
    if max_seq_length is not None:
        arguments.setdefault("model_max_length", max_seq_length)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **shared, **arguments)
    except Exception as error:  # transformers and tokenizers raise whatever they meet
        package = _missing_reader(str(error))
        if package:
            raise MissingExtraError(
                f"the tokenizer in {source} has no tokenizer.json, and transformers reads what it has with {package}, "
                f"which is not installed: pip install {package}"
            ) from error
        raise ModelFolderError(
            f"the tokenizer in {source} cannot be loaded ({one_line(error)}): copy the model again, or install the "
            "transformers release that saved it"
        ) from error
    reasons = []
    if not tokenizer.is_fast:
        reasons.append(
            f"its tokenizer ({type(tokenizer).__name__}) has no fast version (tokenizer.json), which the runtime "
            "needs: save one with transformers (PreTrainedTokenizerFast), or compile a model that has one"
        )
    if tokenizer.pad_token is None:
        reasons.append("its tokenizer has no padding token: set pad_token in tokenizer_config.json")
    if reasons:
        raise UnsupportedError(source, *reasons)
    return tokenizer


def limit_of(value: Any, what: str) -> int:
    """Most tokens of a text, as a folder says it; transformers passes on whatever JSON holds.

    Args:
        value: what is said.
        what: where.

    Raises:
        ModelFolderError: it is no number of tokens.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf"):
        return int(value)
    raise ModelFolderError(f"{what} is {value!r}, and must be a number of tokens: correct it, or copy the model again")


def _missing_reader(error: str) -> str:
    """The package that transformers lacks to read a SentencePiece or a tiktoken file; it may name the wrong one."""
    if not any(name in error.lower() for name in _READERS):
        return ""
    return next((name for name, module in _READERS.items() if find_spec(module) is None), "")


def prepend_lowercase(tokenizer: PreTrainedTokenizerBase) -> None:
    """Has it lower-case a text first, where it does not anywhere."""
    backend = tokenizer.backend_tokenizer
    present = backend.normalizer
    if isinstance(present, normalizers.Sequence):
        steps = [present[index] for index in range(len(present))]
    else:
        steps = [] if present is None else [present]
    if not any(isinstance(step, normalizers.Lowercase) for step in steps):
        backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *steps])
