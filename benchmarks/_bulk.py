"""The measured process of `bulk`: started as a file, in an environment of its own. From file to file, the engine open.

Reads a job as JSON from its argument and prints one JSON object: seconds from the file of texts to that of vectors, and
the peak memory of the process alone.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

_WARM = ["a", "few", "words"] * 8


def sentence_transformers(job: dict[str, Any]) -> float:
    """Its own `encode` over a pool of processes, one thread each, on torch or with an ONNX file."""
    import numpy as np  # noqa: PLC0415 - each package is there in one environment alone
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415

    kwargs: dict[str, Any] = {}
    if job["file"]:
        kwargs = {"backend": "onnx", "model_kwargs": {"file_name": job["file"], "provider": "CPUExecutionProvider"}}
    model = SentenceTransformer(job["model"], device="cpu", **kwargs)
    pool = model.start_multi_process_pool(["cpu"] * job["processes"])
    try:
        model.encode(_WARM, pool=pool)
        started = time.perf_counter()
        table = pq.read_table(job["input"], columns=["id", "text"])
        vectors = np.asarray(model.encode(table["text"].to_pylist(), pool=pool, batch_size=job["batch_size"]))
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
        pq.write_table(pa.table({"id": table["id"], "embedding": column}), job["output"])
        return time.perf_counter() - started
    finally:
        model.stop_multi_process_pool(pool)


def encode_iter(job: dict[str, Any]) -> float:
    """Vectors of the same file, and nothing done with them: the most that a job of files can reach."""
    import pyarrow.parquet as pq  # noqa: PLC0415 - each package is there in one environment alone

    import stcompile  # noqa: PLC0415

    encoder = stcompile.load(job["model"])
    encoder.encode(_WARM)
    started = time.perf_counter()
    texts = (text for batch in pq.ParquetFile(job["input"]).iter_batches(4096) for text in batch["text"].to_pylist())
    for _ in encoder.encode_iter(texts):
        pass
    return time.perf_counter() - started


def stcompile_files(job: dict[str, Any]) -> float:
    """What `stcompile encode --input` does, its looking through the input and opening of the engine counted too."""
    from stcompile.bulk.job import Engine, encode_files  # noqa: PLC0415 - each package is there in one environment alone
    from stcompile.bulk.options import BulkOptions  # noqa: PLC0415

    started = time.perf_counter()
    encode_files(job["model"], [job["input"]], job["output"], BulkOptions(id="id"), engine=Engine(**job["engine"]))
    return time.perf_counter() - started


_JOBS = {"sentence_transformers": sentence_transformers, "encode_iter": encode_iter, "stcompile": stcompile_files}


def _peak() -> float:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    sys.path.pop(0)  # the folder of this file: torch would take its cuda.py for a package of NVIDIA's
    asked = json.loads(sys.argv[1])
    if "threads" in asked:
        os.environ["OMP_NUM_THREADS"] = str(asked["threads"])
    seconds = _JOBS[asked["do"]](asked)
    print(json.dumps({"seconds": seconds, "peak_mb": _peak()}))
