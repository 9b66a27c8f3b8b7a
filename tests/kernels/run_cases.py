"""Computes what every model of a folder makes of its inputs, in a process that takes one generation's kernels.

    STCOMPILE_KERNELS=avx2 python tests/kernels/run_cases.py FOLDER OUTPUT

Models are `NAME.onnx`, inputs `NAME.INDEX.npz`; what comes out is OUTPUT, with one array for each `NAME.INDEX`. Of
`levels.INDEX.npz` rows are rounded to 8 bits.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from stcompile.kernels import native


def session(model: bytes | str, threads: int = 1) -> ort.InferenceSession:
    """A session with the package's own operators."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.register_custom_ops_library(str(native.library()))
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def rounded(
    rows: npt.NDArray[np.float32], smooth: npt.NDArray[np.float32], zero_point: Any, smallest: Any
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """The levels of rows as the input of a layer, and the scale of each row."""
    ask = ctypes.CDLL(str(native.library())).stcompile_levels
    ask.restype = ctypes.c_float
    width = rows.shape[1]
    to = np.full((len(rows), width + 1), 77, dtype=np.uint8)
    scales = [
        ask(
            str(native.generation()).encode(),
            *(array.ctypes.data_as(ctypes.c_void_p) for array in (row, smooth)),
            ctypes.c_size_t(width),
            int(zero_point),
            ctypes.c_float(float(smallest)),
            levels.ctypes.data_as(ctypes.c_void_p),
        )
        for row, levels in zip(rows, to, strict=True)
    ]
    assert (to[:, width] == 77).all()
    return to[:, :width], np.array(scales, dtype=np.float32)


def main(folder: Path, output: Path) -> None:
    made = {}
    for model in sorted(folder.glob("*.onnx")):
        running = session(str(model))
        for path in sorted(folder.glob(f"{model.stem}.*.npz")):
            with np.load(path) as feeds:
                (made[path.stem],) = running.run(None, dict(feeds))
    for path in sorted(folder.glob("levels.*.npz")):
        with np.load(path) as given:
            made[path.stem], made[f"{path.stem}.scales"] = rounded(**given)
    np.savez(output, **made)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
