"""sentence-transformers with a graph of somebody else's as its network: what is believed where that is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from stcompile.artifact.manifest import SENTENCE, TOKENS
from stcompile.compiler.modules.backbone import load_config
from stcompile.compiler.modules.graph_file import INPUTS
from stcompile.compiler.modules.graph_network import GraphNetwork
from stcompile.compiler.modules.graph_weights import copy_without_network, empty_network


def write_loadable(folder: Path, graphs: dict[str, str], destination: Path) -> None:
    """Copies a model folder with a network of zeros: sentence-transformers loads none without weights.

    Args:
        folder: the model.
        graphs: of each network's folder in it the file in that.
        destination: an empty folder.
    """
    copy_without_network(folder, graphs, destination)
    for path in graphs:
        network = empty_network(folder / path, set())
        state = {name: torch.zeros(value.shape) for name, value in network.state_dict().items()}
        save_file(state, destination / path / "model.safetensors", metadata={"format": "pt"})


def with_graph(kind: Any, model: Any, home: Path, file: str) -> Any:
    """A loaded model whose first module hands its token ids to a graph.

    Args:
        kind: the class of sentence-transformers.
        model: what `write_loadable` wrote, loaded.
        home: the network's own folder.
        file: the graph in it.

    Returns:
        the model; of a graph that has pooled its first module alone.
    """
    network = GraphNetwork(home, file, load_config(str(home), trust_remote_code=False))
    first = model[0]

    def forward(features: dict[str, Any], **_: Any) -> dict[str, Any]:
        given = {name: features[name] for name in INPUTS if name in features}
        (vectors,) = network(**given).values()
        return {**features, (SENTENCE if network.pools else TOKENS): vectors}

    first.forward = forward
    return kind(modules=[first], device="cpu") if network.pools else model
