"""How much memory does a text take, over its length, and is it given back?

A network with seeded weights that takes 8,192 tokens, in sentence-transformers and in our targets. Each contender runs
in a fresh process: it loads, encodes one short text (idle), and then one text of each length; what was resident at most
and what is resident afterwards are read from /proc. `--large` has XLM-R-large's shape (16 heads, 1,024 wide,
24 layers, 250,002 tokens; 2.2 GB of weights, some 12 GB for the export). The ratios are of the whole process's peak to
that of sentence-transformers. Exits with 1 where one is above 1.3, or more than 50 MB are kept.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks._common import (
    at_least_one,
    last_line,
    machine_facts,
    model_folder,
    parser,
    print_table,
    pyplot,
    run,
    save_plot,
    sentence_transformer,
    status,
    write_json,
)
from stcompile.errors import InputError

_TARGETS = ("onnx-fp32", "onnx-int8", "openvino-fp32")
_REFERENCE = "sentence-transformers"
_LIMIT = 8192
_LENGTHS = (512, 1024, 2048, 4096, 8192)
_MOST_RATIO, _MOST_KEPT_MB = 1.3, 50.0

# Vocabulary, hidden size, layers, intermediate size.
_SMALL, _LARGE = (30_522, 256, 2, 1024), (250_002, 1024, 24, 4096)


def main() -> int:
    arguments = _arguments()
    if arguments.job is not None:
        name, place = arguments.job
        sys.stdout.write(json.dumps(_measured(name, place, arguments.lengths, arguments.threads)))
        return 0
    if arguments.plot is not None:
        pyplot()
    if not Path("/proc/self/clear_refs").is_file():
        raise InputError("resident memory is read from /proc, which this system does not have: run it on Linux")
    machine = machine_facts()
    with tempfile.TemporaryDirectory(prefix="stcompile-benchmark-") as folder:
        places = _made(Path(folder), _LARGE if arguments.large else _SMALL, arguments.targets)
        found = {name: _in_a_process(name, place, arguments) for name, place in places.items()}
    ratios = {
        name: [
            round(ours["peak_mb"] / theirs["peak_mb"], 2) for ours, theirs in zip(rows, found[_REFERENCE], strict=True)
        ]
        for name, rows in found.items()
    }
    settings = {"shape": "XLM-R-large" if arguments.large else "small", "heads": 16, "threads": arguments.threads}
    table = []
    for name, rows in found.items():
        cells = zip(rows, ratios[name], strict=True)
        table.append((name, *(f"{row['peak_mb']:.0f} ({ratio:.2f}; {row['kept_mb']:+.0f})" for row, ratio in cells)))
    print_table(
        f"{settings['shape']} shape, 16 heads: peak MB of one text (times {_REFERENCE}; kept afterwards)",
        ("", *(f"{length} tokens" for length in arguments.lengths)),
        table,
    )
    write_json(arguments.json, "memory_over_length", machine, settings, {"runs": found, "ratios": ratios})
    if arguments.plot is not None:
        _plot(found, arguments.plot, f"{settings['shape']} shape, 16 heads, one text; {machine['cpu']}")
    ours = [name for name in found if name != _REFERENCE]
    too_much = any(ratio > _MOST_RATIO for name in ours for ratio in ratios[name])
    kept = any(row["kept_mb"] > _MOST_KEPT_MB for name in ours for row in found[name])
    return int(too_much or kept)


def _arguments() -> argparse.Namespace:
    made = parser(__doc__, "python -m benchmarks.memory_over_length --plot memory_over_length.png")
    made.add_argument("--large", action="store_true", help="XLM-R-large's shape instead of two small layers")
    made.add_argument("--targets", nargs="+", default=list(_TARGETS), help=f"default: {' '.join(_TARGETS)}")
    made.add_argument("--lengths", nargs="+", type=at_least_one, default=list(_LENGTHS), help="tokens, up to 8192")
    made.add_argument("--threads", type=at_least_one, default=2, help="engine threads (default: 2)")
    made.add_argument("--plot", type=Path, metavar="FILE", help="also draw it; needs matplotlib")
    made.add_argument("--job", nargs=2, help=argparse.SUPPRESS)
    return made.parse_args()


def _made(root: Path, shape: tuple[int, int, int, int], targets: list[str]) -> dict[str, Path]:
    """The model's folder, and an artifact of it for each target."""
    import torch  # noqa: PLC0415 - not in the measured processes
    from transformers import AutoTokenizer, XLMRobertaConfig, XLMRobertaModel  # noqa: PLC0415

    from stcompile import ModuleStack, export_model  # noqa: PLC0415
    from stcompile.compiler.modules import Pooling, Transformer  # noqa: PLC0415
    from stcompile.compiler.stack.save import save_stack  # noqa: PLC0415

    status("Making the model")
    vocabulary, hidden, layers, wide = shape
    torch.manual_seed(0)
    config = XLMRobertaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=16,
        intermediate_size=wide,
        max_position_embeddings=_LIMIT + 2,
        pad_token_id=0,
        type_vocab_size=1,
    )
    XLMRobertaModel(config, add_pooling_layer=False).save_pretrained(root / "network")
    tokenizer = AutoTokenizer.from_pretrained(str(model_folder(None)))
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    tokenizer.save_pretrained(str(root / "network"))
    front = Transformer(str(root / "network"), max_seq_length=_LIMIT)
    save_stack(ModuleStack([front, Pooling(hidden, "cls")]), str(root / "model"))
    places = {_REFERENCE: root / "model"}
    for target in targets:
        status(f"Compiling {target}")
        places[target] = root / target
        export_model(root / "model", places[target], target)
    return places


