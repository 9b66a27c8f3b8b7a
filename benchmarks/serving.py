"""How many requests a second does the server answer, how long do clients wait, and does its memory stay flat?

`stcompile serve` beside infinity's server (`infinity_emb v2`) with the same model on the same CPUs, each a process of
its own that is asked in turns by `wrk`, one text a request; and beside `AsyncEncoder` in a process without HTTP. wrk
shares the CPUs with the server. A request that failed is exit code 1.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks._common import (
    add_model_option,
    at_least_one,
    machine_facts,
    model_folder,
    parser,
    print_table,
    pyplot,
    run,
    some_texts,
    status,
    write_json,
)
from benchmarks.peers.environments import python_of
from stcompile.compiler.export import export_model
from stcompile.errors import InputError

CLIENTS = (64, 512)

# A server may take so long to load a model, torch and all.
_SECONDS_TO_START = 180

# Times infinity's requests that are promised, and the share of what AsyncEncoder alone does.
PROMISED, PROMISED_SHARE = 1.8, 0.85

_SCRIPT = """
local bodies, place = {}, 0
function init(args)
  for line in io.lines(args[1]) do bodies[#bodies + 1] = line end
  place = math.random(#bodies)
end
function request()
  place = place % #bodies + 1
  return wrk.format("POST", nil, {["Content-Type"] = "application/json"}, bodies[place])
end
function done(summary, latency, requests)
  local failed = summary.errors
  io.write(string.format(
    '\\nRESULT {"requests": %d, "seconds": %f, "p50": %f, "p99": %f, "failed": %d}\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    failed.connect + failed.read + failed.write + failed.status + failed.timeout))
end
"""

# AsyncEncoder with so many callers, each with one text at a time: what HTTP costs is the difference.
_ALONE = """
import asyncio, json, sys, time
import stcompile

async def main(encoder, texts, clients, seconds):
    count, waited = 0, []
    until = time.perf_counter() + seconds
    async def client(place):
        nonlocal count
        while time.perf_counter() < until:
            begun = time.perf_counter()
            await shared.encode(texts[place % len(texts)])
            waited.append(time.perf_counter() - begun)
            place, count = place + clients, count + 1
    async with stcompile.AsyncEncoder(encoder) as shared:
        begun = time.perf_counter()
        await asyncio.gather(*(client(place) for place in range(clients)))
        took = time.perf_counter() - begun
    waited.sort()
    p50, p99 = (1000 * waited[int(len(waited) * share)] for share in (0.5, 0.99))
    print(json.dumps({"requests": count, "seconds": took, "p50": p50, "p99": p99, "failed": 0}))

encoder = stcompile.load(sys.argv[1])
texts = [json.loads(line)["input"] for line in open(sys.argv[2], encoding="utf-8")]
encoder.encode(texts)
asyncio.run(main(encoder, texts, int(sys.argv[3]), float(sys.argv[4])))
"""


@dataclass(frozen=True)
class Contender:
    """A server: how it is started, its path, and where; without a path, what runs without HTTP."""

    command: tuple[str, ...]
    path: str
    folder: Path | None = None


def main() -> int:
    arguments = _arguments()
    if shutil.which("wrk") is None:
        raise InputError("the load comes from wrk, which is not installed: apt-get install wrk")
    if arguments.plot is not None:
        pyplot()
    sets = {name: some_texts(getattr(arguments, name), 256) for name in ("short", "mixed")}
    model = model_folder(arguments.model)
    contenders = _contenders(model, arguments.work.resolve(), arguments.only)
    machine = machine_facts()
    rows: list[dict[str, Any]] = []
    memory: dict[str, list[int]] = {}
    with tempfile.TemporaryDirectory(prefix="stcompile-serving-") as scratch, contextlib.ExitStack() as stack:
        script = Path(scratch) / "requests.lua"
        script.write_text(_SCRIPT, encoding="utf-8")
        running = {}
        for name, contender in contenders.items():
            status(f"Starting {name}")
            running[name] = stack.enter_context(_started(contender, model.name))
        for text_set, texts in sets.items():
            bodies = Path(scratch) / f"{text_set}.jsonl"
            for clients in CLIENTS:
                rows += _cell(running, contenders, bodies, texts, text_set, clients, arguments, script, memory)
    _print(rows)
    settings = {
        "model": model.name,
        "seconds": arguments.seconds,
        "rounds": arguments.rounds,
        "promised": {"times_infinity": PROMISED, "of_async_encoder": PROMISED_SHARE},
    }
    write_json(arguments.json, "serving", machine, settings, {"rows": rows, "memory_mb": memory})
    if arguments.plot is not None:
        _plot(rows, memory, arguments.plot)
    return 1 if any(row["failed"] for row in rows if row["who"].startswith("stcompile")) else 0


def _arguments() -> argparse.Namespace:
    made = parser(__doc__, "python -m benchmarks.serving --work ~/peers --short short.jsonl --mixed mixed.jsonl")
    add_model_option(made)
    made.add_argument("--work", metavar="DIR", type=Path, required=True, help="where environments and models are kept")
    made.add_argument("--short", metavar="FILE", type=Path, required=True, help="short texts: one a line, or .jsonl")
    made.add_argument("--mixed", metavar="FILE", type=Path, required=True, help="mixed texts")
    made.add_argument("--seconds", type=at_least_one, default=20, help="of a round (default: 20)")
    made.add_argument("--rounds", type=at_least_one, default=3, help="of each, in turns (default: 3)")
    made.add_argument("--only", metavar="WORD", action="append", default=[], help="contenders with this in their name")
    made.add_argument("--plot", metavar="FILE", type=Path, help="also draw the table; needs matplotlib")
    return made.parse_args()


def _contenders(model: Path, work: Path, only: Sequence[str]) -> dict[str, Contender]:
    """Compiles ours, and makes what infinity reads where it is not there yet: see `benchmarks.peers`."""
    found = {}
    for target in ("onnx-int8", "onnx-fp32"):
        folder = work / "models" / model.name / target
        if not folder.is_dir():
            status(f"Compiling {target}")
            export_model(model, folder, target)
        serve = (sys.executable, "-m", "stcompile", "serve", f"{model.name}={folder}", "--no-log-requests")
        found[f"stcompile {target}"] = Contender((*serve, "--port", "{port}"), "/v1/embeddings")
        found[f"AsyncEncoder {target}"] = Contender((str(folder),), "")
    infinity = python_of("infinity", work / "environments").with_name("infinity_emb")
    plain = (str(infinity), "v2", "--device", "cpu", "--port", "{port}", "--host", "127.0.0.1", "--no-compile")
    named = ("--served-model-name", model.name, "--no-model-warmup")
    found["infinity"] = Contender(
        (*plain, "--engine", "torch", "--no-bettertransformer", "--model-id", str(model), *named), "/embeddings"
    )
    graph = work / "models" / model.name / "infinity"
    if graph.is_dir():
        # In the folder itself: under another name it looks for the graph elsewhere.
        optimum = ("--engine", "optimum", "--pooling-method", "mean", "--model-id", ".")
        found["infinity, ONNX"] = Contender((*plain, *optimum, *named), "/embeddings", graph)
    else:
        status("infinity's ONNX engine is left out: python -m benchmarks.peers --only infinity makes what it reads")
    return {name: one for name, one in found.items() if not only or any(word in name for word in only)}


@contextlib.contextmanager
def _started(contender: Contender, model: str) -> Iterator[tuple[int, int]]:
    """A server's process and port, until the end; of what has no HTTP nothing."""
    if not contender.path:
        yield 0, 0
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [part.format(port=port) for part in contender.command]
    environment = {**os.environ, "DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0", "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, env=environment, cwd=contender.folder)
        try:
            body = json.dumps({"model": model, "input": "a first text"}).encode()
            url = f"http://127.0.0.1:{port}{contender.path}"
            until = time.monotonic() + _SECONDS_TO_START
            while not _answers(url, body):
                if process.poll() is not None or time.monotonic() > until:
                    said.seek(0)
                    raise InputError(f"{command[0]} does not answer: {said.read()[-600:]}")
                time.sleep(0.5)
            yield process.pid, port
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _answers(url: str, body: bytes) -> bool:
    asked = urllib.request.Request(url, body, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _cell(
    running: dict[str, tuple[int, int]],
    contenders: dict[str, Contender],
    bodies: Path,
    texts: list[str],
    text_set: str,
    clients: int,
    arguments: argparse.Namespace,
    script: Path,
    memory: dict[str, list[int]],
) -> list[dict[str, Any]]:
    """All contenders with one set of texts and number of clients, in turns."""
    model = model_folder(arguments.model).name
    bodies.write_text("".join(json.dumps({"model": model, "input": text}) + "\n" for text in texts), encoding="utf-8")
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in contenders}
    names = list(contenders)
    for number in range(arguments.rounds):
        status(f"{text_set} texts, {clients} clients, round {number + 1} of {arguments.rounds}")
        for name in names[number % len(names) :] + names[: number % len(names)]:
            pid, port = running[name]
            if port:
                url = f"http://127.0.0.1:{port}{contenders[name].path}"
                with _watched(pid, memory.setdefault(name, [])):
                    found[name].append(_load(url, clients, arguments.seconds, script, bodies))
            else:
                found[name].append(_alone(contenders[name].command[0], clients, arguments.seconds, bodies))
    rates = {name: [one["requests"] / one["seconds"] for one in given] for name, given in found.items()}
    rows = []
    for name, given in found.items():
        target = name.rpartition(" ")[2]
        peers = [who for who in rates if who.startswith("infinity")]
        fastest = max(peers, key=lambda who: median(rates[who])) if peers else None
        alone = f"AsyncEncoder {target}"
        rows.append(
            {
                "texts": text_set,
                "clients": clients,
                "who": name,
                "requests_per_second": round(median(rates[name]), 1),
                "p50_ms": round(median(one["p50"] for one in given), 1),
                "p99_ms": round(median(one["p99"] for one in given), 1),
                "failed": sum(one["failed"] for one in given),
                "fastest_peer": fastest,
                "ratio_to_it": None if fastest is None else _ratio(rates[name], rates[fastest]),
                "of_async_encoder": _ratio(rates[name], rates[alone]) if alone in rates else None,
            }
        )
    return rows


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return round(median(one / other for one, other in zip(ours, theirs, strict=True)), 3)


def _load(url: str, clients: int, seconds: int, script: Path, bodies: Path) -> dict[str, Any]:
    command = [
        "wrk",
        "-t1",
        f"-c{clients}",
        f"-d{seconds}s",
        "--timeout",
        "60s",
        "-s",
        str(script),
        url,
        "--",
        str(bodies),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"^RESULT (.*)$", done.stdout, re.MULTILINE)
    assert found is not None, done.stdout
    result: dict[str, Any] = json.loads(found[1])
    return result


def _alone(artifact: str, clients: int, seconds: int, bodies: Path) -> dict[str, Any]:
    command = [sys.executable, "-c", _ALONE, artifact, str(bodies), str(clients), str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


@contextlib.contextmanager
def _watched(pid: int, seen: list[int]) -> Iterator[None]:
    """Notes what a process holds, in megabytes, once a second."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(1):
            seen.append(_megabytes(pid))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _megabytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    found = re.search(r"VmRSS:\s+(\d+)", lines)
    return int(found[1]) >> 10 if found else 0


def _print(rows: list[dict[str, Any]]) -> None:
    for text_set, clients in dict.fromkeys((row["texts"], row["clients"]) for row in rows):
        shown = [
            (
                row["who"],
                f"{row['requests_per_second']:.0f}",
                f"{row['p50_ms']:.0f}",
                f"{row['p99_ms']:.0f}",
                "" if row["ratio_to_it"] is None else f"{row['ratio_to_it']:.2f}",
                "" if row["of_async_encoder"] is None else f"{row['of_async_encoder']:.2f}",
                str(row["failed"]),
            )
            for row in rows
            if (row["texts"], row["clients"]) == (text_set, clients)
        ]
        head = ("who", "requests/s", "p50 ms", "p99 ms", "x infinity", "of AsyncEncoder", "failed")
        print_table(f"{text_set} texts, {clients} clients", head, shown, ())


def _plot(rows: list[dict[str, Any]], memory: dict[str, list[int]], file: Path) -> None:
    plt = pyplot()
    cells = list(dict.fromkeys((row["texts"], row["clients"]) for row in rows))
    names = [row["who"] for row in rows if (row["texts"], row["clients"]) == cells[0]]
    figure, axes = plt.subplots(1, 3, figsize=(16, 4.5), layout="constrained")
    for axis, what, label in zip(
        axes[:2], ("requests_per_second", "p99_ms"), ("requests a second", "p99 in ms (log)"), strict=True
    ):
        for index, name in enumerate(names):
            values = [row[what] for row in rows if row["who"] == name]
            axis.bar(
                [place + index / (len(names) + 1) for place in range(len(cells))],
                values,
                1 / (len(names) + 1),
                label=name,
            )
        axis.set_xticks(
            [place + 0.4 for place in range(len(cells))], [f"{text_set}, {clients}" for text_set, clients in cells]
        )
        axis.set_ylabel(label)
        axis.set_yscale("log")
    axes[0].legend(fontsize=8)
    for name, megabytes in memory.items():
        axes[2].plot(megabytes, label=name)
    axes[2].set_xlabel("seconds under load, one cell after the other")
    axes[2].set_ylabel("resident memory in MB")
    axes[2].set_ylim(bottom=0)
    axes[2].legend(fontsize=8)
    figure.savefig(file, dpi=120)


if __name__ == "__main__":
    run(main)
