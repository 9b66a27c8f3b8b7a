"""sentence-transformers with a graph of somebody else's as its network: what is believed where that is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from stcompile.artifact.manifest import SENTENCE, TOKENS
from stcompile.compiler.modules.backbone import load_config
from stcompile.compiler.modules.graph_file import INPUTS
from stcompile.compiler.modules.graph_network import GraphNetwork
from stcompile.compiler.modules.graph_weights import State, empty_network


def zeros_of(home: Path, _: str) -> State:
    """Weights of the network of a folder that say nothing: sentence-transformers loads none without."""
    return {name: torch.zeros(value.shape) for name, value in empty_network(home, set()).state_dict().items()}


def with_graph(kind: Any, model: Any, home: Path, file: str) -> Any:
    """A loaded model whose first module hands its token ids to a graph.

    Args:
        kind: the class of sentence-transformers.
        model: a folder with `zeros_of` in the place of the graph, loaded.
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
