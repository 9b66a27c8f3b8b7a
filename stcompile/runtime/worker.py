"""Encodes texts in a process of its own, for parity: proves that no torch is needed to get the vectors.

`python -m stcompile.runtime.worker JOB` reads a JSON job (`artifact`, `device`, `threads`, `texts`, and
`runs`: name to the keyword arguments of `encode` plus `order`, a list of positions) and writes one `.npy` per
run beside it. It exits with 3 when a module that must stay out of the runtime was imported.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from stcompile.artifact.writing import in_scratch
from stcompile.errors import StcompileError
from stcompile.runtime.encoder import load

FORBIDDEN = ("torch", "transformers", "onnx", "onnx_ir", "onnxscript", "nncf", "sentence_transformers")

EXIT_BAD_INPUT = 2
EXIT_NOT_ALONE = 3


def main(job_path: str) -> int:
    """Runs the job; returns the exit code."""
    job_file = Path(job_path)
    job = json.loads(job_file.read_text(encoding="utf-8"))
    try:
        encoder = load(job["artifact"], device=job["device"], threads=job["threads"])
        for name, run in job["runs"].items():
            texts = [job["texts"][index] for index in run["order"]]
            vectors = encoder.encode(texts, **run["options"])
            joined = np.concatenate(vectors) if isinstance(vectors, list) else vectors
            with in_scratch(job_file.parent):
                np.save(job_file.with_name(f"{name}.npy"), joined)
    except StcompileError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_BAD_INPUT
    leaked = [name for name in FORBIDDEN if name in sys.modules]
    if leaked:
        sys.stderr.write(f"the runtime imported {', '.join(leaked)}\n")
        return EXIT_NOT_ALONE
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
