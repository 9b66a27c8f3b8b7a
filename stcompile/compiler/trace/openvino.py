"""Finished ONNX graphs to OpenVINO's own format: what is loaded in production needs no conversion."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

import onnx_ir as ir

from stcompile.artifact import scratch
from stcompile.artifact.manifest import TEXT, GraphSpec
from stcompile.compiler.trace.serialize import write_graphs
from stcompile.errors import UnsupportedError, one_line
from stcompile.runtime.engines.openvino import import_openvino


def write_openvino_graphs(
    models: Mapping[str, ir.Model], folder: Path, *, half_weights: bool, name: str
) -> tuple[GraphSpec, ...]:
    """Writes the finished graph of each route into an existing folder as `.xml` and `.bin`.

    Each has weights of its own: the format cannot share them. Half weights are stored as float16 and computed with in
    float32.

    Returns:
        the manifest's descriptions, in order.

    Raises:
        UnsupportedError: OpenVINO cannot read the graph.
        MissingExtraError: it is not installed.
    """
    openvino = import_openvino("Compiling for OpenVINO")
    specs = []
    for index, (route, model) in enumerate(models.items()):
        file = "model" if len(models) == 1 else f"model-{index}-{re.sub(r'[^A-Za-z0-9_]+', '_', route or TEXT)[:40]}"
        with scratch("openvino") as made:
            (spec,) = write_graphs({route: model}, made)
            try:
                graph = openvino.Core().read_model(str(made / spec.file))
            except Exception as error:  # RuntimeError and others of its own
                cause = one_line(error, None)[-400:]
                raise UnsupportedError(name, f"OpenVINO cannot read its graph ({cause}): use an onnx target") from error
            # Names that it makes up count up over the life of the process: without them, equal graphs are equal bytes.
            for number, operation in enumerate(graph.get_ordered_ops()):
                operation.set_friendly_name(f"{operation.get_type_name()}_{number}")
            openvino.save_model(graph, str(folder / f"{file}.xml"), compress_to_fp16=half_weights)
        specs.append(dataclasses.replace(spec, file=f"{file}.xml", external_data=f"{file}.bin"))
    return tuple(specs)
