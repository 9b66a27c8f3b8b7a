"""The folder that optimum's loaders and sentence-transformers' ONNX and OpenVINO backends read: docs/formats.md.

The model's own folder without its network's weights, and in their place

    onnx/model.onnx  or  openvino/openvino_model.xml

whose output `last_hidden_state` these libraries pool by themselves. Our runtime reads `sentence_embedding` of it.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from stcompile.artifact.manifest import ENCODER, MANIFEST_NAME, NO_PADDING, SENTENCE, TOKENS, GraphSpec
from stcompile.artifact.report import REPORT_NAME
from stcompile.artifact.self_test import SELF_TEST_NAME
from stcompile.compiler.kinds.adapter import is_adapter
from stcompile.compiler.kinds.base import ModuleEntry
from stcompile.compiler.kinds.folder import Folder
from stcompile.compiler.kinds.network_graphs import NETWORK_INDICES
from stcompile.compiler.layouts.base import Shape, refused
from stcompile.compiler.modules.graph_file import INPUTS
from stcompile.compiler.stack.source import ModelSource

ADDS = {TOKENS: "last_hidden_state"}

# A tokenizer of theirs is the model's own file; ours is what transformers makes of it.
TOKENIZER = "stcompile_{}"

# What they look for first. Another name they would not find, and export the model anew, in float32.
_ONNX, _OPENVINO = "onnx/model.onnx", "openvino/openvino_model.xml"

# What of a model's folder settings and tokenizers are in; a network's weights are in none.
_SETTINGS = ("*.json", "*.txt", "*.model", "*.spm", "*.jinja")

_OURS = (MANIFEST_NAME, REPORT_NAME, SELF_TEST_NAME)
_MODULES, _TOKENIZER_CONFIG = "modules.json", "tokenizer_config.json"


def reasons_against(shape: Shape, source: ModelSource) -> list[str]:
    """See `Layout`."""
    text = shape.text
    several = f"this model has {shape.graphs} graphs and reads texts in {shape.routes} ways, and they read one in one"
    found = [
        (shape.kind != ENCODER, f"this is a {shape.kind}, and it is for encoders of one vector a text"),
        (shape.graphs > 1 or shape.routes > 1, several),
        (not {SENTENCE, TOKENS}.issuperset(shape.outputs), "what the graph makes besides vectors they do not know"),
        (shape.packed, "packed graphs run on GPUs alone"),
        (
            not shape.pools_hidden,
            "they run a transformers network and pool its last hidden state, and this model pools something else",
        ),
        (not set(INPUTS).issuperset(shape.inputs), "the graph takes more than token ids, a mask and types"),
        (text.kind == "transformer" and text.chat is not None, "the model has a chat template, and they leave it out"),
        (shape.padding == NO_PADDING, "vectors depend on padding, and they pad texts that share a batch"),
    ]
    reasons = [reason for holds, reason in found if holds]
    with source.as_it_is() as (folder, _):
        home = source.described(folder).entries[0].path
        model = Folder(folder, source.follow_links)
        if home:
            reasons.append(f"its network is in {home}, and they look for it in the model's folder")
        elif is_adapter(model, home):
            reasons.append("its network is an adapter of another, whose folder they would look for: save them merged")
        elif "auto_map" in model.json_object("config.json", finite=False):
            reasons.append("its network is code of its own, and they know those of transformers")
    return [refused("optimum", reason) for reason in reasons]


def arrange(folder: Path, graph: GraphSpec, shape: Shape, source: ModelSource) -> GraphSpec:
    """See `Layout`."""
    place = Path(_OPENVINO if shape.target.is_openvino else _ONNX)
    (folder / place.parent).mkdir()
    (folder / graph.file).rename(folder / place)
    beside = graph.external_data
    if beside is not None:
        # An ONNX graph names the file; OpenVINO looks for one of the graph's own name.
        name = place.with_suffix(".bin").name if shape.target.is_openvino else beside
        (folder / beside).rename(folder / place.parent / name)
        beside = (place.parent / name).as_posix()
    _copy_settings(source, folder)
    return dataclasses.replace(graph, file=place.as_posix(), external_data=beside)


def _copy_settings(source: ModelSource, into: Path) -> None:
    """All that they read of a model but its network: settings, its tokenizer's files, and the modules behind it."""
    with source.as_it_is() as (folder, _):
        for file in sorted(folder.iterdir()):
            is_setting = any(fnmatch(file.name, pattern) for pattern in _SETTINGS)
            # Of a folder that is an artifact itself, nothing that ours has or will have.
            is_ours = file.name in _OURS or (into / file.name).exists()
            if is_setting and not is_ours and file.name not in NETWORK_INDICES and file.is_file():
                shutil.copyfile(file, into / file.name)
        _spell_tokenizer(into / _TOKENIZER_CONFIG)
        entries = source.described(folder).entries
        if (folder / _MODULES).is_file():
            (into / _MODULES).write_text(json.dumps(_spelled_for_all(folder / _MODULES, entries), indent=2) + "\n")
        for entry in entries:
            # Modules without settings often have no folder.
            if entry.path and (folder / entry.path).is_dir():
                shutil.copytree(folder / entry.path, into / entry.path)


def _spell_tokenizer(file: Path) -> None:
    """Calls a tokenizer's class as transformers 4 and 5 both do: what 5 calls it 4 does not know."""
    settings = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if settings.get("tokenizer_class") == "TokenizersBackend":
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
        file.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _spelled_for_all(modules: Path, entries: Sequence[ModuleEntry]) -> list[dict[str, Any]]:
    """The rows of modules.json, with names of classes that every release of sentence-transformers knows."""
    rows: list[dict[str, Any]] = json.loads(modules.read_text(encoding="utf-8"))
    names = [entry.type_path if entry.kind.is_custom else entry.kind.type_paths[0] for entry in entries]
    # bge-m3 has heads besides, which no row names.
    return [{**row, "type": name} for row, name in zip(rows, names[: len(rows)], strict=True)]
