"""A network that is a graph of somebody else's, kept as it is and run by its own engine."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PretrainedConfig
from transformers.modeling_outputs import ModelOutput

from stcompile.artifact.manifest import SENTENCE
from stcompile.compiler.modules.graph_file import HIDDEN, graph_file, output_taken
from stcompile.errors import UnsupportedError, one_line


class GraphNetwork(nn.Module):
    """Runs a graph in the place of a transformers network.

    Args:
        home: the folder with its config.json.
        file: the graph in it, an ONNX file.
        config: what config.json says.

    Attributes:
        config: as above.
        path: the graph's file.
        output: the name of the output that is taken.
        pools: whether that is one vector a text, not one a token.
        width: of its vectors.

    Raises:
        ModelFolderError: the graph cannot be read.
        UnsupportedError: it takes or gives something else than a text's tokens and their vectors.
    """

    def __init__(self, home: Path, file: str, config: PretrainedConfig) -> None:
        super().__init__()
        self.config = config
        self.path = home / file
        if self.path.suffix != ".onnx":
            raise UnsupportedError(f"{home.name}/{file}", "it is kept as it is, which is done with ONNX graphs alone")
        graph = graph_file(self.path)
        self._running = graph.open()
        self.output = output_taken(f"{home.name}/{file}", graph, self._running, (*HIDDEN, SENTENCE), "kept")
        self.pools = self.output == SENTENCE
        # Its weights, as far as anybody who compares models is concerned.
        self.content = nn.Parameter(_digest_of(graph.files), requires_grad=False)
        try:
            self.width = self._made(*(torch.ones(1, 2, dtype=torch.int64) for _ in range(2))).shape[-1]
        except Exception as error:  # the engine's own
            raise UnsupportedError(
                f"{home.name}/{file}",
                f"the graph fails on two ids and a mask ({one_line(error, 200)}): name another file with --file",
            ) from error

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **others: Any) -> ModelOutput:
        """As a transformers network: `(batch, sequence, hidden)` as `last_hidden_state`, or `(batch, dim)` as
        `pooler_output` where the graph has pooled.
        """
        made = self._made(input_ids, attention_mask, others.get("token_type_ids"))
        return ModelOutput({"pooler_output" if self.pools else "last_hidden_state": made})

    def _made(self, ids: Tensor, mask: Tensor, types: Tensor | None = None) -> Tensor:
        given = {
            "input_ids": ids,
            "attention_mask": mask,
            "token_type_ids": torch.zeros_like(ids) if types is None else types,
        }
        feeds = {name: given[name].numpy().astype(np.int64, copy=False) for name in self._running.inputs}
        return torch.from_numpy(self._running.run(self.output, feeds))


def _digest_of(files: Sequence[Path]) -> Tensor:
    """sha256 of files, one behind the other, as 32 numbers."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            hashlib.file_digest(stream, lambda: digest)
    return torch.tensor(list(digest.digest()), dtype=torch.uint8)