def _in_a_process(name: str, place: Path, arguments: argparse.Namespace) -> list[dict[str, float]]:
    status(f"Measuring {name}")
    command = [sys.executable, "-m", "benchmarks.memory_over_length", "--job", name, str(place)]
    command += ["--threads", str(arguments.threads), "--lengths", *map(str, arguments.lengths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"measuring {name} failed: {last_line(done.stderr)}")
    found: list[dict[str, float]] = json.loads(done.stdout)
    return found


def _measured(name: str, place: str, lengths: list[int], threads: int) -> list[dict[str, float]]:
    """In the fresh process: what is resident, in MB, of one text of each length."""
    encoder: Any
    if name == _REFERENCE:
        import torch  # noqa: PLC0415 - what is measured

        torch.set_num_threads(threads)
        encoder = sentence_transformer(Path(place))
    else:
        from stcompile.runtime.encoder import Encoder  # noqa: PLC0415 - what is measured

        encoder = Encoder.load(place, threads=threads)
    encoder.encode(["a short text"])
    idle = _memory("VmRSS")
    rows = []
    for length in lengths:
        # The most that was resident counts anew from here.
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        encoder.encode([" ".join(["the"] * (length - 2))])
        rows.append(
            {
                "tokens": length,
                "idle_mb": idle,
                "peak_mb": _memory("VmHWM"),
                "kept_mb": round(_memory("VmRSS") - idle, 1),
            }
        )
    return rows


def _memory(which: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return round(int(next(line for line in lines if line.startswith(which)).split()[1]) * 1024 / 1e6, 1)


def _plot(found: dict[str, list[dict[str, float]]], path: Path, title: str) -> None:
    figure, axes = pyplot().subplots(1, 2, figsize=(9, 3.2), sharey=True)
    for name, rows in found.items():
        tokens = [row["tokens"] for row in rows]
        axes[0].plot(tokens, [row["peak_mb"] - row["idle_mb"] for row in rows], marker="o", label=name)
        axes[1].plot(tokens, [row["kept_mb"] for row in rows], marker="o", label=name)
    for axis, label in zip(axes, ("most, MB above idle", "afterwards, MB above idle"), strict=True):
        axis.set_xlabel("tokens of the text")
        axis.set_ylabel(label)
    axes[0].legend(frameon=False, fontsize=8)
    save_plot(figure, tuple(axes), title, path)


if __name__ == "__main__":
    run(main)
