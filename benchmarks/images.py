"""How many images a second does an image tower encode, beside sentence-transformers on torch?

From images of Pillow in memory to vectors, resizing included, both in this process and in turns: what counts is the
ratio within a round. Pictures are drawn from a seed, of many sizes up to 512x384. Artifacts are of the model's folder.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from PIL import Image

import stcompile
from benchmarks._common import (
    at_least_one,
    given_artifacts,
    machine_facts,
    parser,
    print_table,
    run,
    status,
    write_json,
)
from benchmarks._common import sentence_transformer as opened_in_torch
from stcompile.compiler.pictures import drawn
from stcompile.errors import InputError
from stcompile.runtime.cpus import available_cpus

_SEED = 5
_REFERENCE = "torch"


def main() -> int:
    arguments = _arguments()
    machine = machine_facts()
    pictures = [Image.fromarray(picture.pixels) for picture in drawn(arguments.images, _SEED)]
    artifacts = given_artifacts(arguments.artifact, arguments.model)
    for artifact in artifacts:
        if artifact.manifest.image is None:
            raise InputError(f"{artifact.folder} has no image tower: export it without --modalities text")
    reference = opened_in_torch(arguments.model)
    rows: list[dict[str, Any]] = []
    for threads in dict.fromkeys((1, available_cpus())):
        torch.set_num_threads(threads)
        encoders = {item.manifest.target: stcompile.load(item.folder, threads=threads) for item in artifacts}
        contenders: dict[str, Callable[[], Any]] = {
            _REFERENCE: partial(reference.encode, pictures, show_progress_bar=False),
            **{name: partial(encoder.encode, pictures) for name, encoder in encoders.items()},
        }
        status(f"Encoding {len(pictures)} images, {threads} thread(s), {arguments.rounds} rounds")
        walls = _timed(contenders, arguments.rounds)
        for who, seconds in walls.items():
            ratios = [torchs / own for torchs, own in zip(walls[_REFERENCE], seconds, strict=True)]
            rows.append(
                {
                    "threads": threads,
                    "who": who,
                    "images_per_second": round(len(pictures) / median(seconds), 2),
                    "ratio_to_torch": {
                        "median": round(float(median(ratios)), 3),
                        "low": round(min(ratios), 3),
                        "high": round(max(ratios), 3),
                    },
                }
            )
    print_table(
        f"{arguments.model.name}, {len(pictures)} images",
        ("who", "threads", "images/s", f"x {_REFERENCE}"),
        [
            (
                row["who"],
                str(row["threads"]),
                f"{row['images_per_second']:.1f}",
                "{median:.2f} ({low:.2f}-{high:.2f})".format(**row["ratio_to_torch"]),
            )
            for row in rows
        ],
    )
    settings = {"model": arguments.model.name, "images": len(pictures), "rounds": arguments.rounds, "seed": _SEED}
    write_json(arguments.json, "images", machine, settings, {"speed": rows})
    return 0


def _timed(contenders: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each in every round, whose order rotates; one round before is not counted."""
    walls: dict[str, list[float]] = {who: [] for who in contenders}
    names = itertools.cycle(contenders)
    for number in range(rounds + 1):
        for who in itertools.islice(names, len(contenders)):
            start = time.perf_counter()
            contenders[who]()
            if number:
                walls[who].append(time.perf_counter() - start)
        next(names)
    return walls


def _arguments() -> argparse.Namespace:
    made = parser(__doc__, "python -m benchmarks.images --model clip --artifact clip-fp32 clip-int8 --json images.json")
    made.add_argument("--model", type=Path, metavar="DIR", required=True, help="folder of a model with an image tower")
    made.add_argument("--artifact", type=Path, metavar="DIR", nargs="+", required=True, help="artifacts of it")
    made.add_argument("--images", type=at_least_one, default=64, help="how many (default: 64)")
    made.add_argument("--rounds", type=at_least_one, default=5, help="timed rounds (default: 5)")
    return made.parse_args()


if __name__ == "__main__":
    run(main)
