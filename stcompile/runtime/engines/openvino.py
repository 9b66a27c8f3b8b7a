"""OpenVINO as the engine, on CPU."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcompile.artifact.manifest import EngineSpec
from stcompile.errors import ArtifactError, MissingExtraError, ProviderError
from stcompile.extras import require
from stcompile.runtime.engines.mapped import let_go
from stcompile.runtime.engines.sizes import is_large, trim

# What the manifest calls a number type to what OpenVINO calls it.
_PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}

_TELEMETRY = "openvino_telemetry"

# Releases before 2026.0 answer an empty text of a static model with NaN; those before 2026.3 crash on some networks.
_OLDEST = (2026, 3)


# As OpenVINO counts them, which looks at the quota of no container.
_HAS_SEVERAL_CPUS = (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1) > 1


class OpenVinoEngine:
    """One compiled OpenVINO model; calls from several threads at once each take a request of their own.

    Args:
        graph: the `.xml` file, its weights in the `.bin` beside it.
        threads: threads of all runs together.
        spec: the number type to compute in.
            OpenVINO would by itself compute in bfloat16 where the CPU has it: the precision is always told.
        outputs: the graph's outputs, in order; OpenVINO may rename them.
        streams: runs at once, which share the threads; further callers wait.

    Raises:
        ProviderError: a number type that this CPU does not have.
        ArtifactError: the engine cannot load the graph.
    """

    kernels = ""

    def __init__(
        self,
        graph: Path,
        threads: int,
        spec: EngineSpec,
        outputs: tuple[str, ...],
        streams: int = 1,
    ) -> None:
        openvino = import_openvino("Running an OpenVINO artifact")
        precision = _PRECISIONS[spec.precision]
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": str(streams),
            "INFERENCE_NUM_THREADS": str(threads),
            "INFERENCE_PRECISION_HINT": precision,
            # By itself it would quantize activations wherever weights are: what is quantized is in the graph.
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
            # Pinned threads of several encoders, or of several containers, would all sit on the same first CPUs.
            "ENABLE_CPU_PINNING": "NO",
        }
        try:
            self._model: Any = openvino.Core().compile_model(str(graph), "CPU", options)
        except Exception as error:  # RuntimeError and others of its own
            last = (str(error).strip().splitlines() or ["no reason given"])[-1][:300]
            raise ArtifactError(f"OpenVINO {openvino.__version__} cannot load {graph.name}: {last}") from error
        effective = self._model.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if effective != precision:
            raise ProviderError(
                f"the artifact computes in {spec.precision}, which this CPU does not have (OpenVINO would take "
                f"{effective} instead): export target openvino-fp32 or openvino-int8-weights for it"
            )
        # Read whole to be compiled; what multiplies is then copied in the engine's own order as it is first used.
        self._weights = graph.with_suffix(".bin")
        let_go(self._weights)
        called = [item.get_names() for item in self._model.outputs]
        # A folder of optimum's layout has an output more, which others read.
        self._positions = {name: position for name in outputs for position, names in enumerate(called) if name in names}
        if len(self._positions) != len(outputs):
            raise ArtifactError(
                f"{graph.name} has other outputs than its manifest names ({', '.join(outputs)}): export the model again"
            )
        self._idle: SimpleQueue[Any] = SimpleQueue()
        # Runs that go on, and whether one of them, or one since the last pause, was large.
        self._counting = Lock()
        self._running, self._holds_much = 0, False

    @property
    def inputs(self) -> list[set[str]]:
        """What each input may be called: the engine adds names of its own."""
        return [item.get_names() for item in self._model.inputs]

    @property
    def widths(self) -> dict[str, int | None]:
        """The last axis of each output of the graph; None where it is not fixed."""
        axes = {name: self._model.outputs[position].get_partial_shape() for name, position in self._positions.items()}
        return {
            name: axis[-1].get_length() if len(axis) and axis[-1].is_static else None for name, axis in axes.items()
        }

    def run(self, feeds: dict[str, NDArray[np.int64]], outputs: tuple[str, ...]) -> list[NDArray[np.float32]]:
        """Computes the named outputs, `(batch, dim)` or `(batch, sequence, hidden)` float32."""
        with self._counted(feeds), self._request() as request:
            results = request.infer(feeds, share_inputs=True, share_outputs=True)
            # The request's own memory goes to the next call.
            return [np.array(results[self._positions[name]]) for name in outputs]

    @contextmanager
    def _counted(self, feeds: dict[str, NDArray[np.int64]]) -> Iterator[None]:
        """Gives the memory of large runs back once no run is left: OpenVINO raises where one goes on."""
        with self._counting:
            self._running += 1
        try:
            yield
        finally:
            with self._counting:
                self._running -= 1
                self._holds_much |= is_large(feeds)
                if self._holds_much and not self._running:
                    self._holds_much = False
                    # On one CPU OpenVINO 2026.4 spoils its heap there, and what is run next ends the process.
                    if _HAS_SEVERAL_CPUS:
                        self._model.release_memory()
                    let_go(self._weights)
                    trim()

    @contextmanager
    def _request(self) -> Iterator[Any]:
        try:
            request = self._idle.get_nowait()
        except Empty:
            request = self._model.create_infer_request()
        try:
            yield request
        finally:
            self._idle.put(request)


def import_openvino(purpose: str) -> Any:
    """openvino without its telemetry.

    Its import loads the package openvino_telemetry, which at once writes an identity of the user into the home folder.
    Embeddings are made from people's texts: unless something else loaded that package before, openvino is told that it
    is not installed, and takes the stub it has for that.

    Raises:
        MissingExtraError: openvino is not installed, or a release that does not compute rightly.
    """
    hidden = _TELEMETRY not in sys.modules
    if hidden:
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment] # how Python marks what must not be found
    try:
        openvino = require("openvino", purpose)
    finally:
        if hidden:
            del sys.modules[_TELEMETRY]
    found = str(openvino.__version__).partition("-")[0]
    if tuple(int(part) for part in found.split(".")[:2]) < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        raise MissingExtraError(
            f"{purpose} needs openvino {oldest} or later, and {found} is installed: pip install --upgrade "
            "'stcompile[openvino]'"
        )
    return openvino
