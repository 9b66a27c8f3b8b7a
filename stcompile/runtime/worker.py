"""Encodes texts in a process of its own, for parity: proves that no torch is needed to get the vectors.

`python -m stcompile.runtime.worker JOB` reads a JSON job (`artifact`, `device`, `threads`, `texts`, and `runs`: name to
`options`, the keyword arguments of `encode`, `encode_hybrid` or `predict`, `order`, a list of positions, whether with
`kernels`, and which `part` of what a hybrid encoder makes) and writes one `.npy` per run beside it, and of several
vectors a text how many each has. It exits with 3 when a module that must stay out of the runtime was imported.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from stcompile.artifact.writing import in_scratch
from stcompile.errors import StcompileError
from stcompile.kernels.native import NONE, VARIABLE
from stcompile.runtime.answers import answered
from stcompile.runtime.hybrid_embeddings import MULTI_VECTOR
from stcompile.runtime.loaded import Loaded
from stcompile.runtime.loading import load
from stcompile.runtime.multi_vector_encoder import MultiVectorEncoder
from stcompile.runtime.sparse_vectors import SparseVectors

FORBIDDEN = ("torch", "transformers", "onnx", "onnx_ir", "onnxscript", "nncf", "sentence_transformers")

# Of a multi-vector encoder's run, how many vectors each text has.
COUNTS = ".counts.npy"

EXIT_BAD_INPUT = 2
EXIT_NOT_ALONE = 3


def main(job_path: str) -> int:
    """Runs the job; returns the exit code."""
    job_file = Path(job_path)
    job = json.loads(job_file.read_text(encoding="utf-8"))
    try:
        for name, run, loaded in _runs(job):
            texts = [job["texts"][index] for index in run["order"]]
            vectors = answered(loaded, texts, run["options"], run["part"])
            if isinstance(vectors, SparseVectors):
                vectors = vectors.toarray()
            joined = np.concatenate(vectors) if isinstance(vectors, list) else vectors
            with in_scratch(job_file.parent):
                np.save(job_file.with_name(f"{name}.npy"), joined)
                if isinstance(loaded, MultiVectorEncoder) or run["part"] == MULTI_VECTOR:
                    np.save(job_file.with_name(f"{name}{COUNTS}"), [len(rows) for rows in vectors])
    except StcompileError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_BAD_INPUT
    leaked = [name for name in FORBIDDEN if name in sys.modules]
    if leaked:
        sys.stderr.write(f"the runtime imported {', '.join(leaked)}\n")
        return EXIT_NOT_ALONE
    return 0


def _runs(job: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], Loaded]]:
    """Each run with the artifact it is for, loaded, those without kernels last."""
    for kernels in (True, False):
        runs = {name: run for name, run in job["runs"].items() if run["kernels"] is kernels}
        if not runs:
            continue
        if not kernels:
            os.environ[VARIABLE] = NONE
        with load(job["artifact"], device=job["device"], threads=job["threads"]) as loaded:
            if isinstance(loaded, MultiVectorEncoder):
                loaded.keep_all()
            for name, run in runs.items():
                yield name, run, loaded


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
