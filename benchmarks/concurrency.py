"""What does a server gain by collecting concurrent callers?

So many callers on one event loop, each with one text at a time, through one `AsyncEncoder`; against the same texts
encoded one at a time, which is what a server without a queue does. Both in turns in this one process, without torch.
Latency is what a caller waits, and the 99th percentile of it is over all rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path
from typing import Any

from benchmarks._common import (
    at_least_one,
    machine_facts,
    parser,
    print_table,
    run,
    some_texts,
    spread_text,
    status,
    write_json,
)
from benchmarks._speeds import latency
from stcompile.compiler.timing import Spread, interleave, speedup
from stcompile.runtime.async_encoder import AsyncEncoder
from stcompile.runtime.encoder import Encoder

ALONE, TOGETHER = "one at a time", "AsyncEncoder"


def main() -> int:
    arguments = _arguments()
    texts = some_texts(arguments.texts, arguments.limit)
    machine = machine_facts()
    encoder = Encoder.load(arguments.artifact, threads=arguments.threads)
    waited: dict[str, list[float]] = {ALONE: [], TOGETHER: []}
    status(f"Timing {len(texts)} texts, {arguments.callers} callers, {arguments.rounds} rounds")
    timings = interleave(
        {
            ALONE: lambda: _alone(encoder, texts, waited[ALONE]),
            TOGETHER: lambda: asyncio.run(_together(encoder, texts, arguments, waited[TOGETHER])),
        },
        arguments.rounds,
    )
    rows: list[dict[str, Any]] = [
        {
            "who": name,
            "texts_per_second": round(len(texts) / Spread.of(timing.wall).median, 1),
            "ratio_wall": speedup(timings[ALONE].wall, timing.wall).to_dict(3),
            **latency(waited[name]),
        }
        for name, timing in timings.items()
    ]
    settings = {
        "target": encoder.artifact.manifest.target,
        "texts": arguments.texts.name,
        "count": len(texts),
        "callers": arguments.callers,
        "threads": encoder.threads,
        "rounds": arguments.rounds,
        "max_wait_ms": arguments.max_wait_ms,
    }
    print_table(
        f"{settings['target']}: {settings['callers']} callers of one text each, threads: {settings['threads']}",
        ("who", "texts/s", "x, wall (min-max)", "p50 ms", "p99 ms"),
        [
            (
                row["who"],
                f"{row['texts_per_second']:.0f}",
                spread_text(row["ratio_wall"]),
                f"{row['p50_ms']:.1f}",
                f"{row['p99_ms']:.1f}",
            )
            for row in rows
        ],
    )
    write_json(arguments.json, "concurrency", machine, settings, rows)
    return 0


def _arguments() -> argparse.Namespace:
    made = parser(__doc__, "python -m benchmarks.concurrency --artifact DIR --texts short.jsonl --json result.json")
    made.add_argument("--artifact", type=Path, required=True, metavar="DIR", help="what `stcompile export` wrote")
    made.add_argument("--texts", type=Path, required=True, metavar="FILE", help="one a line, or .jsonl, field text")
    made.add_argument("--limit", type=at_least_one, default=1000, help="take the first N texts (default: 1000)")
    made.add_argument("--callers", type=at_least_one, default=64, help="concurrent callers (default: 64)")
    made.add_argument("--threads", type=at_least_one, help="engine threads (default: the CPUs there are)")
    made.add_argument("--max-wait-ms", type=float, default=0.0, help="see AsyncEncoder (default: 0)")
    made.add_argument("--rounds", type=at_least_one, default=5, help="timed rounds (default: 5)")
    return made.parse_args()


def _alone(encoder: Encoder, texts: list[str], waited: list[float]) -> None:
    for text in texts:
        started = time.perf_counter()
        encoder.encode(text)
        waited.append(time.perf_counter() - started)


async def _together(encoder: Encoder, texts: list[str], arguments: argparse.Namespace, waited: list[float]) -> None:
    coming = iter(texts)

    async def caller(shared: AsyncEncoder) -> None:
        for text in coming:
            started = time.perf_counter()
            await shared.encode(text)
            waited.append(time.perf_counter() - started)

    async with AsyncEncoder(encoder, max_wait_ms=arguments.max_wait_ms) as shared:
        callers: list[Any] = [caller(shared) for _ in range(arguments.callers)]
        await asyncio.gather(*callers)


if __name__ == "__main__":
    run(main)
