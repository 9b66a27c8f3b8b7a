"""Engines: what runs a graph. One small protocol, one engine a file."""

from __future__ import annotations

import functools
import logging
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stcompile.artifact.manifest import OPENVINO, GraphSpec, Manifest
from stcompile.errors import ArtifactError, ProviderError
from stcompile.kernels.cpu_features import adds_int8_products
from stcompile.kernels.native import BODY, generation, library, refusals
from stcompile.runtime.device import CUDA, Device
from stcompile.runtime.engines.onnxruntime import UNSATURATED, OnnxRuntimeEngine
from stcompile.runtime.engines.onnxruntime_cuda import CudaEngine
from stcompile.runtime.engines.openvino import OpenVinoEngine
from stcompile.runtime.text.base import Feeds

_LOGGER = logging.getLogger("stcompile")


class Engine(Protocol):
    """Runs one graph; safe to call from several threads at once.

    Attributes:
        kernels: what computes operators of the package's own: a CPU generation's name, `body` for the standard
            operators in their place, or empty where the graph has none.
    """

    kernels: str

    def run(self, feeds: Feeds, outputs: tuple[str, ...]) -> list[NDArray[np.float32]]:
        """Computes the named outputs of one batch, in that order."""
        ...


def open_engine(
    folder: Path, graph: GraphSpec, manifest: Manifest, device: Device, threads: int, concurrent_runs: int = 1
) -> Engine:
    """The engine that runs a graph of an artifact on a device. So many callers at once share its threads evenly.

    Raises:
        ProviderError: it cannot run there.
        ArtifactError: the engine cannot load the graph, or it is not the one that the manifest describes.
    """
    if manifest.engine.name == OPENVINO:
        names = tuple(output.name for output in graph.outputs)
        _check_on_cpu(device, "OpenVINO artifacts run")
        compiled = OpenVinoEngine(folder / graph.file, threads, manifest.engine, names, concurrent_runs)
        _check_fits(compiled, graph, manifest)
        return compiled
    level = manifest.optimization_level
    if manifest.engine.native and not manifest.engine.portable:
        _check_on_cpu(device, "the artifact's fused layers run")
    if manifest.needs_gpu and device.kind != CUDA:
        how = "without --packed" if manifest.engine.packed else "for provider cpu"
        what = "packed" if manifest.engine.packed else "in bfloat16 for provider cuda"
        raise ProviderError(
            f"the artifact was exported {what}, whose operators only GPUs have, not {device}: load with device='cuda', "
            f"or export it {how}"
        )
    if device.graphs:
        _check_graphs(graph, manifest)
    if device.kind == CUDA:
        on_gpu = CudaEngine(folder / graph.file, device, level)
        on_gpu.kernels = BODY if manifest.engine.native else ""
        return on_gpu
    if manifest.engine.saturates and adds_int8_products() is False:
        level = UNSATURATED
    operators = library() if manifest.engine.native else None
    if manifest.engine.native and not manifest.engine.portable and operators is None:
        raise ProviderError(f"the artifact cannot run here: {'; '.join(refusals())}; or export it again")
    session = OnnxRuntimeEngine(folder / graph.file, max(1, threads // concurrent_runs), level, operators)
    if manifest.engine.native:
        session.kernels = generation() or BODY
        if operators is None:
            _say_once()
    _check_fits(session, graph, manifest)
    return session


@functools.cache
def _say_once() -> None:
    _LOGGER.warning(
        "encoder layers are computed by standard operators, which is slower: %s (stcompile doctor tells more)",
        "; ".join(refusals()),
    )


def _check_fits(engine: OnnxRuntimeEngine | OpenVinoEngine, graph: GraphSpec, manifest: Manifest) -> None:
    """What a manifest says of a graph that is not so would end in the middle of encoding, in the engine's words."""
    said, outputs = {item.name for item in graph.inputs}, {item.name for item in graph.outputs}
    takes = len(said) == len(engine.inputs) and all(said & names for names in engine.inputs)
    widths = engine.widths
    fits = takes and outputs <= widths.keys() and widths[graph.outputs[0].name] in (None, manifest.dim_of(graph))
    if not fits:
        raise ArtifactError(
            f"{graph.file} is not the graph that the artifact's manifest describes, by its inputs, outputs or width: "
            "export the model again"
        )


def _check_graphs(graph: GraphSpec, manifest: Manifest) -> None:
    """A CUDA graph holds no copy between CPU and GPU, and some runs need one in their middle."""
    if manifest.engine.packed:
        raise ProviderError(
            "the artifact was exported packed, and a run reads from the GPU how many tokens it has, which no CUDA "
            "graph can hold: load without cuda_graphs, or export it without --packed"
        )
    if "offsets" in [item.name for item in graph.inputs]:
        raise ProviderError(
            "the artifact's texts lie behind each other, and a run tells the GPU how many they are, which no CUDA "
            "graph can hold: load without cuda_graphs"
        )


def _check_on_cpu(device: Device, what: str) -> None:
    if device.kind == CUDA:
        raise ProviderError(
            f"{what} on CPU, not on {device}: load with device='cpu', or export target onnx-fp16 with --provider cuda"
        )
