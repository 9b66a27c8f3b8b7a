"""ONNX Runtime on an NVIDIA GPU: every node where it belongs, or an error."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcompile.errors import ProviderError
from stcompile.runtime.device import Device
from stcompile.runtime.engines.bound import BoundRuns
from stcompile.runtime.engines.sessions import LEVELS, import_onnxruntime, opened

PROVIDER, _ON_CPU = "CUDAExecutionProvider", "CPUExecutionProvider"

# Arithmetic on shapes, a few numbers a run: ONNX Runtime keeps it on the CPU, where the numbers are needed.
_OF_SHAPES = frozenset(
    (
        *("Shape", "Size", "Gather", "Concat", "Slice", "Unsqueeze", "Squeeze", "Reshape", "Cast", "Range", "Constant"),
        *("ConstantOfShape", "Add", "Sub", "Mul", "Div", "Max", "Min", "Equal", "Where", "Expand", "Identity"),
    )
)

# With the copies between devices that ONNX Runtime adds to the graph itself.
_MAY_STAY = _OF_SHAPES | {"MemcpyFromHost", "MemcpyToHost"}


class CudaEngine:
    """One ONNX Runtime session on a GPU, opened at the level `disabled` or `basic`.

    Raises:
        ProviderError: this onnxruntime has no CUDA, it could not be started, there is no such GPU, or a part of the
            graph that takes time would run on the CPU.
        ArtifactError: the engine cannot load the graph.
    """

    kernels = ""

    def __init__(self, graph: Path, device: Device, optimization_level: str) -> None:
        ort = import_onnxruntime("cuda")
        if PROVIDER not in ort.get_available_providers():
            raise ProviderError(
                f"{device} was asked for, but this onnxruntime has no {PROVIDER}: "
                "pip uninstall -y onnxruntime && pip install 'stcompile[cuda]', or load with device='cpu'"
            )
        options = ort.SessionOptions()
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, LEVELS[optimization_level])
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        settings = {
            "device_id": str(device.index),
            # TensorFloat-32 has 10 bits of mantissa: a float32 artifact would be no nearer to torch than a float16 one.
            "use_tf32": "0",
            # Twice what is needed, at every growth, is a lot of a GPU that others share.
            "arena_extend_strategy": "kSameAsRequested",
            "enable_cuda_graph": str(int(device.graphs)),
        }
        self._session: Any = opened(ort, graph, options, [(PROVIDER, settings), _ON_CPU])
        if self._session.get_providers()[0] != PROVIDER:
            raise ProviderError(
                f"{device} was asked for but ONNX Runtime could not start it (no such GPU, or driver, CUDA or cuDNN "
                "libraries are missing or of another version): fix the installation, or load with device='cpu'"
            )
        _check_places(device, ort, self._session)
        if device.graphs and not hasattr(self._session, "release_captured_graph"):
            raise ProviderError(
                f"onnxruntime {ort.__version__} never lets go of a CUDA graph, so memory would grow with every length: "
                "pip install --upgrade onnxruntime-gpu, or load without cuda_graphs"
            )
        self._runs = BoundRuns(ort, self._session, device.kind, device.index, graphs=device.graphs)

    def run(self, feeds: dict[str, NDArray[np.int64]], outputs: tuple[str, ...]) -> list[NDArray[np.float32]]:
        """Computes the named outputs, `(batch, dim)` or `(batch, sequence, hidden)` float32."""
        return self._runs.run(feeds, outputs)


def _check_places(device: Device, ort: Any, session: Any) -> None:
    """Raises `ProviderError` where anything but arithmetic on shapes is not on the GPU."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        raise ProviderError(
            f"onnxruntime {ort.__version__} does not tell where its nodes run: pip install --upgrade onnxruntime-gpu"
        )
    elsewhere = Counter(
        node.op_type
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name != PROVIDER
        for node in part.get_nodes()
        if node.op_type not in _MAY_STAY
    )
    if elsewhere:
        which = ", ".join(f"{count} {name}" for name, count in sorted(elsewhere.items()))
        raise ProviderError(
            f"{device} was asked for, but ONNX Runtime would run a part of the graph on the CPU ({which}): export it "
            "with --provider cuda and target onnx-fp16 or onnx-fp32, or load with device='cpu'"
        )
