"""What a layout is asked about a model, and what it does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import onnx_ir as ir

from stcompile.artifact.manifest import GraphSpec, TextSpec
from stcompile.artifact.target import Target
from stcompile.compiler.stack.source import ModelSource


@dataclass(frozen=True)
class Shape:
    """What of an artifact decides whether another library can read it.

    Attributes:
        name: what the model is called in an error.
        target: that it is compiled for.
        kind: of the artifact.
        text: how its first graph reads text.
        inputs: names of that graph's inputs.
        graphs: how many graphs it has, that of images among them.
        routes: how many routes, of which several may share a graph.
        outputs: what the graph makes.
        padding: as of the manifest.
        truncates: whether vectors are cut behind the graph.
        has_default_prompt: whether plain `encode` puts a prompt in front.
        packed: whether padding is left out of the network.
        pools_hidden: whether what pooling reads is the network's last hidden state as it is.
    """

    name: str
    target: Target
    kind: str
    text: TextSpec
    inputs: tuple[str, ...]
    graphs: int
    routes: int
    outputs: tuple[str, ...]
    padding: str
    truncates: bool = False
    has_default_prompt: bool = False
    packed: bool = False
    pools_hidden: bool = True


class Layout(Protocol):
    """What a file of this package is: one library's folder.

    Attributes:
        ADDS: features that the graph ends in besides what is asked for, and what its outputs are called then.
        TOKENIZER: where the files of our tokenizers are, `{}` standing for their names.
    """

    @property
    def ADDS(self) -> Mapping[str, str]: ...

    @property
    def TOKENIZER(self) -> str: ...

    def reasons_against(self, shape: Shape, source: ModelSource) -> list[str]:
        """Why a model cannot be put into it, each with its remedy."""
        ...

    def arrange(self, folder: Path, graph: GraphSpec, shape: Shape, source: ModelSource) -> GraphSpec:
        """Puts what was written into it, and says where the graph is then."""
        ...


def refused(layout: str, reason: str) -> str:
    """A reason as a sentence with its remedy."""
    return f"{layout} cannot read it: {reason}; leave the layout out"


def with_outputs(graph: ir.Graph, adds: Mapping[str, str], wanted: Sequence[str]) -> None:
    """Gives outputs the names that a layout wants them to have, in place.

    Args:
        graph: ends in `wanted` and the features of `adds`.
        adds: feature to the name it is to have.
        wanted: features that keep their own names, and are there under the other, too.
    """
    for index, value in enumerate(graph.outputs):
        name = adds.get(str(value.name))
        if name is None:
            continue
        if value.name in wanted:
            copy = ir.val(name, value.dtype, value.shape)
            graph.append(ir.node("Identity", [value], outputs=[copy]))
            graph.outputs.append(copy)
        else:
            graph.outputs[index].name = name
