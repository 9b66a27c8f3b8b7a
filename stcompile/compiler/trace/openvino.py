"""Finished ONNX graphs to OpenVINO's own format: what is loaded in production needs no conversion."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import onnx_ir as ir

from stcompile.artifact import scratch
from stcompile.artifact.manifest import TEXT, GraphSpec
from stcompile.compiler.trace.serialize import described, write_graphs
from stcompile.errors import UnsupportedError, one_line
from stcompile.runtime.engines.openvino import import_openvino


def write_openvino_graphs(
    models: Mapping[str, ir.Model],
    folder: Path,
    *,
    half_weights: bool,
    name: str,
    networks: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[GraphSpec, ...]:
    """Writes the finished graph of each route into an existing folder as `.xml` and `.bin`.

    Each has weights of its own: the format cannot share them. Half weights are stored as float16 and computed with in
    float32. Of a route in `networks` that is written, which is what OpenVINO runs in the place of its graph.

    Returns:
        the manifest's descriptions, in order.

    Raises:
        UnsupportedError: OpenVINO cannot read the graph.
        MissingExtraError: it is not installed.
    """
    specs = []
    for index, (route, model) in enumerate(models.items()):
        file = "model" if len(models) == 1 else f"model-{index}-{re.sub(r'[^A-Za-z0-9_]+', '_', route or TEXT)[:40]}"
        if route in networks:
            write_network(networks[route], folder / f"{file}.xml")
        else:
            with _read(model, name) as network:
                write_network(network, folder / f"{file}.xml", half_weights=half_weights)
        specs.append(described(route, model, f"{file}.xml", f"{file}.bin"))
    return tuple(specs)


def read_network(model: ir.Model, name: str) -> Any:
    """A finished graph as OpenVINO reads it, with its weights in memory. Raises as `write_openvino_graphs`."""
    with _read(model, name, mapped=False) as network:
        return network


def write_network(network: Any, file: Path, *, half_weights: bool = False) -> None:
    """Writes what OpenVINO runs as an `.xml` file with its weights in the `.bin` beside it."""
    # Names that it makes up count up over the life of the process: without them, equal graphs are equal bytes.
    for number, operation in enumerate(network.get_ordered_ops()):
        operation.set_friendly_name(f"{operation.get_type_name()}_{number}")
    import_openvino("Compiling for OpenVINO").save_model(network, str(file), compress_to_fp16=half_weights)


@contextmanager
def _read(model: ir.Model, name: str, *, mapped: bool = True) -> Iterator[Any]:
    """A graph as OpenVINO reads it; where it is mapped, its weights are those of a file that is gone afterwards."""
    openvino = import_openvino("Compiling for OpenVINO")
    core = openvino.Core()
    core.set_property({"ENABLE_MMAP": mapped})
    with scratch("openvino") as made:
        (spec,) = write_graphs({"": model}, made)
        try:
            network = core.read_model(str(made / spec.file))
        except Exception as error:  # RuntimeError and others of its own
            cause = one_line(error, None)[-400:]
            raise UnsupportedError(name, f"OpenVINO cannot read its graph ({cause}): use an onnx target") from error
        yield network
