"""Networks whose weights are in an ONNX or OpenVINO graph alone: which file of a model folder it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from stcompile.compiler.kinds.folder import Folder, join
from stcompile.errors import ModelFolderError

NETWORK_INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
NETWORK_WEIGHTS = ("model.safetensors", "pytorch_model.bin", *NETWORK_INDICES)

# Where optimum, sentence-transformers and transformers put graphs; OpenVINO has tokenizers in such files, too.
_PLACES = {"onnx": ("*.onnx",), "openvino": ("openvino_model*.xml",), "": ("*.onnx", "openvino_model*.xml")}

# What the one is called that all others are made of.
_USUAL = ("model.onnx", "openvino_model.xml")


def graphs_in(folder: Folder, path: str) -> list[str]:
    """The ONNX and OpenVINO files of a network, relative to its folder, the usual one first.

    Args:
        folder: the model.
        path: the network's folder in it.
    """
    home = folder.inside(path)
    found = [
        join(place, file.name)
        for place, patterns in _PLACES.items()
        for pattern in patterns
        for file in sorted((home / place).glob(pattern), key=lambda file: file.name)
    ]
    # The usual ones first, that of ONNX before that of OpenVINO.
    found.sort(key=lambda name: _USUAL.index(Path(name).name) if Path(name).name in _USUAL else len(_USUAL))
    return [name for name in found if folder.inside(join(path, name)).is_file()]


def networks_read_from_graphs(folder: Folder, file: str | None) -> Iterator[tuple[str, str]]:
    """Of each network that is read from a graph its folder in the model, and the file, relative to that.

    Args:
        folder: the model.
        file: which one was asked for, which is taken also where there are other weights; None takes the usual one, and
            of a network with weights none.

    Raises:
        ModelFolderError: it is not there, or no network is; there are several of which none is the usual one.
    """
    has_network = False
    # transformers' exporter puts a config.json beside the graph, too.
    for path in ["", *sorted(one.name for one in folder.root.iterdir() if one.is_dir() and one.name not in _PLACES)]:
        found = graphs_in(folder, path)
        # A folder with weights is left to whoever reads those, and so is what is wrong with it.
        if file is None and (not found or _has_weights(folder, path)):
            continue
        if "model_type" in folder.json_object(join(path, "config.json"), finite=False):
            has_network = True
            yield path, _chosen(found, folder.inside(path), file)
    if file is not None and not has_network:
        raise ModelFolderError(f"{folder.root} has no network that {file} could be of: leave --file out")


def _chosen(found: list[str], home: Path, file: str | None) -> str:
    if file is not None:
        name = PurePosixPath(file).as_posix()
        if name not in found:
            there = f"it has {', '.join(found)}" if found else "it has no ONNX or OpenVINO file"
            raise ModelFolderError(f"{home} has no {file}: {there}")
        return name
    if PurePosixPath(found[0]).name not in _USUAL and len(found) > 1:
        raise ModelFolderError(f"{home} has no weights but {', '.join(found)}: name one with --file")
    return found[0]


def _has_weights(folder: Folder, path: str) -> bool:
    return any((folder.inside(path) / name).is_file() for name in NETWORK_WEIGHTS)
