"""What is compiled of each family of models, how near it is, how fast, and what the export costs?

For each folder: the layers that one operator computes and what they are made of, as the graph's nodes say; how far the
vectors are from sentence-transformers, as the export proved; texts a second beside sentence-transformers on torch in
float32 and bfloat16, in turns on the same texts and threads, as ratios of process CPU time within a round; and time and
memory of the export. Artifacts stay in --work, and are made where they are not there yet, which takes minutes each.
Every other engine on such a folder: `python -m benchmarks.peers --model DIR --artifact DIR`.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from benchmarks._common import (
    BATCH_SIZE,
    limit_threads,
    machine_facts,
    parser,
    print_table,
    run,
    status,
    text_sets,
    write_json,
)
from benchmarks._speeds import add_speed_options, speed_rows
from stcompile.artifact import Artifact, open_artifact
from stcompile.artifact.report import read_report
from stcompile.compiler.timing import interleave
from stcompile.errors import InputError
from stcompile.kernels.native import DOMAIN
from stcompile.runtime.encoder import Encoder

_SETS = ("short", "mixed", "long")
_AGAINST = "torch float32"


def main() -> int:
    arguments = _arguments()
    sets = text_sets(arguments, _SETS, arguments.limit)
    limit_threads(arguments.threads)
    machine = machine_facts()
    results = [
        {"model": folder.name, "target": target, **_measured(folder, target, arguments, sets)}
        for folder in arguments.models
        for target in arguments.target
    ]
    _print(results)
    write_json(arguments.json, "architectures", machine, {"rounds": arguments.rounds}, results)
    return 0


def _measured(folder: Path, target: str, arguments: argparse.Namespace, sets: dict[str, list[str]]) -> dict[str, Any]:
    where = arguments.work / f"{folder.name}-{target}"
    cost = where.parent / f"{where.name}.cost.json"
    if not where.exists():
        status(f"Exporting {folder.name} to {target} ...")
        cost.write_text(json.dumps(_exported(folder, target, where)), encoding="utf-8")
    artifact = open_artifact(where)
    parity = read_report(artifact).parity
    return {
        "layers": _layers(artifact),
        "min_cosine": parity.min_cosine,
        "mean_cosine": parity.mean_cosine,
        "export": json.loads(cost.read_text(encoding="utf-8")) if cost.exists() else None,
        "speed": _speeds(folder, artifact, arguments, sets),
    }


def _exported(folder: Path, target: str, where: Path) -> dict[str, float]:
    """Exports in a process of its own, and says what it took."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    command = [sys.executable, "-m", "stcompile", "export", str(folder), "--target", target, "--output", str(where)]
    if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode:
        raise InputError(f"{folder} could not be exported to {target}: the sentence above says why")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "wall_seconds": round(time.monotonic() - start, 1),
        "cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        # The largest of all children so far: of one export a run, exact.
        "peak_mb": round(after.ru_maxrss / 1000),
    }


def _layers(artifact: Artifact) -> dict[str, Any]:
    """How many layers are one operator, and of which parts."""
    import onnx  # noqa: PLC0415 - the graph alone, of the compiler's environment

    nodes = onnx.load(artifact.folder / "model.onnx", load_external_data=False).graph.node
    operators = [node for node in nodes if node.domain == DOMAIN]
    parts = [{item.name: onnx.helper.get_attribute_value(item) for item in node.attribute} for node in operators]
    return {
        "fused": len(operators),
        "attention_left": sum(node.op_type in ("Attention", "Softmax") for node in nodes),
        "parts": dict(Counter(_described(part) for part in parts)),
    }


