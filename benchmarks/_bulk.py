"""The measured process of `bulk`: started as a file, in an environment of its own. From file to file, the engine open.

Reads a job as JSON from its argument and prints one JSON object: seconds from the file of texts to that of vectors, and
the peak memory of the process alone.
"""

import contextlib
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

Found = dict[str, Any]
Encode = Callable[[list[str]], Any]

_WARM = ["a", "few", "words"] * 8


def sentence_transformers(job: dict[str, Any]) -> Found:
    """Its own `encode` in one process a CPU, one thread each: its pool on torch, and with an ONNX file, which its pool
    cannot send to a process, one that has loaded it there."""
    import numpy as np  # noqa: PLC0415 - each package is there in one environment alone
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    with (_onnx_processes if job["file"] else _its_pool)(job) as encode:
        encode(_WARM)
        started = time.perf_counter()
        table = pq.read_table(job["input"], columns=["id", "text"])
        vectors = np.asarray(encode(table["text"].to_pylist()))
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
        pq.write_table(pa.table({"id": table["id"], "embedding": column}), job["output"])
        return {"seconds": time.perf_counter() - started}


@contextlib.contextmanager
def _its_pool(job: dict[str, Any]) -> Iterator[Encode]:
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - each package is there in one environment alone

    model = SentenceTransformer(job["model"], device="cpu")
    pool = model.start_multi_process_pool(["cpu"] * job["processes"])
    try:
        yield lambda texts: model.encode(texts, pool=pool, batch_size=job["batch_size"])
    finally:
        model.stop_multi_process_pool(pool)


@contextlib.contextmanager
def _onnx_processes(job: dict[str, Any]) -> Iterator[Encode]:
    import numpy as np  # noqa: PLC0415 - each package is there in one environment alone

    count = job["processes"]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, context, _load_onnx, (job["model"], job["file"], job["batch_size"])) as pool:

        def encode(texts: list[str]) -> Any:
            # A few pieces each, as its own pool makes them, so that nobody waits for the last one long.
            size = max(1, -(-len(texts) // (8 * count)))
            return np.concatenate(
                list(pool.map(_encode_onnx, [texts[i : i + size] for i in range(0, len(texts), size)]))
            )

        yield encode


_loaded: list[Any] = []


def _load_onnx(model: str, file: str, batch_size: int) -> None:
    import onnxruntime  # noqa: PLC0415 - each package is there in one environment alone
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    kwargs = {"file_name": file, "provider": "CPUExecutionProvider", "session_options": options}
    found = SentenceTransformer(model, backend="onnx", device="cpu", model_kwargs=kwargs)
    _loaded.append(partial(found.encode, batch_size=batch_size, show_progress_bar=False))


def _encode_onnx(texts: list[str]) -> Any:
    return _loaded[0](texts)


def encode_iter(job: dict[str, Any]) -> Found:
    """Vectors of the same file, and nothing done with them: the most that a job of files can reach."""
    import pyarrow.parquet as pq  # noqa: PLC0415 - each package is there in one environment alone

    import stcompile  # noqa: PLC0415

    encoder = stcompile.load(job["model"])
    encoder.encode(_WARM)
    started = time.perf_counter()
    texts = (text for batch in pq.ParquetFile(job["input"]).iter_batches(4096) for text in batch["text"].to_pylist())
    for _ in encoder.encode_iter(texts):
        pass
    return {"seconds": time.perf_counter() - started}


def stages(job: dict[str, Any]) -> Found:
    """Seconds of each step of a job by itself, one after the other, on one thread: which saturates first."""
    from tokenizers import Tokenizer  # noqa: PLC0415 - each package is there in one environment alone

    from stcompile.bulk.artifacts import digest_of  # noqa: PLC0415
    from stcompile.bulk.inputs import find  # noqa: PLC0415
    from stcompile.bulk.journal import Journal  # noqa: PLC0415
    from stcompile.bulk.options import BulkOptions  # noqa: PLC0415
    from stcompile.bulk.plan import make_plan  # noqa: PLC0415
    from stcompile.bulk.store import Store  # noqa: PLC0415
    from stcompile.bulk.worker import Opening, Worker  # noqa: PLC0415

    plan = make_plan(job["model"], digest_of(job["model"]), BulkOptions(id="id"), [], find([job["input"]]))
    Journal(Store(job["output"])).begin(plan)
    worker = Worker(Opening(job["output"], job["model"], threads=1))
    tokenizer = Tokenizer.from_file(str(next(Path(job["model"]).rglob("tokenizer.json"))))
    spent = dict.fromkeys(("read", "tokenize", "encode", "write"), 0.0)
    for shard in plan.shards():
        marks = [time.perf_counter()]
        rows = worker.read(shard)
        assert not isinstance(rows, str), rows
        marks.append(time.perf_counter())
        tokenizer.encode_batch_fast([text for text in rows.texts if text is not None])
        marks.append(time.perf_counter())
        encoded = worker.encode(shard, rows)
        marks.append(time.perf_counter())
        worker.write(shard, encoded)
        marks.append(time.perf_counter())
        for name, start, end in zip(spent, marks, marks[1:], strict=False):
            spent[name] += end - start
    return {"seconds": sum(spent.values()), "stages": spent}


_JOBS = {"sentence_transformers": sentence_transformers, "encode_iter": encode_iter, "stages": stages}


def _peak() -> float:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    sys.path.pop(0)  # the folder of this file: torch would take its cuda.py for a package of NVIDIA's
    asked = json.loads(sys.argv[1])
    print(json.dumps({**_JOBS[asked["do"]](asked), "peak_mb": _peak()}))
