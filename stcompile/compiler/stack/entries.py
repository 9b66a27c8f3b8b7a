"""The modules of a model folder, as it lists them or as a folder without modules.json means them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from stcompile.compiler.kinds import (
    clip_model,
    custom,
    normalize,
    pooling,
    registry,
    splade_pooling,
    static_embedding,
    transformer,
)
from stcompile.compiler.kinds.adapter import is_adapter
from stcompile.compiler.kinds.base import ModuleEntry
from stcompile.compiler.kinds.folder import Folder, join
from stcompile.compiler.kinds.network_files import network_problems, tokenizer_problems
from stcompile.compiler.kinds.transformer import CLASSIFIES, FILLS
from stcompile.compiler.stack.keywords import keywords_of
from stcompile.errors import ModelFolderError

# Routers within Routers; a folder that links to itself has no end.
_DEEPEST = 8

_NOT_TRUSTED = "which runs only when it is trusted: pass --trust-remote-code (trust_remote_code=True) if you do"


class EntryReader:
    """Reads the modules of a folder; those whose code comes with the model only if it is trusted.

    Attributes:
        reasons: everything found that cannot be compiled, each with its remedy.
    """

    def __init__(self, folder: Folder, trust_remote_code: bool) -> None:
        self._folder = folder
        self._trusted = trust_remote_code
        self.reasons: list[str] = []

    def listed(self, rows: Any) -> list[ModuleEntry]:
        """What modules.json lists.

        Raises:
            ModelFolderError: it is no list of modules, or files of a module are missing or malformed.
        """
        if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) and "type" in row for row in rows):
            raise ModelFolderError(
                f"{self._folder.root / 'modules.json'} must be a list of modules: copy the model again"
            )
        names = [row["name"] for row in rows if isinstance(row.get("name"), str)]
        for name in dict.fromkeys(name for name in names if names.count(name) > 1):
            self.reasons.append(
                f"several modules are named {name!r:.60} in modules.json, of which sentence-transformers keeps the "
                "last alone: give each a name of its own"
            )
        found = [self._of_row(index, row) for index, row in enumerate(rows)]
        return [entry for entry in found if entry is not None]

    def of_model2vec(self) -> list[ModuleEntry]:
        """What model2vec's config.json means where there is no modules.json.

        Raises:
            ModelFolderError: files are missing.
        """
        self.reasons += static_embedding.file_problems(self._folder, "", {})
        entries = [ModuleEntry(0, static_embedding.KIND, "", {})]
        if self._folder.json_object("config.json").get("normalize", False):
            entries.append(ModuleEntry(1, normalize.KIND, "", {}))
        return entries

    def of_plain_folder(self) -> list[ModuleEntry]:
        """What sentence-transformers makes of a transformers folder.

        Raises:
            ModelFolderError: it is none, or files are missing.
        """
        if is_adapter(self._folder, ""):
            self.reasons.append(
                "it is an adapter alone, and how its vectors are pooled stands with its base: load it with "
                "SentenceTransformer and save that"
            )
            return []
        config = self._folder.json("config.json")
        if not isinstance(config, dict) or "model_type" not in config:
            raise ModelFolderError(
                f"{self._folder.root} has neither modules.json nor a transformers config.json: it is not a model folder"
            )
        self.reasons += [*network_problems(self._folder, ""), *tokenizer_problems(self._folder, "")]
        if config["model_type"] == "clip":
            return [ModuleEntry(0, clip_model.KIND, "", dict(clip_model.CLIP_CONFIG))]
        if config["model_type"] in ("siglip", "siglip2"):
            return [ModuleEntry(0, transformer.KIND, "", dict(clip_model.CLIP_CONFIG))]
        architectures = config.get("architectures") or [""]
        architecture = str(architectures[0] if isinstance(architectures, list) else architectures)
        causal = architecture.endswith("ForCausalLM") and config.get("is_causal", True) is not False
        pooled = {"pooling_mode": "lasttoken" if causal else "mean", "include_prompt": True}
        return [ModuleEntry(0, transformer.KIND, "", {}), ModuleEntry(1, pooling.KIND, "", pooled)]

    def of_plain_sparse(self) -> list[ModuleEntry]:
        """What sentence-transformers' SparseEncoder makes of a transformers folder that was trained to fill masks.

        Raises:
            ModelFolderError: files are missing.
        """
        self.reasons += [*network_problems(self._folder, ""), *tokenizer_problems(self._folder, "")]
        names = self._folder.json_object("config.json", finite=False).get("architectures")
        if not isinstance(names, list) or not any(str(name).endswith("ForMaskedLM") for name in names):
            self.reasons.append(
                "its network fills no masks (architectures in config.json names no ...ForMaskedLM): "
                "sentence-transformers would make a sparse encoder with random weights of it; leave --sparse "
                "(sparse=True) out"
            )
        return [
            ModuleEntry(0, transformer.KIND, "", {"transformer_task": FILLS}),
            ModuleEntry(1, splade_pooling.KIND, "", {"pooling_strategy": "max"}),
        ]

    def of_plain_reranker(self) -> list[ModuleEntry]:
        """What sentence-transformers' CrossEncoder makes of a transformers folder whose network classifies.

        Raises:
            ModelFolderError: files are missing.
        """
        self.reasons += [*network_problems(self._folder, ""), *tokenizer_problems(self._folder, "")]
        # Without a modality_config: pairs go through the tokenizer's chat template, where it has one.
        return [ModuleEntry(0, transformer.KIND, "", {"transformer_task": CLASSIFIES})]

    def _of_row(self, position: int, row: dict[str, Any]) -> ModuleEntry | None:
        entry = self._entry(position, str(row["type"]), str(row.get("path", "")))
        if entry is None:
            return None
        label = _module_label(position, entry.type_path)
        return replace(entry, keywords=keywords_of(row, entry.kind, label, self.reasons))

    def _entry(self, position: int, type_path: str, path: str, where: str = "") -> ModuleEntry | None:
        path = "" if path == "." else path
        label = f"{where}{_module_label(position, type_path)}"
        if registry.is_custom(type_path):
            self._folder.inside(path)
            if self._trusted:
                return ModuleEntry(position, custom.KIND, path, {}, type_path)
            self.reasons.append(f"{label} is code of its own ({type_path}), {_NOT_TRUSTED}")
            return None
        kind, refusal = registry.resolve(type_path)
        if kind is None:
            self.reasons.append(f"{label} {refusal}")
            return None
        home = self._folder.inside(path)
        files = (self._folder.json(join(path, name)) for name in kind.config_files)
        stored: Any = next((found for found in files if found is not None), {})
        if not isinstance(stored, dict):
            raise ModelFolderError(f"the configuration in {home} must be a JSON object: copy the model again")
        self.reasons += kind.file_problems(self._folder, path, stored)
        config = kind.normalized(stored)
        problems = list(kind.problems(config))
        self.reasons += [f"{label}: {problem}" for problem in problems]
        routes = {} if problems else self._routes(path, kind.routes(config), label)
        return ModuleEntry(position, kind, path, config, type_path, routes)

    def _routes(
        self, path: str, listed: Mapping[str, Sequence[tuple[str, str]]], label: str
    ) -> dict[str, tuple[ModuleEntry, ...]]:
        if listed and len(PurePosixPath(path).parts) > _DEEPEST:
            self.reasons.append(f"{label} lies {_DEEPEST} folders deep: Routers within Routers must end somewhere")
            return {}
        routes = {}
        for name, modules in listed.items():
            found = [
                self._entry(index, type_path, join(path, key), f"{label}, route {name}, ")
                for index, (key, type_path) in enumerate(modules)
            ]
            routes[name] = tuple(entry for entry in found if entry is not None)
        return routes


def _module_label(position: int, type_path: str) -> str:
    return f"module {position} ({type_path.rpartition('.')[2]})"
