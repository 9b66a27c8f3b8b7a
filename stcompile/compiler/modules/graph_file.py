"""A network as a graph in a file, in the format of any engine: what is asked of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stcompile.errors import UnsupportedError

# What a network takes of a text, and what its last hidden state is called by the tools that write graphs.
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
HIDDEN = ("last_hidden_state", "token_embeddings")


class GraphFile(Protocol):
    """What a file of a format is, opened.

    Attributes:
        engine: what runs it.
        operators: the types of its nodes.
        rounded: those of them, or types of numbers, that only a graph has whose weights were rounded.
        is_half: whether weights are float16.
        files: it and what its weights are in.
    """

    engine: str
    operators: frozenset[str]
    rounded: tuple[str, ...]
    is_half: bool
    files: tuple[Path, ...]

    @property
    def outputs(self) -> list[str]:
        """Names, in order, without running anything."""
        ...

    def arrays(self) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Weights by the names that parameters have in torch, some by more than one.

        Raises:
            OSError, ValueError: they are in a file that cannot be read, or is too short.
        """
        ...

    def open(self) -> RunningGraph:
        """The graph in its own engine, on the CPU, in float32.

        Raises:
            ModelFolderError: the engine cannot read it.
        """
        ...


class RunningGraph(Protocol):
    """A graph in its engine."""

    inputs: list[str]

    def run(self, output: str, feeds: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        """One output; raises what its engine does."""
        ...


def graph_file(path: Path) -> GraphFile:
    """Opens a file by its suffix.

    Raises:
        ModelFolderError: it cannot be read, or names files elsewhere.
        MissingExtraError: OpenVINO's files need it.
    """
    # Each brings its engine or its format's library.
    if path.suffix == ".xml":
        from stcompile.compiler.modules.openvino_file import OpenVinoFile  # noqa: PLC0415

        return OpenVinoFile(path)
    from stcompile.compiler.modules.onnx_file import OnnxFile  # noqa: PLC0415

    return OnnxFile(path)


def output_taken(label: str, graph: GraphFile, running: RunningGraph, wanted: Sequence[str], what: str) -> str:
    """The first of the wanted outputs that a graph has, which takes nothing but a text's tokens.

    Args:
        label: what to call the file in an error.
        graph: it.
        running: in its engine.
        wanted: names.
        what: is done with it, in one word.

    Raises:
        UnsupportedError: it takes more, or has none.
    """
    found = next((name for name in wanted if name in graph.outputs), None)
    if found is None or not set(INPUTS).issuperset(running.inputs):
        raise UnsupportedError(
            label,
            f"its graph takes {', '.join(running.inputs)} and gives {', '.join(graph.outputs)}: what is {what} takes "
            f"some of {', '.join(INPUTS)}, and gives one of {', '.join(wanted)}; name another file with --file",
        )
    return found


def module_of(name: str) -> str:
    """The module of torch that a node is of, from the name that torch's older exporter gives it: `/a/b.0/MatMul`."""
    return name.removeprefix("/").rpartition("/")[0].replace("/", ".")


def without_leading_ones(values: NDArray[Any]) -> NDArray[Any]:
    """A vector that was made to fit what it is added to: `(1, 1, dim)` to `(dim,)`."""
    return values.reshape(-1) if values.size == values.shape[-1] else values
