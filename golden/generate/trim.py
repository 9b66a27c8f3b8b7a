"""Keeps what a model folder needs, as every machine would write it."""

from __future__ import annotations

import json
from pathlib import Path

from golden.generate.files import read_json, write_json

# What the libraries note about the place a model was loaded from.
LOCAL_KEYS = {"_name_or_path", "name_or_path", "is_local", "local_files_only"}


def trim(folder: Path) -> None:
    """Drop machine-specific keys and empty folders, which git would not keep; sort sets, pack the tokenizers."""
    for path in sorted(folder.rglob("*config.json")):
        config = read_json(path)
        if not LOCAL_KEYS.isdisjoint(config):
            write_json(path, {key: value for key, value in config.items() if key not in LOCAL_KEYS})
        if "stop_words" in config:
            # Written from a set: in another order by every process.
            write_json(path, {**config, "stop_words": sorted(config["stop_words"])})
    for path in folder.rglob("tokenizer.json"):
        # On one line a list of merges takes less than half the room.
        packed = json.dumps(read_json(path), ensure_ascii=False, separators=(",", ":"))
        path.write_text(packed + "\n", encoding="utf-8")
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
