"""Weights of a transformers network, read out of the ONNX or OpenVINO graph that somebody exported it to.

Exporters keep the names of most parameters. The weights of linear layers are turned on the way, and lose theirs: their
place in the network stands in the name of the node that reads them, or in what torch's exporter wrote beside it
(`onnx_file.py`, `openvino_file.py`). That what is read is the network that was exported is proved by running both.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import AutoModel, AutoModelForSequenceClassification

from stcompile.compiler.kinds.transformer import classifies
from stcompile.compiler.modules.backbone import load_config, quiet_transformers
from stcompile.compiler.modules.graph_file import HIDDEN, GraphFile, graph_file, output_taken
from stcompile.errors import ModelFolderError, UnsupportedError, one_line

# Largest difference of a component between the network that is made of the weights and the graph in its engine, in
# proportion to the largest component. Measured on seven networks by two exporters: at most 7e-7.
SAME = 1e-5

# The same of a graph in float16, which ONNX Runtime computes in float16 and the network in float32. Measured: 1.2e-3.
SAME_HALF = 5e-3

# What a copy does without: files of graphs, and a network's own weights where those of a graph take their place.
_GRAPHS = ("*.onnx", "*.onnx.data", "*.onnx_data*", "onnx", "openvino", "openvino_*", ".git", ".cache")
_WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*")

# Operators that an optimizer makes of several layers, whose weights then are one.
_MERGED = {"Attention", "MultiHeadAttention", "PackedAttention", "GroupQueryAttention", "EmbedLayerNormalization"}

_OUTPUTS = (*HIDDEN, "logits")


State = dict[str, torch.Tensor]


def write_with_weights(
    source: Path, graphs: Mapping[str, str], destination: Path, state_of: Callable[[Path, str], State] | None = None
) -> None:
    """Copies a model folder, with weights in the place of graphs.

    Args:
        source: the folder.
        graphs: of each network's folder in it the file in that.
        destination: an empty folder.
        state_of: a network's folder and its graph to the weights; None takes those of the graph.

    Raises:
        UnsupportedError: a graph's weights are rounded or merged, or are not those of its network.
        ModelFolderError: a graph cannot be read.
    """
    homes = [os.fspath(source / path) for path in graphs]

    def left_out(folder: str, names: list[str]) -> set[str]:
        patterns = (*_GRAPHS, *(_WEIGHTS if folder.rstrip(os.sep) in homes else ()))
        return {name for name in names if any(fnmatch(name, pattern) for pattern in patterns)}

    shutil.copytree(source, destination, ignore=left_out, dirs_exist_ok=True)
    for path, file in graphs.items():
        state = (state_of or weights_of)(source / path, file)
        save_file(state, destination / path / "model.safetensors", metadata={"format": "pt"})


def weights_of(home: Path, file: str) -> State:
    """The parameters of a network by their names, from its graph; errors as of `write_with_weights`.

    Args:
        home: the network's folder, with its config.json.
        file: the graph in it.
    """
    graph = graph_file(home / file)
    if graph.rounded:
        raise UnsupportedError(
            f"{home.name}/{file}",
            f"its weights were rounded ({', '.join(graph.rounded)}), and rounding them again would add to that: name a "
            "file in float32 with --file, or compile the model's own weights",
        )
    network = empty_network(home, set(graph.outputs))
    try:
        found = dict(graph.arrays())
    except (OSError, ValueError) as error:
        raise ModelFolderError(
            f"{home / file} keeps its weights in files beside it, of which one cannot be read ({one_line(error)}): "
            "copy the model again, all files of its folder"
        ) from error
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    prefix = _prefix(found, wanted)
    state = {}
    for name, shape in wanted.items():
        values = found.get(prefix + name)
        if values is not None and values.shape == shape:
            state[name] = torch.from_numpy(np.array(values, order="C"))
    missing = sorted(name for name, _ in network.named_parameters() if name not in state and "pooler" not in name)
    missing = [name for name in missing if not _is_tied(network, name, state)]
    if missing:
        merged = sorted(graph.operators & _MERGED)
        why = f", because an optimizer made {', '.join(merged)} of several layers" if merged else ""
        raise UnsupportedError(
            f"{home.name}/{file}",
            f"{missing[0]} and {len(missing) - 1} more weights of its network are not in the graph by themselves{why}: "
            "name a file that was exported without optimizations with --file, or compile the model's own weights",
        )
    _check_same(network, state, graph, home, file)
    return state


def _prefix(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """What stands in front of all names, such as `0.auto_model.`: the network was part of something when exported."""
    first = next(iter(wanted))
    candidates = ["", *(name[: -len(first)] for name in found if name.endswith(f".{first}"))]
    return max(candidates, key=lambda prefix: sum(prefix + name in found for name in wanted))


def empty_network(home: Path, outputs: set[str]) -> Any:
    """The network of a config.json, without memory for its weights."""
    with quiet_transformers():
        config = load_config(str(home), trust_remote_code=False)
        stored = json.loads((home / "config.json").read_text(encoding="utf-8"))
        kind: Any = AutoModelForSequenceClassification if "logits" in outputs and classifies(stored) else AutoModel
        try:
            with torch.device("meta"):
                return kind.from_config(config, attn_implementation="eager").eval()
        except Exception as error:  # of any architecture, of whatever its configuration says
            reason = f"its config.json describes no network that transformers can make ({one_line(error, 200)})"
            raise UnsupportedError(home.name, f"{reason}: copy the model again") from error


def _is_tied(network: Any, name: str, state: Mapping[str, torch.Tensor]) -> bool:
    """Whether a parameter is another one by a second name, which is there."""
    own = network.get_parameter(name)
    return any(value is own and other in state for other, value in network.named_parameters(remove_duplicate=False))


def _check_same(network: Any, state: Mapping[str, torch.Tensor], graph: GraphFile, home: Path, file: str) -> None:
    """Whether the network with these weights computes what the graph does in its own engine.

    Raises:
        UnsupportedError: it does not.
    """
    running = graph.open()
    output = output_taken(f"{home.name}/{file}", graph, running, _OUTPUTS, "read here")
    feeds = _inputs(network.config, running.inputs)
    try:
        with quiet_transformers(), torch.inference_mode():
            # Made once more, for tables of angles and what else is no parameter, which the network computes by itself.
            full = type(network)(network.config).eval()
            full.load_state_dict(dict(state), strict=False)
            result = full(**{name: torch.from_numpy(array) for name, array in feeds.items()}, return_dict=True)
        ours = result["logits" if output == "logits" else "last_hidden_state"].float().numpy()
        theirs = running.run(output, feeds)
    except Exception as error:  # of any architecture, and of the engine
        raise UnsupportedError(
            f"{home.name}/{file}",
            f"the graph, or the network of config.json, fails on ids and a mask ({one_line(error, 200)}): compile the "
            "model's own weights, or name another file with --file",
        ) from error
    if output != "logits":
        seen = feeds["attention_mask"] > 0
        ours, theirs = ours[seen], theirs[seen]
    apart = float(np.abs(ours - theirs).max() / np.abs(ours).max()) if ours.shape == theirs.shape else np.inf
    allowed = SAME_HALF if graph.is_half else SAME
    if not apart <= allowed:
        raise UnsupportedError(
            f"{home.name}/{file}",
            "the network that config.json describes, with the weights of the graph, gives other numbers than the graph "
            f"does in {graph.engine} ({apart:.1e} of the largest; allowed {allowed:g}): its config.json is another "
            "model's, or an optimizer changed the graph, such as a mask that became a length; compile the model's own "
            "weights, or name another file with --file",
        )


def _inputs(config: Any, names: list[str]) -> dict[str, Any]:
    """Rows of several lengths, padded on the right and on the left."""
    draw = np.random.default_rng(0)
    size = min(int(config.vocab_size), 20_000)
    ids = draw.integers(5, size, (4, 12), dtype=np.int64)
    mask = np.ones_like(ids)
    mask[1, 9:] = 0
    mask[2, :3] = 0
    mask[3, 1:] = 0
    made = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    return {name: made[name] for name in names}
