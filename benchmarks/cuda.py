"""On a GPU: how many texts a second, and how many times faster than sentence-transformers on the same GPU?

Needs an NVIDIA GPU, onnxruntime-gpu in place of onnxruntime, and a torch with CUDA. The artifacts are compiled here,
shaped for the CUDA provider. All contenders run in this one process, in turns; what counts is the ratio within a round,
by the wall clock. Beside it stand the latency of a single text and the smallest cosine to torch in float32.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import stcompile
from benchmarks._common import (
    add_model_option,
    add_text_options,
    at_least_one,
    machine_facts,
    model_folder,
    parser,
    print_table,
    run,
    status,
    text_sets,
    write_json,
)
from benchmarks._speeds import SETS, latency, print_speeds, speed_rows
from stcompile.compiler.export import export_model
from stcompile.compiler.metrics import distance
from stcompile.compiler.timing import interleave
from stcompile.errors import InputError, StcompileError

TARGETS = ("onnx-fp32", "onnx-fp16")
TORCH = "sentence-transformers (torch float32)"
HALF = "sentence-transformers (torch float16)"
_SINGLES = 200

Encode = Callable[[list[str]], Any]


def main() -> int:
    arguments = _arguments()
    sets = text_sets(arguments, SETS, arguments.limit)
    gpu = _gpu(arguments.device)
    machine = {**machine_facts(), "gpu": gpu}
    model = model_folder(arguments.model)
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="stcompile-cuda-") as folder:
        contenders = _contenders(model, Path(folder), arguments.device)
        for name, texts in sets.items():
            status(f"Timing {len(texts)} {name} texts on {gpu}, {arguments.rounds} rounds")
            timings = interleave({who: partial(encode, texts) for who, encode in contenders.items()}, arguments.rounds)
            results += speed_rows(name, texts, timings, TORCH)
        singles = _singles(contenders, next(iter(sets.values()))[:_SINGLES])
        accuracy = _accuracy(contenders, [text for texts in sets.values() for text in texts])
    print_speeds(results, "torch float32", 1, arguments.rounds)
    rows = [
        (who, *(f"{singles[who][which]:.3f}" for which in ("p50_ms", "p99_ms")), f"{accuracy[who]:.6f}")
        for who in contenders
    ]
    print_table("one text at a time; smallest cosine to torch float32", ("who", "p50 ms", "p99 ms", "min cosine"), rows)
    settings = {"model": model.name, "device": arguments.device, "rounds": arguments.rounds, "limit": arguments.limit}
    found = {"bulk": results, "latency": singles, "min_cosine": accuracy}
    write_json(arguments.json, "cuda", machine, settings, found)
    return 0


def _arguments() -> argparse.Namespace:
    made = parser(__doc__, "python -m benchmarks.cuda --short short.jsonl --long long.jsonl --json cuda.json")
    add_model_option(made)
    add_text_options(made, SETS)
    made.add_argument("--device", default="cuda", help="cuda, or cuda:1 for the second GPU (default: cuda)")
    made.add_argument("--rounds", type=at_least_one, default=7, help="timed rounds (default: 7)")
    made.add_argument("--limit", type=at_least_one, default=4096, help="take the first N texts (default: 4096)")
    return made.parse_args()


def _gpu(device: str) -> str:
    """The GPU's name. Raises `InputError` where torch finds none."""
    import torch  # noqa: PLC0415 - slow

    if not torch.cuda.is_available():
        raise InputError(
            "this benchmark needs an NVIDIA GPU and a torch that finds it: install a CUDA build of torch, and "
            "onnxruntime-gpu in place of onnxruntime"
        )
    return str(torch.cuda.get_device_name(device))


def _contenders(model: Path, folder: Path, device: str) -> dict[str, Encode]:
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - slow

    found: dict[str, Encode] = {}
    for name, half in ((TORCH, False), (HALF, True)):
        reference = SentenceTransformer(str(model), device=device)
        reference = reference.half() if half else reference
        found[name] = partial(reference.encode, batch_size=64, show_progress_bar=False)
    for target in TARGETS:
        status(f"Compiling {target}")
        artifact = export_model(model, folder / target, target, provider="cuda")
        made = [(artifact, False, ""), (artifact, True, ", CUDA graphs")]
        try:
            packed = export_model(model, folder / f"{target}-packed", target, provider="cuda", packed=True)
            made.append((packed, False, ", packed"))
        except StcompileError as error:  # a result of its own, and no reason to lose the others
            status(f"{target} is not packed here: {error}")
        for which, graphs, label in made:
            encoder = stcompile.load(which.folder, device=device, cuda_graphs=graphs)
            found[f"stcompile {target}{label}"] = encoder.encode
    return found


def _singles(contenders: Mapping[str, Encode], texts: Sequence[str]) -> dict[str, dict[str, float]]:
    found = {}
    for who, encode in contenders.items():
        status(f"Timing {len(texts)} single texts, {who}")
        seconds = []
        for text in [*texts[:20], *texts]:
            started = time.perf_counter()
            encode([text])
            seconds.append(time.perf_counter() - started)
        found[who] = latency(seconds[20:])
    return found


def _accuracy(contenders: Mapping[str, Encode], texts: list[str]) -> dict[str, float]:
    vectors = {who: np.asarray(encode(texts), dtype=np.float32) for who, encode in contenders.items()}
    return {who: round(float(distance(vectors[TORCH], rows).cosine.min()), 6) for who, rows in vectors.items()}


if __name__ == "__main__":
    run(main)
