"""What a model folder says it is: its module stack, prompts and everything unsupported, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from stcompile.artifact.manifest import SENTENCE, SIMILARITIES
from stcompile.compiler.stack import checks, registry
from stcompile.compiler.stack.folder import Folder
from stcompile.compiler.stack.keywords import keywords_of
from stcompile.errors import ModelFolderError
from stcompile.runtime.arguments import local_path

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

# Tokenizers of bytes or characters, which need no file and have no fast version.
_WITHOUT_FILES = ("ByT5Tokenizer", "CanineTokenizer", "PerceiverTokenizer")

_TEXT_ONLY = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}

# What a CLIPModel of the releases before 5.4 means (spec section 17).
_CLIP = {
    "modality_config": {
        "text": {"method": "get_text_features", "method_output_name": "pooler_output"},
        "image": {"method": "get_image_features", "method_output_name": "pooler_output"},
    },
    "module_output_name": SENTENCE,
}

# Routers within Routers; a folder that links to itself has no end.
_DEEPEST = 8

# The type of an entry whose code comes with the model.
CUSTOM = "Custom"

_NOT_TRUSTED = "which runs only when it is trusted: pass --trust-remote-code (trust_remote_code=True) if you do"
_READERS = f"{', '.join(kind.name for kind in registry.SUPPORTED.values() if kind.reads_text)} do"


@dataclass(frozen=True)
class ModuleEntry:
    """One row of modules.json, resolved.

    Attributes:
        position: place in the stack, from 0.
        type: the module's class; `Custom` for code that comes with the model.
        path: the module's folder, relative to the model; empty for the root.
        config: its configuration with today's keys.
        type_path: how the folder spells the class.
        routes: of a Router, route name to its modules.
        keywords: what modules.json says that it is called with.
    """

    position: int
    type: str
    path: str
    config: dict[str, Any]
    type_path: str = ""
    routes: dict[str, tuple[ModuleEntry, ...]] = field(default_factory=dict)
    keywords: tuple[str, ...] = ()


@dataclass(frozen=True)
class StackDescription:
    """A model folder as read, before torch is involved.

    Attributes:
        folder: where it is.
        layout: `modules.json`; without one, `model2vec`, or `plain` for a transformers folder.
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


def describe(path: str | Path, *, trust_remote_code: bool = False, follow_links: bool = False) -> StackDescription:
    """Reads a model folder of any generation (spec sections 2 and 13).

    Args:
        path: the folder.
        trust_remote_code: take modules whose code comes with the model; without it they are unsupported.
        follow_links: take a folder whose links lead out of it.

    Raises:
        ModelFolderError: missing, half-written, or with malformed JSON. What is merely unsupported is
            reported in `unsupported`.
    """
    folder = Folder(local_path(path), follow_links)
    folder.refuse_links_out()
    folder.refuse_paths_out()
    settings = folder.json_object("config_sentence_transformers.json")
    reader = _Reader(folder, trust_remote_code)
    rows = folder.json("modules.json")
    if rows is not None:
        layout, entries = "modules.json", reader.stack(rows)
    elif folder.json_object("config.json").get("model_type") == "model2vec":
        layout, entries = "model2vec", reader.model2vec()
    else:
        layout, entries = "plain", reader.plain()
    reasons = reader.reasons
    _check_order(entries, reasons)
    _check_kind(settings, reasons)
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


class _Reader:
    """Reads the modules of a folder, and collects everything that cannot be compiled."""

    def __init__(self, folder: Folder, trust_remote_code: bool) -> None:
        self._folder = folder
        self._trusted = trust_remote_code
        self.reasons: list[str] = []

    def stack(self, rows: Any) -> list[ModuleEntry]:
        """What modules.json lists."""
        if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) and "type" in row for row in rows):
            raise ModelFolderError(
                f"{self._folder.root / 'modules.json'} must be a list of modules: copy the model again"
            )
        names = [row["name"] for row in rows if "name" in row]
        for name in dict.fromkeys(name for name in names if names.count(name) > 1):
            self.reasons.append(
                f"several modules are named {name!r:.60} in modules.json, of which sentence-transformers keeps the "
                "last alone: give each a name of its own"
            )
        found = [self._row(index, row) for index, row in enumerate(rows)]
        return [entry for entry in found if entry is not None]

    def _row(self, position: int, row: dict[str, Any]) -> ModuleEntry | None:
        entry = self._entry(position, str(row["type"]), str(row.get("path", "")))
        if entry is None:
            return None
        label = _label(position, entry.type_path)
        return replace(entry, keywords=keywords_of(row, entry.type, label, self.reasons))

    def model2vec(self) -> list[ModuleEntry]:
        """What model2vec's config.json means where there is no modules.json."""
        _check_static(self._folder, "")
        entries = [ModuleEntry(0, "StaticEmbedding", "", {})]
        if self._folder.json_object("config.json").get("normalize", False):
            entries.append(ModuleEntry(1, "Normalize", "", {}))
        return entries

    def plain(self) -> list[ModuleEntry]:
        """What sentence-transformers makes of a transformers folder."""
        return _plain_entries(self._folder, self.reasons)

    def _entry(self, position: int, type_path: str, path: str, where: str = "") -> ModuleEntry | None:
        path = "" if path == "." else path
        label = f"{where}{_label(position, type_path)}"
        if registry.is_custom(type_path):
            self._folder.inside(path)
            if self._trusted:
                return ModuleEntry(position, CUSTOM, path, {}, type_path)
            self.reasons.append(f"{label} is code of its own ({type_path}), {_NOT_TRUSTED}")
            return None
        kind, refusal = registry.resolve(type_path)
        if kind is None:
            self.reasons.append(f"{label} {refusal}")
            return None
        home = self._folder.inside(path)
        files = (self._folder.json(_join(path, name)) for name in kind.config_files)
        config: Any = next((found for found in files if found is not None), {})
        if not isinstance(config, dict):
            raise ModelFolderError(f"the configuration in {home} must be a JSON object: copy the model again")
        config = checks.normalized(kind.name, self._completed(kind.name, path, config))
        problems = checks.problems(kind.name, config)
        self.reasons += [f"{label}: {problem}" for problem in problems]
        routes = self._routes(path, config, label) if kind.name == "Router" and not problems else {}
        return ModuleEntry(position, kind.name, path, config, type_path, routes)

    def _completed(self, kind: str, path: str, config: dict[str, Any]) -> dict[str, Any]:
        """Checks the files beside a configuration, and fills in what its generation left unsaid."""
        if kind in ("Transformer", "CLIPModel"):
            _check_network(self._folder, path, self.reasons)
            _check_tokenizer(self._folder, str(config.get("tokenizer_name_or_path") or path), self.reasons)
        if kind == "WordEmbeddings" and str(config.get("tokenizer_class")).endswith("TransformersTokenizerWrapper"):
            _check_tokenizer(self._folder, path, self.reasons)
        if kind == "StaticEmbedding":
            _check_static(self._folder, path)
        if kind == "Transformer":
            # A saved folder without the key predates modalities: plain text, whatever the tokenizer's template.
            return {"modality_config": _TEXT_ONLY, **config}
        if kind == "CLIPModel":
            return {**_CLIP, **config}
        return config

    def _routes(self, path: str, config: dict[str, Any], label: str) -> dict[str, tuple[ModuleEntry, ...]]:
        routes: dict[str, tuple[ModuleEntry, ...]] = {}
        if len(PurePosixPath(path).parts) > _DEEPEST:
            self.reasons.append(f"{label} lies {_DEEPEST} folders deep: Routers within Routers must end somewhere")
            return routes
        for name, ids in config["structure"].items():
            found = [
                self._entry(index, config["types"][key], _join(path, key), f"{label}, route {name}, ")
                for index, key in enumerate(ids)
            ]
            routes[name] = tuple(entry for entry in found if entry is not None)
        return routes