def _described(part: dict[str, Any]) -> str:
    """BERT's parts where the node does not say."""

    def word(name: str, default: str) -> str:
        value = part.get(name, default)
        return value.decode() if isinstance(value, bytes) else str(value)

    heads, few = part["heads"], part.get("kv_heads", part["heads"])
    said = [f"{word('normalization', 'layer')} norms {word('norms', 'after')}"]
    said.append(f"{heads} heads of {part['head_size']}" + (f", {few} of keys" if few != heads else ""))
    said.append(word("activation", "gelu") + (" gate" if part.get("gated", 0) else ""))
    said += ["normalized heads"] if "head_epsilon" in part else []
    window = part.get("before", -1), part.get("after", -1)
    said += [] if window == (-1, -1) else ["causal" if window == (-1, 0) else f"window {window[0]} and {window[1]}"]
    return "; ".join(said)


def _speeds(
    folder: Path, artifact: Artifact, arguments: argparse.Namespace, sets: dict[str, list[str]]
) -> list[dict[str, Any]]:
    status(f"Timing {artifact.folder.name} ...")
    encoder = Encoder(artifact, threads=arguments.threads)
    rows: list[dict[str, Any]] = []
    for name, texts in sets.items():
        calls: dict[str, Callable[[], object]] = {artifact.manifest.target: partial(encoder.encode, texts)}
        for dtype in ("float32", "bfloat16"):
            calls[f"torch {dtype}"] = partial(_torch(folder, dtype), texts, batch_size=BATCH_SIZE)
        rows += speed_rows(name, texts, interleave(calls, arguments.rounds), _AGAINST)
    return rows


# Two networks at most are in memory, of one folder.
@lru_cache(maxsize=2)
def _torch(folder: Path, dtype: str) -> Callable[..., object]:
    import torch  # noqa: PLC0415 - the peer
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415

    network = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": getattr(torch, dtype)})
    encode: Callable[..., object] = network.encode
    return encode


def _print(results: list[dict[str, Any]]) -> None:
    columns = ("model", "target", "layers", "min cosine", *(f"{name}, x torch fp32 / bf16" for name in _SETS), "export")
    rows = []
    for item in results:
        by_set = {name: {row["who"]: row for row in item["speed"] if row["texts"] == name} for name in _SETS}
        speeds = []
        for found in by_set.values():
            own, short = found.get(item["target"]), found.get("torch bfloat16")
            ratio = (
                None if own is None or short is None else own["texts_per_cpu_second"] / short["texts_per_cpu_second"]
            )
            speeds.append("" if own is None or ratio is None else f"{own['ratio_cpu']['median']:.2f} / {ratio:.2f}")
        cost = item["export"]
        said = "" if cost is None else f"{cost['wall_seconds']:.0f} s, {cost['peak_mb'] / 1000:.1f} GB"
        layers = item["layers"]
        rows.append((item["model"], item["target"], str(layers["fused"]), f"{item['min_cosine']:.5f}", *speeds, said))
    print_table("families of models", columns, rows)
    for item in results:
        for part, count in item["layers"]["parts"].items():
            sys.stdout.write(f"{item['model']} {item['target']}: {count} layers of {part}\n")


def _arguments() -> argparse.Namespace:
    made = parser(
        __doc__,
        "python -m benchmarks.architectures gte-modernbert qwen3-0.6b --work artifacts"
        " --short short.jsonl --mixed mixed.jsonl --long long.jsonl",
    )
    made.add_argument("models", type=Path, nargs="+", metavar="DIR", help="Sentence-Transformers folders")
    made.add_argument("--work", type=Path, required=True, metavar="DIR", help="where artifacts are kept")
    made.add_argument(
        "--target", action="append", default=[], metavar="NAME", help="may be repeated (default: onnx-int8)"
    )
    add_speed_options(made, rounds=3, limit=32, sets=_SETS)
    arguments = made.parse_args()
    arguments.target = arguments.target or ["onnx-int8"]
    for folder in arguments.models:
        if not folder.is_dir():
            raise InputError(f"{folder} is no folder: name Sentence-Transformers folders")
    arguments.work.mkdir(parents=True, exist_ok=True)
    return arguments


if __name__ == "__main__":
    run(main)
