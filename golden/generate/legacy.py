"""Rewrites a fresh folder the way older releases wrote it; weights and tokenizer files stay."""

from __future__ import annotations

from typing import Any

import torch
from safetensors.torch import load_file

from golden.generate.builder import FolderBuilder
from golden.generate.files import read_json, write_json

# The boolean of the old Pooling config that stands for each mode.
POOLING_BOOLEANS = {
    "cls": "cls_token",
    "mean": "mean_tokens",
    "max": "max_tokens",
    "mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "weightedmean": "weightedmean_tokens",
    "lasttoken": "lasttoken",
}
DENSE_KEYS = ("in_features", "out_features", "bias", "activation_function")


def old_types(builder: FolderBuilder) -> None:
    """Module paths in the old package `models`, without the class's own file."""

    def change(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            {**entry, "type": "sentence_transformers.models." + entry["type"].rsplit(".", 1)[1]} for entry in entries
        ]

    builder.edit("modules.json", change)


def old_length(
    builder: FolderBuilder, max_seq_length: int | None = 64, do_lower_case: bool = False, **others: Any
) -> None:
    """The sentence_bert_config.json of old: a length, lowercasing, sometimes arguments of the loaders."""
    config = {"max_seq_length": max_seq_length, "do_lower_case": do_lower_case, **others}
    write_json(builder.folder / "sentence_bert_config.json", config)


def old_pooling(builder: FolderBuilder, booleans: dict[str, bool] | None = None) -> None:
    """A Pooling config of booleans: the given ones only, or all six and include_prompt."""

    def change(config: dict[str, Any]) -> dict[str, Any]:
        modes = config["pooling_mode"]
        modes = [modes] if isinstance(modes, str) else modes
        flags = booleans or {name: mode in modes for mode, name in POOLING_BOOLEANS.items()}
        old: dict[str, Any] = {"word_embedding_dimension": config["embedding_dimension"]}
        old.update({"pooling_mode_" + name: flag for name, flag in flags.items()})
        if booleans is None or not config["include_prompt"]:
            old["include_prompt"] = config["include_prompt"]
        return old

    for path in builder.folder.glob("*_Pooling/config.json"):
        builder.edit(str(path.relative_to(builder.folder)), change)


def old_dense(builder: FolderBuilder) -> None:
    """Dense configs without the keys of later releases."""
    for path in builder.folder.glob("*_Dense/config.json"):
        config = read_json(path)
        write_json(path, {key: config[key] for key in DENSE_KEYS})


def into_subfolder(builder: FolderBuilder, name: str) -> None:
    """Move the files of the first module from the root to a folder of their own."""
    subfolder = builder.folder / name
    subfolder.mkdir()
    kept = {"modules.json", "config_sentence_transformers.json"}
    for path in list(builder.folder.iterdir()):
        if path.is_file() and path.name not in kept:
            path.rename(subfolder / path.name)

    def change(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**entries[0], "path": name}, *entries[1:]]

    builder.edit("modules.json", change)


def rename_keys(builder: FolderBuilder, path: str, names: dict[str, str | None]) -> None:
    """Give the keys of a config their old names; None for a key that did not exist."""
    builder.edit(path, lambda config: {names.get(key, key): config[key] for key in config if names.get(key, key)})


def as_v3(
    builder: FolderBuilder,
    *,
    max_seq_length: int | None = 64,
    do_lower_case: bool = False,
    pooling: dict[str, bool] | None = None,
) -> None:
    """The whole folder as release 3 wrote it."""
    old_types(builder)
    old_length(builder, max_seq_length, do_lower_case)
    old_pooling(builder, pooling)
    old_dense(builder)

    def change(config: dict[str, Any]) -> dict[str, Any]:
        return {
            "__version__": {"sentence_transformers": "3.4.1", "transformers": "4.48.0", "pytorch": "2.5.1"},
            "prompts": config["prompts"],
            "default_prompt_name": config["default_prompt_name"],
            "similarity_fn_name": "cosine",
        }

    builder.edit("config_sentence_transformers.json", change)


def to_pickle(builder: FolderBuilder, module: str = "") -> None:
    """Replace a module's model.safetensors by pytorch_model.bin with the same tensors."""
    folder = builder.folder / module
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