def _label(position: int, type_path: str) -> str:
    return f"module {position} ({type_path.rpartition('.')[2]})"


def _plain_entries(folder: Folder, reasons: list[str]) -> list[ModuleEntry]:
    config = folder.json("config.json")
    if not isinstance(config, dict) or "model_type" not in config:
        raise ModelFolderError(
            f"{folder.root} has neither modules.json nor a transformers config.json: it is not a model folder"
        )
    _check_network(folder, "", reasons)
    _check_tokenizer(folder, "", reasons)
    if config["model_type"] == "clip":
        return [ModuleEntry(0, "CLIPModel", "", dict(_CLIP))]
    if config["model_type"] in ("siglip", "siglip2"):
        return [ModuleEntry(0, "Transformer", "", dict(_CLIP))]
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


def _check_tokenizer(folder: Folder, path: str, reasons: list[str]) -> None:
    home = folder.inside(path)
    kind = folder.json_object(_join(path, "tokenizer_config.json"), finite=False).get("tokenizer_class")
    if kind in _WITHOUT_FILES:
        reasons.append(
            f"its tokenizer ({kind}) reads bytes or characters and has no fast version, tokenizer.json, which the "
            "runtime needs: compile a model whose tokenizer reads words or parts of them"
        )
    elif not any((home / name).is_file() for name in _TOKENIZERS):
        raise ModelFolderError(f"{home} has no tokenizer ({_TOKENIZERS[0]} or the like): copy the model again")


def _check_static(folder: Folder, path: str) -> None:
    home = folder.inside(path)
    for names in (("tokenizer.json",), ("model.safetensors", "pytorch_model.bin")):
        if not any((home / name).is_file() for name in names):
            raise ModelFolderError(f"{home} has no {names[0]}: the model is incomplete, copy it again")


def _check_order(entries: list[ModuleEntry], reasons: list[str]) -> None:
    if not reasons and not (_begins_with_text(entries) and not any(_reads_text(entry) for entry in entries[1:])):
        reasons.append(f"one module must read text, the first of the stack or of every route: {_READERS}")


def _begins_with_text(entries: Sequence[ModuleEntry]) -> bool:
    """Whether the first module of the list, or of every route of its Router, reads text, and no later one."""
    first = entries[0]
    if not first.routes:
        return _reads_text(first)
    routes = first.routes.values()
    return all(_begins_with_text(route) and not any(_reads_text(entry) for entry in route[1:]) for route in routes)


def _reads_text(entry: ModuleEntry) -> bool:
    """Whether a module, or one in a route of it, reads text."""
    inner = [module for route in entry.routes.values() for module in route]
    kind = registry.SUPPORTED.get(entry.type)
    return (kind is not None and kind.reads_text) or any(_reads_text(module) for module in inner)


def _check_kind(settings: dict[str, Any], reasons: list[str]) -> None:
    kind = settings.get("model_type", "SentenceTransformer")
    if kind != "SentenceTransformer":
        reasons.append(f"it is a {kind}, not a SentenceTransformer: stcompile compiles sentence embeddings")


def _prompts(settings: dict[str, Any]) -> dict[str, str]:
    stored = settings.get("prompts") or {}
    if not isinstance(stored, dict) or not all(isinstance(text, (str, type(None))) for text in stored.values()):
        raise ModelFolderError("prompts in config_sentence_transformers.json must map names to texts")
    # sentence-transformers 5.0+ gives every model these two, so that encode_query never uses the default prompt, and
    # takes null for no text.
    return {"query": "", "document": "", **{name: text or "" for name, text in stored.items()}}


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
