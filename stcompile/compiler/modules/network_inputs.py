"""What of a tokenizer's output sentence-transformers hands a network, and whether the network has room for it."""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from stcompile.compiler.modules.backbone import text_side
from stcompile.errors import UnsupportedError, one_line

IDS, MASK, TYPES = "input_ids", "attention_mask", "token_type_ids"

# The runtime makes these; a tokenizer of its own code may make others.
_KNOWN = (IDS, MASK, TYPES)

# Handed to every network's forward, also to one that does not take them.
_ALWAYS = frozenset((*_KNOWN, "inputs_embeds"))

# Never handed to a forward(**kwargs) that does not name them: what sentence-transformers notes for itself.
_BOOKKEEPING = frozenset(
    (
        *("modality", "prompt_length", "task", "num_images_per_sample", "num_videos_per_sample"),
        *("query_expansion_positions", "offset_mapping", "overflow_to_sample_mapping", "special_tokens_mask"),
    )
)

# Parameters that take whatever is left.
_OPEN = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)

# Few enough for nearly every length limit.
_WIDTH = 2


class NetworkInputs:
    """The features that reach a network, as `Transformer.forward` of sentence-transformers selects them.

    Args:
        network: in evaluation mode.
        tokenizer: a fast one with a padding token.
        method: the network's method that reads text, `forward` or `get_text_features`.
        source: what to call the model in an error.

    Attributes:
        names: of the tokenizer's output, what the method is given.
        reads_types: whether token types are among them and change anything.
        takes_pairs: whether the network has a row for the token types of a pair's second text.
        takes_task: whether the method has a parameter `task`.
        largest_id: the largest token id that a text or its padding can have.

    Raises:
        UnsupportedError: sentence-transformers could not run it, or the runtime cannot make what it reads.
    """

    def __init__(self, network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, method: str, source: str) -> None:
        self._method: Callable[..., Any] = getattr(network, method)
        self._network = network
        self._tokenizer = tokenizer
        self._parameters = inspect.signature(self._method).parameters
        self._is_forward = method == "forward"
        self._is_open = any(item.kind is item.VAR_KEYWORD for item in self._parameters.values())
        # What pools by itself has no use for a mask, and its tokenizer may make none: of a text alone it is all ones.
        made = _made(tokenizer, source, **({} if self._is_forward else {"return_attention_mask": True}))
        self.names = tuple(name for name in made if self.hands_over(name))
        self.takes_task = "task" in self._parameters
        reasons = list(self._problems(made))
        if reasons:
            raise UnsupportedError(source, *reasons)
        self.largest_id = _largest_id(tokenizer)
        # What fails on any token is no matter of the table's size.
        if self._runs_out({IDS: _row(self.largest_id)}) and not self._runs_out({}):
            raise UnsupportedError(source, self._table_too_small(network))
        self.reads_types = TYPES in self.names and (TYPES in self._parameters or self._types_matter())
        self.takes_pairs = not self.reads_types or not self._runs_out({TYPES: _row(_pair_type(tokenizer))})

    def hands_over(self, name: str) -> bool:
        """Whether the method is given a feature, or a keyword, of this name."""
        if name in self._parameters:
            return True
        if not self._is_forward:
            return False
        return name not in _BOOKKEEPING if self._is_open else name in _ALWAYS

    def wanting(self, error: Exception) -> str:
        """What the network wants besides a text's tokens, where it failed for lack of it; empty where that is unknown.

        Args:
            error: what a stack with the network raised.
        """
        others = [name for name, item in self._parameters.items() if name not in self.names and item.kind not in _OPEN]
        named = [name for name in others if re.search(rf"\b{name}\b", str(error))]
        remedy = "compile a model that reads text alone"
        if "lang_ids" in others and getattr(self._network.config, "default_language", "") is None:
            named, remedy = ["lang_ids"], "set default_language in its config.json"
        elif not named and "decoder_input_ids" in others and _came_from(error, getattr(self._network, "decoder", None)):
            named, remedy = ["decoder_input_ids"], "compile a model that is an encoder alone"
        if not named or not _came_from(error, self._network):
            return ""
        return (
            f"the network of its Transformer ({self._network.config.model_type}) wants {', '.join(named)} besides a "
            f"text's tokens, which sentence-transformers does not make, so that it cannot run there either: {remedy}"
        )

    def _problems(self, made: Mapping[str, Any]) -> list[str]:
        reasons = []
        for name in self.names:
            if name not in _KNOWN:
                reasons.append(
                    f"its network reads {name} of its tokenizer, which only {', '.join(_KNOWN)} are compiled of: keep "
                    "it on sentence-transformers"
                )
            elif name not in self._parameters and not self._is_open:
                reasons.append(
                    f"its tokenizer makes {name}, which its network's forward does not take, so that it cannot run in "
                    "sentence-transformers either: leave it out of model_input_names in tokenizer_config.json"
                )
        reasons += [
            f"its tokenizer makes no {name}: add it to model_input_names in tokenizer_config.json"
            for name in (IDS, MASK)
            if name not in made
        ]
        if "prompt_length" in self._parameters and self._is_forward:
            reasons.append("its network reads the length of the prompt, which is for pooling alone: leave it out")
        return reasons

    @torch.inference_mode()
    def _run(self, features: Mapping[str, Tensor]) -> Any:
        row = {IDS: _row(_plain_id(self._tokenizer)), MASK: _row(1), TYPES: _row(0), **features}
        options = {"return_dict": True} if self._is_forward else {}
        return self._method(**{name: row[name] for name in self.names}, **options)

    def _runs_out(self, features: Mapping[str, Tensor]) -> bool:
        """Whether some table of the network has no row for one of these ids."""
        try:
            self._run(features)
        except IndexError:
            return True
        except Exception:  # whatever else it may dislike about such a text is no matter of tables
            return False
        return False

    def _types_matter(self) -> bool:
        """Whether a `forward(**kwargs)` does anything with token types."""
        try:
            plain, other = (self._run({TYPES: _row(kind)}) for kind in (0, 1))
        except IndexError:
            return True
        except Exception as error:  # it is somebody else's code
            detail = f"{type(error).__name__}: {one_line(error, 200)}"
            reason = f"its network fails on {' and '.join(self.names)}, which its tokenizer makes ({detail})"
            raise UnsupportedError(self._network.config.model_type, self.wanting(error) or reason) from error
        return not _same(plain, other)

    def _table_too_small(self, network: PreTrainedModel) -> str:
        token = self._tokenizer.convert_ids_to_tokens(self.largest_id)
        rows = getattr(_input_embeddings(network), "num_embeddings", None)
        table = "its network has no row for it" if rows is None else f"its network's table has {rows} rows"
        return (
            f"its tokenizer makes ids up to {self.largest_id} ({token!r}), and {table}, so that a text with such a "
            f"token cannot be encoded: call resize_token_embeddings({self.largest_id + 1}), train and save it, or "
            "take the added tokens out of the tokenizer"
        )


