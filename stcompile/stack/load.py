"""Model folder to `ModuleStack`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stcompile import modules
from stcompile.errors import StcompileError, UnsupportedError
from stcompile.manifest import SENTENCE
from stcompile.modules import Module, Pooling, Transformer
from stcompile.stack.describe import ModuleEntry, StackDescription, describe
from stcompile.stack.module_stack import ModuleStack
from stcompile.stack.source import located

logger = logging.getLogger("stcompile")

# Short, padded, and long enough to be cut by most limits.
_LIVE_TEXTS = ["hello", "The quick brown fox jumps over the lazy dog.", "one two three four five " * 120]

# Two float32 computations differ by less than 1e-6; a live object in half precision by float16's rounding.
_LIVE_ERROR, _LIVE_HALF_ERROR = 2e-5, 2e-2

BUILDERS: dict[str, type[Module]] = {
    "Pooling": modules.Pooling,
    "Dense": modules.Dense,
    "LayerNorm": modules.LayerNorm,
    "Dropout": modules.Dropout,
    "Normalize": modules.Normalize,
}


def load_stack(
    model: Any, *, revision: str | None = None, cache_dir: str | None = None, trust_remote_code: bool = False
) -> ModuleStack:
    """Loads a model folder, a hub id, or a live SentenceTransformer as our own torch modules, in float32.

    Args:
        model: folder, hub id or SentenceTransformer.
        revision: hub revision.
        cache_dir: where the hub's files are kept.
        trust_remote_code: let the network run code that comes with the model.

    Raises:
        ModelFolderError: files are missing, unreadable or do not fit each other.
        UnsupportedError: something in the stack cannot be compiled; names everything found.
    """
    with located(model, revision=revision, cache_dir=cache_dir) as (folder, name):
        description = describe(folder)
        if description.unsupported:
            raise UnsupportedError(name, description.unsupported)
        stack = _build(description, name, trust_remote_code)
    if not isinstance(model, (str, Path)):
        _check_live(model, stack)
    return stack


def _build(description: StackDescription, name: str, trust_remote_code: bool) -> ModuleStack:
    first, *rest = description.entries
    transformer = _transformer(description, first, trust_remote_code)
    if transformer.clamped_from is not None:
        logger.warning(
            "%s: the length limit %d is more than the network has positions for; texts are cut at %d tokens",
            name,
            transformer.clamped_from,
            transformer.max_seq_length,
        )
    if description.layout == "plain":
        built: list[Module] = [Pooling(transformer.hidden_size, **entry.config) for entry in rest]
    else:
        built = [BUILDERS[entry.type].load(description.folder.inside(entry.path), entry.config) for entry in rest]
    _check_widths([transformer, *built], name)
    stack = ModuleStack(
        [transformer, *built],
        prompts=description.prompts,
        default_prompt_name=description.default_prompt_name,
        similarity=description.similarity,
        truncate_dim=description.truncate_dim,
        name=name,
    )
    _try(stack)
    return stack


def _transformer(description: StackDescription, entry: ModuleEntry, trust_remote_code: bool) -> Transformer:
    known = (
        "max_seq_length",
        "model_args",
        "tokenizer_args",
        "config_args",
        "do_lower_case",
        "modality_config",
        "module_output_name",
        "processing_kwargs",
    )
    folder: Path = description.folder.inside(entry.path)
    options = {key: entry.config[key] for key in known if entry.config.get(key) is not None}
    tokenizer = entry.config.get("tokenizer_name_or_path")
    if tokenizer is not None:
        options["tokenizer_name_or_path"] = description.folder.inside(str(tokenizer))
    return Transformer(folder, trust_remote_code=trust_remote_code, **options)


def _check_widths(stack: list[Module], name: str) -> None:
    """Refuses a stack whose modules do not fit each other, before torch fails in the middle of it."""
    reasons = []
    first = stack[0]
    assert isinstance(first, Transformer)
    widths = {first.module_output_name: first.hidden_size}
    for position, block in enumerate(stack[1:], start=1):
        label = f"module {position} ({type(block).__name__})"
        source = (
            "token_embeddings" if isinstance(block, modules.Pooling) else getattr(block, "module_input_name", SENTENCE)
        )
        given, wanted = widths.get(source), _input_width(block)
        if given is None:
            reasons.append(f"{label} reads {source}, but nothing before it writes that: correct modules.json")
        elif wanted is not None and wanted != given:
            reasons.append(f"{label} takes {wanted} values but is given {given}: correct its configuration")
        width = block.out_features if isinstance(block, modules.Dense) else block.output_dimension(given or 0)
        widths[getattr(block, "module_output_name", SENTENCE)] = width
    if SENTENCE not in widths:
        reasons.append("nothing makes a sentence embedding: add a Pooling to modules.json")
    if reasons:
        raise UnsupportedError(name, reasons)


def _input_width(block: Module) -> int | None:
    for attribute in ("in_features", "dimension", "embedding_dimension"):
        width = getattr(block, attribute, None)
        if isinstance(width, int):
            return width
    return None


def _try(stack: ModuleStack) -> None:
    """Runs one text, so that what only shows in the network's real outputs is a sentence and not a traceback."""
    try:
        width = stack.encode(["a"]).shape[1]
    except StcompileError:
        raise
    except Exception as error:  # the network may fail in any way
        reason = f"its modules do not work together ({type(error).__name__}: {error})"
        raise UnsupportedError(stack.name, [f"{reason}: correct its configuration"]) from error
    if width != stack.dim:
        raise UnsupportedError(
            stack.name, [f"it makes {width} values where its configuration says {stack.dim}: correct it"]
        )


def _check_live(model: Any, stack: ModuleStack) -> None:
    """A live object can hold what no folder can: tokenizer sides set by hand, arguments of activations."""
    expected = np.asarray(model.encode(_LIVE_TEXTS, prompt="", convert_to_numpy=True), dtype=np.float32)
    found = stack.encode(_LIVE_TEXTS)[:, : expected.shape[1]]
    lengths = np.maximum(np.linalg.norm(expected, axis=1, keepdims=True), 1e-9)
    dtype = next((parameter.dtype for parameter in model.parameters()), torch.float32)
    allowed = _LIVE_ERROR if dtype == torch.float32 else _LIVE_HALF_ERROR
    if expected.shape != found.shape or not np.nanmax(np.abs(expected - found) / lengths) <= allowed:
        raise UnsupportedError(
            stack.name,
            [
                "saved and loaded again it gives other vectors than the live object, because a folder cannot hold all "
                "of its state (padding or truncation side, arguments of an activation): save it, check the saved "
                "folder, and compile that"
            ],
        )
