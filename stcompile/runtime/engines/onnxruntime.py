"""ONNX Runtime as the engine, on CPU or CUDA."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcompile.errors import ArtifactError, ProviderError
from stcompile.extras import require
from stcompile.native import library

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}

# A level of our own: the engine widens 8-bit weights so that nothing saturates, which it only does at its extended
# level. Measured on an artifact of schema 1: min cosine .9996 instead of .958 on a CPU without VNNI.
UNSATURATED = "unsaturated"

_SEVERITY_FATAL = 4


class OnnxRuntimeEngine:
    """One ONNX Runtime session.

    Args:
        graph: the `.onnx` file.
        provider: `cpu` or `cuda`; a CUDA request never runs on CPU.
        threads: threads of one run; with 1 every caller computes on its own thread.
        native: whether the graph has operators of the package's own.
        optimization_level: what the engine may rewrite at load. `basic` keeps what the passes chose:
            at the higher levels ONNX Runtime fuses SkipLayerNormalization back in, which costs 9-15% on CPU.

    Raises:
        ProviderError: the provider is unknown or not available here, or the CPU lacks what native operators need.
        ArtifactError: the engine cannot load the graph.
    """

    def __init__(
        self, graph: Path, provider: str, threads: int, optimization_level: str, *, native: bool = False
    ) -> None:
        ort = _import_quietly("cuda" if provider == "cuda" else "cpu")
        wanted = _check_provider(ort, provider)
        options = ort.SessionOptions()
        options.graph_optimization_level = {
            "disabled": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
            "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
            UNSATURATED: ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
        }[optimization_level]
        if optimization_level == UNSATURATED:
            options.add_session_config_entry("session.x64quantprecision", "1")
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Spinning workers burn the quota of a container and halved the speed of a busy machine.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if native:
            if provider != "cpu":
                raise ProviderError(
                    f"the artifact's fused layers run on CPU, not on {provider}: load with provider='cpu', or export "
                    "target onnx-fp16 with --provider cuda"
                )
            options.register_custom_ops_library(str(library()))
        # What goes wrong is raised as our own error; the engine's log would print it a second time.
        options.log_severity_level = _SEVERITY_FATAL
        names = [wanted] if provider == "cpu" else [wanted, PROVIDERS["cpu"]]
        try:
            self._session: Any = ort.InferenceSession(str(graph), options, providers=names)
        except Exception as error:
            raise ArtifactError(f"ONNX Runtime {ort.__version__} cannot load {graph.name}: {error}") from error
        if self._session.get_providers()[0] != wanted:
            raise ProviderError(
                "CUDA was asked for but ONNX Runtime could not start it (driver, CUDA or cuDNN libraries are "
                "missing or of another version): fix the installation, or load with provider='cpu'"
            )
        self._session.disable_fallback()

    def run(self, feeds: dict[str, NDArray[np.int64]], outputs: tuple[str, ...]) -> list[NDArray[np.float32]]:
        """Computes the named outputs, `(batch, dim)` or `(batch, sequence, hidden)` float32."""
        results: list[NDArray[np.float32]] = self._session.run(list(outputs), feeds)
        return results


def _import_quietly(extra: str) -> Any:
    """onnxruntime without its telemetry.

    The official builds collect events from the import on, for Microsoft, in a database under the home folder.
    Embeddings are made from people's texts: nothing is reported unless the user set the variable otherwise.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return require("onnxruntime", "Running an ONNX artifact", extra=extra)


def _check_provider(ort: Any, provider: str) -> str:
    if provider not in PROVIDERS:
        raise ProviderError(f"unknown provider {provider!r}: choose one of {', '.join(PROVIDERS)}")
    wanted = PROVIDERS[provider]
    if wanted not in ort.get_available_providers():
        raise ProviderError(
            f"{provider} was asked for, but this onnxruntime has no {wanted}: "
            "pip uninstall -y onnxruntime && pip install 'stcompile[cuda]', or load with provider='cpu'"
        )
    return wanted
