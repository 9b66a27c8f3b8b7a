"""What makes a folder a multi-vector encoder's, of whichever library wrote it (module-stack spec, section 16)."""

from __future__ import annotations

import contextlib
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from stcompile.compiler.kinds import dense, multi_vector_mask, normalize, stanford_projection, transformer
from stcompile.compiler.kinds.base import Config, ModuleEntry, ModuleType
from stcompile.compiler.kinds.folder import Folder
from stcompile.compiler.kinds.network_files import network_problems, tokenizer_problems
from stcompile.compiler.kinds.transformer import FIXED
from stcompile.errors import ModelFolderError

# How sentence-transformers and PyLate call their classes in config_sentence_transformers.json.
MULTI_VECTOR_ENCODER, PYLATES = "MultiVectorEncoder", "ColBERT"

# How ColBERT's own library calls its network in config.json, and where it keeps what it was trained with.
_STANFORDS, _METADATA = "HF_ColBERT", "artifact.metadata"
_STANFORD_MARKERS = {"query": ("query_token_id", "[unused0]"), "document": ("doc_token_id", "[unused1]")}

# Queries of both were filled up to so many tokens where nothing is stored.
_LENGTH = 32

_PREFIXES = {"query_prefix": "query", "document_prefix": "document"}
_LIMITS = ("query_length", "document_length")
_MARKERS = (
    *(*_LIMITS, "query_expansion", "do_query_expansion", "attend_to_expansion_tokens", "attend_to_mask_tokens"),
    *(*_PREFIXES, "skiplist_words"),
)


@dataclass(frozen=True)
class Stored:
    """What a folder says of all its modules together, in the words of today.

    Attributes:
        prompts: prompt name to text.
        prefixes: texts of prompts whose first word is one token where the tokenizer has it.
        transformer: keys of the Transformer, where its own configuration has none.
        skiplist_words: of a mask that it does not list; None where it lists all its modules.
    """

    prompts: dict[str, Any]
    prefixes: tuple[str, ...] = ()
    transformer: Config = field(default_factory=dict)
    skiplist_words: Sequence[str] | None = None


def is_multi_vector(settings: Mapping[str, Any], entries: Sequence[ModuleEntry]) -> bool:
    """Whether a folder with modules.json is a multi-vector encoder's: it says so, or says nothing and looks like one.

    Args:
        settings: config_sentence_transformers.json.
        entries: the modules that it lists.
    """
    named = settings.get("model_type")
    if named is not None:
        return named in (MULTI_VECTOR_ENCODER, PYLATES)
    return any(key in settings for key in _PREFIXES) or any(
        entry.kind is multi_vector_mask.KIND or entry.type_path == dense.PYLATES for entry in entries
    )


def is_stanfords(network: Mapping[str, Any] | None) -> bool:
    """Whether config.json of a folder without modules.json is of ColBERT's own library."""
    names = (network or {}).get("architectures")
    return names == _STANFORDS or (isinstance(names, list) and _STANFORDS in names)


def stanfords(folder: Folder, reasons: list[str]) -> tuple[list[ModuleEntry], Stored]:
    """The modules of a folder of ColBERT's own library, and what it stores of them.

    Raises:
        ModelFolderError: files are missing or malformed.
    """
    reasons += [*network_problems(folder, ""), *tokenizer_problems(folder, "")]
    metadata = folder.json_object(_METADATA, finite=False)
    markers = {role: metadata.get(key) or usual for role, (key, usual) in _STANFORD_MARKERS.items()}
    reasons += [
        f"its {_STANFORD_MARKERS[role][0]} in {_METADATA} is {marker!r}: it must be a token"
        for role, marker in markers.items()
        if not isinstance(marker, str)
    ]
    prompts = {role: f"{marker} " for role, marker in markers.items()}
    length, attends = metadata.get("query_maxlen") or _LENGTH, bool(metadata.get("attend_to_mask_tokens"))
    options: Config = {"query_expansion": {"strategy": FIXED, "attend": attends, "length": length}}
    if metadata.get("doc_maxlen") is not None:
        options["document_length"] = metadata["doc_maxlen"]
    words = [*string.punctuation] if metadata.get("mask_punctuation", True) else []
    entries = [
        ModuleEntry(0, transformer.KIND, "", transformer.KIND.normalized({})),
        ModuleEntry(1, stanford_projection.KIND, "", {}),
    ]
    return entries, Stored(prompts, tuple(prompts.values()), options, words)


