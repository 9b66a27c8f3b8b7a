"""Computes what every model of a folder makes of its inputs, in a process that takes one generation's kernels.

    STCOMPILE_KERNELS=avx2 python -m tests.kernels.run_cases FOLDER OUTPUT

Models are `NAME.onnx`, inputs `NAME.INDEX.npz`; what comes out is OUTPUT, with one array for each `NAME.INDEX`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort

from stcompile.kernels import native


def session(model: bytes | str, threads: int = 1) -> ort.InferenceSession:
    """A session with the package's own operators."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.register_custom_ops_library(str(native.library()))
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def main(folder: Path, output: Path) -> None:
    made = {}
    for model in sorted(folder.glob("*.onnx")):
        running = session(str(model))
        for path in sorted(folder.glob(f"{model.stem}.*.npz")):
            with np.load(path) as feeds:
                (made[path.stem],) = running.run(None, dict(feeds))
    np.savez(output, **made)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
