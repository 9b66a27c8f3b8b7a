"""`ModuleStack` to a model folder that sentence-transformers loads."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

from stcompile import __version__
from stcompile.artifact.manifest import ENCODER
from stcompile.compiler.modules import Module
from stcompile.compiler.stack.module_stack import ModuleStack
from stcompile.errors import InputError
from stcompile.runtime.arguments import local_path


def save_stack(stack: ModuleStack, folder: str | Path) -> None:
    """Writes a stack in the layout of sentence-transformers: what reads text in the root, the rest beside it.

    The configurations use today's keys; modules.json names the old type paths, which every release still reads.

    Raises:
        InputError: it is a reranker.
    """
    if stack.kind != ENCODER:
        raise InputError(f"{stack.name} is a {stack.kind}, which only sentence-transformers writes: save it there")
    root = local_path(folder)
    root.mkdir(parents=True, exist_ok=True)
    rows = []
    for index, block in enumerate(stack.blocks):
        assert isinstance(block, Module)
        path = "" if index == 0 and block.save_in_root else f"{index}_{type(block).__name__}"
        block.save(root / path)
        kwargs = {"kwargs": list(block.keywords)} if block.keywords else {}
        rows.append({"idx": index, "name": str(index), "path": path, "type": block.type_path, **kwargs})
    settings = {
        "__version__": {
            "stcompile": __version__,
            "transformers": version("transformers"),
            "pytorch": version("torch"),
        },
        "prompts": stack.prompts,
        "default_prompt_name": stack.default_prompt_name,
        "similarity_fn_name": stack.similarity,
        "model_type": "SentenceTransformer",
        **({} if stack.truncate_dim is None else {"truncate_dim": stack.truncate_dim}),
    }
    _write_json(root / "modules.json", rows)
    _write_json(root / "config_sentence_transformers.json", settings)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False), encoding="utf-8")
