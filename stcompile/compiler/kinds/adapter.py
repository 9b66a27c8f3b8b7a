"""An adapter in place of a network: which base it belongs to, as PEFT writes it in adapter_config.json."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stcompile.compiler.kinds.folder import Folder, join
from stcompile.errors import ModelFolderError

FILE = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")

# What is added to weights of the base, and can be added to them once: prompts cannot.
_MERGED = ("LORA", "LOHA", "LOKR", "OFT", "BOFT", "VERA", "FOURIERFT", "HRA")


def is_adapter(folder: Folder, path: str) -> bool:
    """Whether the network in a folder of a model is an adapter of another one."""
    return folder.json(join(path, FILE)) is not None


def base_named(config: Any, file: Path) -> str:
    """The hub id or path of the base, out of what a file holds. Raises `ModelFolderError` where it does not say."""
    base = config.get("base_model_name_or_path") if isinstance(config, dict) else None
    if not isinstance(base, str) or not base:
        raise ModelFolderError(f"{file} does not name its base in base_model_name_or_path: write it there")
    return base


def adapter_problems(folder: Folder, path: str) -> Iterator[str]:
    """What cannot be compiled of an adapter, by its files.

    Its base is named by a hub id or a path. A path that leads out of the model's folder is followed where links are.

    Args:
        folder: the model.
        path: the adapter's folder in it.

    Raises:
        ModelFolderError: files are missing, or say something else than PEFT writes.
    """
    home = folder.inside(path)
    config = folder.json_object(join(path, FILE))
    kind, base = config.get("peft_type"), base_named(config, home / FILE)
    if kind not in _MERGED:
        yield (
            f"its adapter is of type {kind}, which is not one of those that stcompile adds to the weights of "
            f"their base ({', '.join(_MERGED)}): merge it yourself (merge_and_unload) and save that"
        )
    elif not any((home / name).is_file() for name in WEIGHTS):
        raise ModelFolderError(f"{home} has no weights ({WEIGHTS[0]}): copy the adapter again")
    if Path(base).exists() and not folder.follow_links and not Path(base).resolve().is_relative_to(folder.home):
        yield (
            f"its adapter belongs to a base outside the folder, {base}: pass --follow-links (follow_links=True) if you "
            "trust what lies there"
        )
