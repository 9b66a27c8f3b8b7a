"""What every ONNX Runtime session has in common."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stcompile.errors import ArtifactError, one_line
from stcompile.extras import require

# What the manifest calls an optimization level to ONNX Runtime's name. `basic` keeps what the passes chose: at higher
# levels ONNX Runtime fuses SkipLayerNormalization back in, which costs 9-15% on CPU.
LEVELS = {"disabled": "ORT_DISABLE_ALL", "basic": "ORT_ENABLE_BASIC", "all": "ORT_ENABLE_ALL"}

_SEVERITY_FATAL = 4


def import_onnxruntime(extra: str) -> Any:
    """onnxruntime without its telemetry.

    The official builds collect events from the import on, for Microsoft, in a database under the home folder.
    Embeddings are made from people's texts: nothing is reported unless the user set the variable otherwise.

    Raises:
        MissingExtraError: it is not installed.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return require("onnxruntime", "Running an ONNX artifact", extra=extra)


def opened(ort: Any, graph: Path, options: Any, providers: Sequence[Any]) -> Any:
    """A session that never moves to another provider by itself.

    Raises:
        ArtifactError: the engine cannot load the graph.
    """
    # What goes wrong is raised as our own error; the engine's log would print it a second time.
    options.log_severity_level = _SEVERITY_FATAL
    try:
        # Told now, not after: what cannot be loaded would be loaded once more, with lines on standard output
        # (microsoft/onnxruntime#21424).
        return ort.InferenceSession(str(graph), options, providers=list(providers), enable_fallback=0)
    except Exception as error:
        raise ArtifactError(f"ONNX Runtime {ort.__version__} cannot load {graph.name}: {one_line(error)}") from error