def _came_from(error: Exception, module: object) -> bool:
    """Whether an error was raised by a module, or by one that it called."""
    frames = traceback.walk_tb(error.__traceback__)
    return module is not None and any(frame.f_locals.get("self") is module for frame, _ in frames)


def _made(tokenizer: PreTrainedTokenizerBase, source: str, **options: bool) -> Mapping[str, Any]:
    try:
        return dict(tokenizer(["a"], padding=True, return_tensors="pt", **options))
    except Exception as error:  # of tokenizers, which raises bare Exception
        raise UnsupportedError(source, f"its tokenizer fails on a text ({one_line(error)}): repair it") from error


def _largest_id(tokenizer: PreTrainedTokenizerBase) -> int:
    backend = tokenizer.backend_tokenizer
    known = {*backend.get_vocab(with_added_tokens=False).values(), int(tokenizer.pad_token_id), *_ids(tokenizer, "a")}
    largest = max(known)
    for number, token in sorted(backend.get_added_tokens_decoder().items(), reverse=True):
        if number <= largest:
            break
        # Some are never made: special ones where these are split, or what the normalizer spells otherwise.
        if number in _ids(tokenizer, token.content):
            return int(number)
    return int(largest)


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text, verbose=False)[IDS])


def _plain_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """A token that any network takes."""
    return next(iter(_ids(tokenizer, "a")), int(tokenizer.pad_token_id))


def _pair_type(tokenizer: PreTrainedTokenizerBase) -> int:
    return max(tokenizer(["a"], ["b"]).get(TYPES, [[0]])[0], default=0)


def _row(value: int) -> Tensor:
    return torch.full((1, _WIDTH), value, dtype=torch.int64)


def _same(left: Any, right: Any) -> bool:
    pairs = zip(left.values(), right.values(), strict=True) if hasattr(left, "values") else [(left, right)]
    return all(torch.equal(a, b) for a, b in pairs if isinstance(a, Tensor))


def _input_embeddings(network: PreTrainedModel) -> Any:
    try:
        return text_side(network).get_input_embeddings()
    except (AttributeError, NotImplementedError):
        return None
