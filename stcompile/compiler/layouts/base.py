"""What a layout is asked about a model, and what it does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from stcompile.artifact.manifest import GraphSpec, TextSpec
from stcompile.artifact.target import Target


@dataclass(frozen=True)
class Shape:
    """What of an artifact decides whether another library can read it.

    Attributes:
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
    """

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


class Layout(Protocol):
    """What a file of this package is: one library's folder."""

    def reasons_against(self, shape: Shape) -> list[str]:
        """Why a model cannot be put into it, each with its remedy."""
        ...

    def arrange(self, folder: Path, graph: GraphSpec, shape: Shape) -> GraphSpec:
        """Puts what was written into it, and says where the graph is then."""
        ...
