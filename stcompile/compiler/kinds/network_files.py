"""The files of a transformers network and of its tokenizer: what must be there, and what cannot be compiled."""

from __future__ import annotations

from collections.abc import Iterator

from stcompile.compiler.kinds.adapter import adapter_problems, is_adapter
from stcompile.compiler.kinds.folder import Folder, join
from stcompile.compiler.kinds.network_graphs import NETWORK_INDICES, NETWORK_WEIGHTS, graphs_in
from stcompile.errors import ModelFolderError

# Any of these is a tokenizer; without one, transformers 5 makes up an empty vocabulary and says nothing.
_TOKENIZERS = (
    *("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model", "spm.model"),
    "sentencepiece.bpe.model",
)

# Tokenizers of bytes or characters, which need no file and have no fast version.
_WITHOUT_FILES = ("ByT5Tokenizer", "CanineTokenizer", "PerceiverTokenizer")


def network_problems(folder: Folder, path: str) -> Iterator[str]:
    """What cannot be compiled of a network, by its files.

    Args:
        folder: the model.
        path: the network's folder in it.

    Raises:
        ModelFolderError: files are missing.
    """
    home = folder.inside(path)
    if is_adapter(folder, path):
        yield from adapter_problems(folder, path)
        return
    if not (home / "config.json").is_file():
        raise ModelFolderError(f"{home} has no config.json: the model is incomplete, copy it again")
    if not any((home / name).is_file() for name in NETWORK_WEIGHTS) and not graphs_in(folder, path):
        raise ModelFolderError(f"{home} has no weights ({NETWORK_WEIGHTS[0]} or the like): copy the model again")
    for index in NETWORK_INDICES:
        weights = folder.json_object(join(path, index)).get("weight_map") or {}
        if not isinstance(weights, dict) or not all(isinstance(name, str) for name in weights.values()):
            raise ModelFolderError(f"{home / index} must map weights to files: copy the model again")
        absent = sorted(name for name in set(weights.values()) if not folder.inside(join(path, name)).is_file())
        if absent and not (home / "model.safetensors").is_file():
            raise ModelFolderError(
                f"{home} lacks the weights {', '.join(absent)}: the model is incomplete, copy it again"
            )


def tokenizer_problems(folder: Folder, path: str) -> Iterator[str]:
    """What cannot be compiled of a tokenizer, by its files. Arguments and errors as `network_problems`."""
    home = folder.inside(path)
    kind = folder.json_object(join(path, "tokenizer_config.json"), finite=False).get("tokenizer_class")
    if kind in _WITHOUT_FILES:
        yield (
            f"its tokenizer ({kind}) reads bytes or characters and has no fast version, tokenizer.json, which the "
            "runtime needs: compile a model whose tokenizer reads words or parts of them"
        )
    elif not any((home / name).is_file() for name in _TOKENIZERS):
        raise ModelFolderError(f"{home} has no tokenizer ({_TOKENIZERS[0]} or the like): copy the model again")
