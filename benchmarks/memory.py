"""How much memory does a long run take, and does it grow?

A fresh process loads the artifact, without torch, and encodes many different texts: each of the file's texts again and
again, with a number behind it so that no two are equal. Its resident memory is sampled all the while. The limit is on
the peak above the loaded model; with `--keep` the vectors are kept in one array, as `encode` returns them, without it
they are streamed through `encode_iter` and dropped. Exits with 1 when the limit is passed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks._common import (
    at_least_one,
    machine_facts,
    parser,
    print_table,
    pyplot,
    require_file,
    run,
    save_plot,
    write_json,
)
from stcompile.cli.textfiles import read_texts
from stcompile.errors import InputError

_SAMPLES_A_SECOND = 10
_SAMPLES_KEPT = 400


def main() -> int:
    arguments = _arguments()
    if arguments.job:
        sys.stdout.write(json.dumps(_measured(arguments)))
        return 0
    if arguments.plot is not None:
        pyplot()
    if not Path("/proc/self/statm").is_file():
        raise InputError("resident memory is read from /proc, which this system does not have: run it on Linux")
    machine = machine_facts()
    command = [sys.executable, "-m", "benchmarks.memory", *sys.argv[1:], "--job"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise InputError(f"the measured process ended with {done.returncode}")
    found = json.loads(done.stdout)
    settings = {
        "texts": arguments.texts.name,
        "count": arguments.count,
        "keep": arguments.keep,
        "threads": arguments.threads,
        "limit_mb": arguments.limit_mb,
    }
    _print(found, settings)
    write_json(arguments.json, "memory", machine, settings, found)
    if arguments.plot is not None:
        _plot(found, arguments.plot, f"{found['target']}, {arguments.count} texts; {machine['cpu']}")
    return 1 if found["peak_mb"] - found["loaded_mb"] > arguments.limit_mb else 0


def _arguments() -> argparse.Namespace:
    made = parser(__doc__, "python -m benchmarks.memory --artifact DIR --texts mixed.jsonl --count 200000 --keep")
    made.add_argument("--artifact", type=Path, required=True, metavar="DIR", help="what `stcompile export` wrote")
    made.add_argument("--texts", type=Path, required=True, metavar="FILE", help="one a line, or .jsonl, field text")
    made.add_argument("--count", type=at_least_one, default=200_000, help="texts to encode (default: 200000)")
    made.add_argument("--keep", action="store_true", help="keep all vectors, as encode does, instead of streaming")
    made.add_argument("--threads", type=at_least_one, help="engine threads (default: the CPUs there are)")
    made.add_argument("--limit-mb", type=at_least_one, default=400, help="above the loaded model (default: 400)")
    made.add_argument("--plot", type=Path, metavar="FILE", help="also draw memory over time; needs matplotlib")
    made.add_argument("--job", action="store_true", help=argparse.SUPPRESS)
    return made.parse_args()


def _measured(arguments: argparse.Namespace) -> dict[str, Any]:
    """In the fresh process: what was resident before, during and after."""
    from stcompile.runtime.encoder import Encoder  # noqa: PLC0415 - what is measured

    texts = read_texts(str(require_file(arguments.texts, "the text file")))
    encoder = Encoder.load(arguments.artifact, threads=arguments.threads)
    encoder.encode(texts[: 64 * encoder.threads])  # every engine is open and has run
    wanted = list(_numbered(texts, arguments.count)) if arguments.keep else None
    samples: list[tuple[float, float]] = []
    stop = threading.Event()
    loaded = _resident()
    started = time.perf_counter()

    def sample() -> None:
        while not stop.wait(1 / _SAMPLES_A_SECOND):
            samples.append((round(time.perf_counter() - started, 2), round(_resident(), 1)))

    watcher = threading.Thread(target=sample)
    watcher.start()
    if wanted is None:
        for _ in encoder.encode_iter(_numbered(texts, arguments.count)):
            pass
    else:
        encoder.encode(wanted)
    seconds = time.perf_counter() - started
    stop.set()
    watcher.join()
    step = max(1, len(samples) // _SAMPLES_KEPT)
    half = [memory for second, memory in samples if second > seconds / 2]
    return {
        "target": encoder.artifact.manifest.target,
        "loaded_mb": round(loaded, 1),
        "peak_mb": max(memory for _, memory in samples),
        "growth_in_second_half_mb": round(half[-1] - half[0], 1),
        "seconds": round(seconds, 1),
        "texts_per_second": round(arguments.count / seconds, 1),
        "samples": samples[::step],
    }


def _numbered(texts: list[str], count: int) -> Iterator[str]:
    for index, text in zip(range(count), itertools.cycle(texts), strict=False):
        yield f"{text} {index}"


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 1e6


def _print(found: dict[str, Any], settings: dict[str, Any]) -> None:
    how = "kept" if settings["keep"] else "streamed"
    print_table(
        f"{found['target']}: {settings['count']} texts of {settings['texts']}, {how}",
        ("resident memory", "MB"),
        [
            ("model loaded", f"{found['loaded_mb']:.0f}"),
            ("peak", f"{found['peak_mb']:.0f}"),
            (f"above the model (limit {settings['limit_mb']})", f"{found['peak_mb'] - found['loaded_mb']:.0f}"),
            ("growth in the second half", f"{found['growth_in_second_half_mb']:.0f}"),
            ("texts/s", f"{found['texts_per_second']:.0f}"),
        ],
    )


def _plot(found: dict[str, Any], path: Path, title: str) -> None:
    plt = pyplot()
    figure, axis = plt.subplots(figsize=(8, 3))
    axis.plot([second for second, _ in found["samples"]], [memory for _, memory in found["samples"]], color="#4878a8")
    axis.axhline(found["loaded_mb"], color="#9a9a9a", linewidth=0.8, label="model loaded")
    axis.set_ylim(bottom=0)
    axis.set_xlabel("seconds")
    axis.set_ylabel("resident, MB")
    axis.legend(frameon=False, fontsize=8)
    save_plot(figure, (axis,), title, path)


if __name__ == "__main__":
    run(main)
