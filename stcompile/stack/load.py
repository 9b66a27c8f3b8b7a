"""Model folder to `ModuleStack`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from stcompile import modules
from stcompile.errors import UnsupportedError
from stcompile.modules import Module, Transformer
from stcompile.stack.describe import ModuleEntry, StackDescription, describe
from stcompile.stack.module_stack import ModuleStack
from stcompile.stack.source import located

logger = logging.getLogger("stcompile")

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
        return _build(description, name, trust_remote_code)


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
    built = [BUILDERS[entry.type].load(description.folder.inside(entry.path), entry.config) for entry in rest]
    _check_widths([transformer, *built], name)
    return ModuleStack(
        [transformer, *built],
        prompts=description.prompts,
        default_prompt_name=description.default_prompt_name,
        similarity=description.similarity,
        truncate_dim=description.truncate_dim,
        name=name,
    )


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
    hidden = stack[0].output_dimension(0)
    pooled = hidden if getattr(stack[0], "module_output_name", "") == "sentence_embedding" else None
    for position, block in enumerate(stack[1:], start=1):
        wanted = _input_width(block)
        on_tokens = getattr(block, "module_input_name", "sentence_embedding") == "token_embeddings"
        given = hidden if on_tokens or isinstance(block, modules.Pooling) else pooled
        label = f"module {position} ({type(block).__name__})"
        if given is None:
            reasons.append(f"{label} reads sentence_embedding, but no Pooling comes before it: add one")
        elif wanted is not None and wanted != given:
            reasons.append(f"{label} takes {wanted} values but is given {given}: correct its configuration")
        if on_tokens and isinstance(block, modules.Dense):
            hidden = block.out_features
        elif not on_tokens and given is not None:
            pooled = block.output_dimension(given)
    if pooled is None and not reasons:
        reasons.append("nothing makes a sentence embedding: add a Pooling to modules.json")
    if reasons:
        raise UnsupportedError(name, reasons)


def _input_width(block: Module) -> int | None:
    for attribute in ("in_features", "dimension", "embedding_dimension"):
        width = getattr(block, attribute, None)
        if isinstance(width, int):
            return width
    return None