def stored_in(settings: Mapping[str, Any]) -> Stored:
    """What config_sentence_transformers.json says, of sentence-transformers or of PyLate.

    Raises:
        ModelFolderError: its prefixes are no texts.
    """
    given = settings.get("prompts") or {}
    if not isinstance(given, dict) or not all(isinstance(text, (str, type(None))) for text in given.values()):
        # What is wrong with it, whoever reads all settings says.
        return Stored(given)
    prompts, prefixes = dict(given), {}
    for key, role in _PREFIXES.items():
        if key in settings:
            prefix = settings[key] or ""
            if not isinstance(prefix, str):
                raise ModelFolderError(f"{key} in config_sentence_transformers.json must be text: copy the model again")
            prefixes[role] = prefix
            prompts[role] = prefix + (prompts.get(role) or "").removeprefix(prefix)
    options = {key: settings[key] for key in _LIMITS if settings.get(key) is not None}
    if "query_expansion" in settings:
        options["query_expansion"] = settings["query_expansion"]
    elif any(key in settings for key in _MARKERS):
        if settings.get("do_query_expansion") is False:
            options["query_expansion"] = None
        else:
            attends = settings.get("attend_to_expansion_tokens", settings.get("attend_to_mask_tokens"))
            length = options.pop("query_length", None) or settings.get("query_length") or _LENGTH
            options["query_expansion"] = {"strategy": FIXED, "attend": bool(attends), "length": length}
    words = settings.get("skiplist_words")
    if settings.get("model_type") == MULTI_VECTOR_ENCODER:
        words = None
    elif words is None:
        words = [*string.punctuation] if settings.get("model_type") == PYLATES or prefixes else []
    return Stored(prompts, tuple(prefixes.values()), options, words)


def completed(entries: Sequence[ModuleEntry], stored: Stored, reasons: list[str]) -> list[ModuleEntry]:
    """The modules with what is stored of them elsewhere, and with those that a folder leaves unsaid."""
    found = [_completed(entry, stored, reasons) for entry in entries]
    if stored.skiplist_words is not None and not any(entry.kind is multi_vector_mask.KIND for entry in found):
        config = multi_vector_mask.KIND.normalized({"skiplist_words": stored.skiplist_words})
        found.append(_appended(len(found), multi_vector_mask.KIND, config, reasons))
        found.append(_appended(len(found), normalize.KIND, {"module_input_name": "token_embeddings"}, reasons))
    return found


@contextlib.contextmanager
def all_vectors(model: Any) -> Iterator[None]:
    """Has a live MultiVectorEncoder give all vectors of a text: which of them its pooling joins, rounding decides."""
    pooling = [module for module in model.modules() if hasattr(module, "pool_one")]
    tasks = [module.tasks for module in pooling]
    try:
        for module in pooling:
            module.tasks = []
        yield
    finally:
        for module, known in zip(pooling, tasks, strict=True):
            module.tasks = known


def _completed(entry: ModuleEntry, stored: Stored, reasons: list[str]) -> ModuleEntry:
    if entry.kind is dense.KIND:
        if "module_input_name" not in entry.config:
            reasons += [f"module {entry.position} (Dense): {text}" for text in dense.token_problems(entry.config)]
        return replace(entry, config={"module_input_name": "token_embeddings", **entry.config})
    if entry.kind is not transformer.KIND:
        return entry
    config = {**stored.transformer, **entry.config, "prefixes": list(stored.prefixes)}
    if stored.transformer:
        reasons += [f"module {entry.position} (Transformer): {text}" for text in entry.kind.problems(config)]
    return replace(entry, config=config)


def _appended(position: int, kind: ModuleType, config: Config, reasons: list[str]) -> ModuleEntry:
    reasons += [f"{kind.name} of config_sentence_transformers.json: {text}" for text in kind.problems(config)]
    return ModuleEntry(position, kind, "", config)
