"""What a model folder says it is: its module stack, prompts and everything unsupported, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stcompile.errors import ModelFolderError
from stcompile.runtime.postprocess import SIMILARITIES
from stcompile.stack import checks, registry
from stcompile.stack.folder import Folder

_NETWORK_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)

# Any of these is a tokenizer; without one, transformers 5 makes up an empty vocabulary and says nothing.
_TOKENIZERS = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "tokenizer.model",
    "spiece.model",
    "spm.model",
    "sentencepiece.bpe.model",
)

_TEXT_ONLY = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}


@dataclass(frozen=True)
class ModuleEntry:
    """One row of modules.json, resolved.

    Attributes:
        position: place in the stack, from 0.
        type: the module's class.
        path: the module's folder, relative to the model; empty for the root.
        config: its configuration with today's keys.
    """

    position: int
    type: str
    path: str
    config: dict[str, Any]


@dataclass(frozen=True)
class StackDescription:
    """A model folder as read, before torch is involved.

    Attributes:
        folder: where it is.
        layout: `modules.json`, or `plain` for a transformers folder without one.
        entries: the modules that are supported, in order.
        prompts: prompt name to text; `query` and `document` are always there.
        default_prompt_name: the prompt plain `encode` uses.
        similarity: `cosine`, `dot`, `euclidean` or `manhattan`.
        truncate_dim: dimensions kept by default, or None for all.
        unsupported: every reason it cannot be compiled, each with its remedy.
    """

    folder: Folder
    layout: str
    entries: tuple[ModuleEntry, ...]
    prompts: dict[str, str]
    default_prompt_name: str | None
    similarity: str
    truncate_dim: int | None
    unsupported: tuple[str, ...]


def describe(path: str | Path) -> StackDescription:
    """Reads a model folder of any generation (spec sections 2 and 13).

    Raises:
        ModelFolderError: missing, half-written, or with malformed JSON. What is merely unsupported is
            reported in `unsupported`.
    """
    folder = Folder(Path(path))
    folder.refuse_links_out()
    settings = folder.json_object("config_sentence_transformers.json")
    reasons: list[str] = []
    rows = folder.json("modules.json")
    if rows is None:
        layout, entries = "plain", _plain_entries(folder, reasons)
    else:
        layout, entries = "modules.json", _entries(folder, rows, reasons)
    _check_order(entries, reasons)
    _check_kind(settings, reasons)
    # A plain folder has no configuration of its own: what stands in for it needs no check.
    for entry in entries if layout == "modules.json" else []:
        reasons += [
            f"module {entry.position} ({entry.type}): {text}" for text in checks.problems(entry.type, entry.config)
        ]
    default, similarity = _default_prompt(settings, reasons), _similarity(settings, reasons)
    return StackDescription(
        folder=folder,
        layout=layout,
        entries=tuple(entries),
        prompts=_prompts(settings),
        default_prompt_name=default,
        similarity=similarity,
        truncate_dim=_truncate_dim(settings, reasons),
        unsupported=tuple(reasons),
    )


def _entries(folder: Folder, rows: Any, reasons: list[str]) -> list[ModuleEntry]:
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) and "type" in row for row in rows):
        raise ModelFolderError(f"{folder.root / 'modules.json'} must be a list of modules: copy the model again")
    entries = []
    for position, row in enumerate(rows):
        type_path, path = str(row["type"]), str(row.get("path", ""))
        path = "" if path == "." else path
        kind, refusal = registry.resolve(type_path)
        if kind is None:
            reasons.append(f"module {position} ({type_path.rpartition('.')[2]}) {refusal}")
            continue
        home = folder.inside(path)
        config: Any = next((found for name in kind.config_files if (found := folder.json(_join(path, name)))), {})
        if not isinstance(config, dict):
            raise ModelFolderError(f"the configuration in {home} must be a JSON object: copy the model again")
        if kind.name == "Transformer":
            _check_network(folder, path, reasons)
            _check_tokenizer(folder, str(config.get("tokenizer_name_or_path") or path))
            # A saved folder without the key predates modalities: plain text, whatever the tokenizer's template.
            config = {"modality_config": _TEXT_ONLY, **config}
        entries.append(ModuleEntry(position, kind.name, path, checks.normalized(kind.name, config)))
    return entries


def _plain_entries(folder: Folder, reasons: list[str]) -> list[ModuleEntry]:
    config = folder.json("config.json")
    if not isinstance(config, dict) or "model_type" not in config:
        raise ModelFolderError(
            f"{folder.root} has neither modules.json nor a transformers config.json: it is not a model folder"
        )
    _check_network(folder, "", reasons)
    _check_tokenizer(folder, "")
    architectures = config.get("architectures") or [""]
    architecture = str(architectures[0] if isinstance(architectures, list) else architectures)
    if architecture.endswith(("ForSequenceClassification", "HF_ColBERT")):
        reasons.append(
            f"it is a {architecture}, not an embedding model: to compile its network with mean pooling all the "
            "same, load it with SentenceTransformer and save that"
        )
    causal = architecture.endswith("ForCausalLM") and config.get("is_causal", True) is not False
    pooling = {"pooling_mode": "lasttoken" if causal else "mean", "include_prompt": True}
    return [ModuleEntry(0, "Transformer", "", {}), ModuleEntry(1, "Pooling", "", pooling)]


def _check_network(folder: Folder, path: str, reasons: list[str]) -> None:
    home = folder.inside(path)
    if folder.json(_join(path, "adapter_config.json")) is not None:
        reasons.append("the Transformer is an adapter: merge it into its base model (merge_and_unload) and save that")
        return
    if not (home / "config.json").is_file():
        raise ModelFolderError(f"{home} has no config.json: the model is incomplete, copy it again")
    if not any((home / name).is_file() for name in _NETWORK_WEIGHTS):
        raise ModelFolderError(f"{home} has no weights ({_NETWORK_WEIGHTS[0]} or the like): copy the model again")
    for index in ("model.safetensors.index.json", "pytorch_model.bin.index.json"):
        weights = folder.json_object(_join(path, index)).get("weight_map") or {}
        if not isinstance(weights, dict) or not all(isinstance(name, str) for name in weights.values()):
            raise ModelFolderError(f"{home / index} must map weights to files: copy the model again")
        absent = sorted(name for name in set(weights.values()) if not folder.inside(_join(path, name)).is_file())
        if absent and not (home / "model.safetensors").is_file():
            raise ModelFolderError(
                f"{home} lacks the weights {', '.join(absent)}: the model is incomplete, copy it again"
            )


def _check_tokenizer(folder: Folder, path: str) -> None:
    home = folder.inside(path)
    if not any((home / name).is_file() for name in _TOKENIZERS):
        raise ModelFolderError(f"{home} has no tokenizer ({_TOKENIZERS[0]} or the like): copy the model again")


def _check_order(entries: list[ModuleEntry], reasons: list[str]) -> None:
    transformers = [entry.position for entry in entries if entry.type == "Transformer"]
    if not reasons and transformers != [0]:
        reasons.append("the stack must have one Transformer, and it must be the first module")


def _check_kind(settings: dict[str, Any], reasons: list[str]) -> None:
    kind = settings.get("model_type", "SentenceTransformer")
    if kind != "SentenceTransformer":
        reasons.append(f"it is a {kind}, not a SentenceTransformer: stcompile compiles sentence embeddings")


def _prompts(settings: dict[str, Any]) -> dict[str, str]:
    stored = settings.get("prompts") or {}
    if not isinstance(stored, dict) or not all(isinstance(text, str) for text in stored.values()):
        raise ModelFolderError("prompts in config_sentence_transformers.json must map names to texts")
    # sentence-transformers 5.0+ gives every model these two, so that encode_query never uses the default prompt.
    return {"query": "", "document": "", **stored}


def _default_prompt(settings: dict[str, Any], reasons: list[str]) -> str | None:
    name = settings.get("default_prompt_name")
    if name is not None and (not isinstance(name, str) or name not in _prompts(settings)):
        reasons.append(
            f"default_prompt_name {name!r} is not among its prompts: correct config_sentence_transformers.json"
        )
    return name


def _truncate_dim(settings: dict[str, Any], reasons: list[str]) -> int | None:
    kept = settings.get("truncate_dim")
    if kept is not None and (not isinstance(kept, int) or isinstance(kept, bool) or kept < 1):
        reasons.append(f"truncate_dim is {kept!r}: it must be a positive whole number or null")
        return None
    return kept


def _similarity(settings: dict[str, Any], reasons: list[str]) -> str:
    name = settings.get("similarity_fn_name") or "cosine"
    if name not in SIMILARITIES:
        reasons.append(f"its similarity {name!r} is not one of {', '.join(SIMILARITIES)}")
    return str(name)


def _join(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name
