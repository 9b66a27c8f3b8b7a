"""How much memory and CPU time does an export take, as a ratio to the model's weights?

Folders of the shape of real models, with seeded random weights, are exported in a process of their own each: its peak
of resident memory, that of it and its children together, and CPU seconds, step by step. What is above the memory of the
imports (left in a process that has exported a model of the same architecture with hardly any weights) is divided by the
size of the weights in float32. `--against DIR` measures another checkout of stcompile beside this one, by turns.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks._common import (
    REPOSITORY,
    at_least_one,
    last_line,
    limit_threads,
    machine_facts,
    model_folder,
    parser,
    print_table,
    run,
    status,
    write_json,
)
from stcompile.errors import InputError

CHILD = Path(__file__).with_name("_export.py")

# What may be above the imports, in weights.
PROMISED = {"onnx-fp32": 2.2, "onnx-int8": 3.0}

_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json")
_LIMIT = 512


def main() -> int:
    arguments = _arguments()
    if not Path("/proc/self/statm").is_file():
        raise InputError("resident memory is read from /proc, which this system does not have: run it on Linux")
    machine = machine_facts()
    checkouts = {"this": REPOSITORY}
    if arguments.against is not None:
        if not (arguments.against / "stcompile").is_dir():
            raise InputError(f"there is no stcompile in {arguments.against}: pass the root of a checkout")
        checkouts = {"against": arguments.against.resolve(), **checkouts}
    texts = None if arguments.texts is None else _some_probes(arguments.texts)
    results = []
    with tempfile.TemporaryDirectory(prefix="stcompile-benchmark-") as base:
        for name in arguments.shape or [*SHAPES]:
            folder, tiny = _folder(Path(base) / name, name), _folder(Path(base) / f"{name}-tiny", name, **_TINY)
            for target in arguments.target or [*PROMISED]:
                for who, checkout in checkouts.items():
                    status(f"{name} as {target}, {who}")
                    found = _measured(checkout, folder, tiny, target, texts)
                    results.append({"shape": name, "target": target, "who": who, **found})
    _print(results)
    settings = {"threads": arguments.threads, "parity_texts": arguments.texts or "all"}
    write_json(arguments.json, "export_cost", machine, settings, results)
    kept = all(item["ratio"] <= PROMISED.get(item["target"], 3.0) for item in results if item["who"] == "this")
    return 0 if kept else 1


def _arguments() -> argparse.Namespace:
    made = parser(__doc__, "python -m benchmarks.export_cost --shape bert-54m --against ../other-checkout")
    made.add_argument(
        "--shape", action="append", choices=[*SHAPES], help="of the model; may be repeated (default: all)"
    )
    made.add_argument(
        "--target", action="append", metavar="NAME", help=f"may be repeated (default: {', '.join(PROMISED)})"
    )
    made.add_argument("--against", type=Path, metavar="DIR", help="root of another checkout, measured by turns")
    made.add_argument(
        "--texts", type=at_least_one, metavar="N", help="judge parity on so many of the probe texts (default: all)"
    )
    made.add_argument("--threads", type=at_least_one, default=1, help="of torch and OpenMP (default: 1)")
    arguments = made.parse_args()
    limit_threads(arguments.threads)
    return arguments


def _bert_54m(**other: int) -> Any:
    from transformers import BertConfig  # noqa: PLC0415 - its threads must be set before

    return BertConfig(
        **{"hidden_size": 512, "num_hidden_layers": 12, "num_attention_heads": 8, "intermediate_size": 2048, **other}
    )


def _gte_modernbert(**other: int) -> Any:
    from transformers import ModernBertConfig  # noqa: PLC0415 - its threads must be set before

    return ModernBertConfig(**other)


# The same architecture with hardly any weights.
_TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}

SHAPES: Mapping[str, Callable[..., Any]] = {"bert-54m": _bert_54m, "gte-modernbert": _gte_modernbert}


def _folder(place: Path, name: str, **other: int) -> Path:
    """A Sentence-Transformers folder of the shape: mean pooling, the tokenizer of all-MiniLM-L6-v2."""
    import torch  # noqa: PLC0415 - its threads must be set before
    from transformers import AutoModel  # noqa: PLC0415

    from stcompile import ModuleStack  # noqa: PLC0415
    from stcompile.compiler.modules import Normalize, Pooling, Transformer  # noqa: PLC0415
    from stcompile.compiler.stack.save import save_stack  # noqa: PLC0415

    network = place.with_name(f"{place.name}-network")
    torch.manual_seed(0)
    AutoModel.from_config(SHAPES[name](**other)).save_pretrained(network)
    for file in _TOKENIZER:
        shutil.copy(model_folder(None) / file, network)
    front = Transformer(network, max_seq_length=_LIMIT)
    save_stack(ModuleStack([front, Pooling(front.hidden_size, "mean"), Normalize()]), place)
    shutil.rmtree(network)
    return place


def _some_probes(count: int) -> list[str]:
    """An even sample."""
    from stcompile.compiler.parity.probes import probe_texts  # noqa: PLC0415

    texts = probe_texts()
    return texts[:: max(1, len(texts) // count)][:count]


def _measured(checkout: Path, model: Path, tiny: Path, target: str, texts: list[str] | None) -> dict[str, Any]:
    found = _child(checkout, {"model": str(model), "target": target, "texts": texts})
    # Two texts are enough to import everything.
    imports = _child(checkout, {"model": str(tiny), "target": target, "texts": _some_probes(2)})["left_mb"]
    weights = sum(path.stat().st_size for path in model.rglob("*.safetensors")) / 1e6
    own, tree = found.pop("peak_mb"), found.pop("tree_peak_mb")
    return {
        "weights_mb": round(weights, 1),
        "imports_mb": round(imports, 1),
        "peak_mb": round(own, 1),
        "tree_peak_mb": round(tree, 1),
        "ratio": round((own - imports) / weights, 2),
        "tree_ratio": round((tree - imports) / weights, 2),
        **found,
    }


def _child(checkout: Path, job: dict[str, Any]) -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    command = [sys.executable, str(CHILD), json.dumps(job)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=checkout)
    if done.returncode:
        raise InputError(f"the measured process failed: {last_line(done.stderr)}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _print(results: list[dict[str, Any]]) -> None:
    print_table(
        "memory and CPU time of exports",
        ("shape", "target", "checkout", "weights MB", "imports MB", "peak MB", "x weights", "with children", "CPU s"),
        [
            (
                item["shape"],
                item["target"],
                item["who"],
                f"{item['weights_mb']:.0f}",
                f"{item['imports_mb']:.0f}",
                f"{item['peak_mb']:.0f}",
                f"{item['ratio']:.2f}",
                f"{item['tree_ratio']:.2f}",
                f"{sum(item['cpu_seconds'].values()):.0f}",
            )
            for item in results
        ],
        [f"promised above the imports, in weights: {', '.join(f'{k} {v}' for k, v in PROMISED.items())}"],
    )
    for item in results:
        print_table(
            f"{item['shape']} as {item['target']}, {item['who']}",
            ("step", "peak MB", "CPU s"),
            [
                (name, f"{phase['peak_mb']:.0f}", f"{phase.get('cpu_seconds', 0):.1f}")
                for name, phase in item["phases"].items()
            ],
        )


if __name__ == "__main__":
    run(main)
