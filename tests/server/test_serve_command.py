"""`stcompile serve`: what it is called with, and how it begins and ends."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from stcompile.errors import InputError
from stcompile.server.run import bound
from tests.cli.test_cli import Run, run  # noqa: F401


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["{embedder}", "other={embedder}", "{embedder}"], "two artifacts are called"),
        (["=x"], "cannot read '=x': pass ARTIFACT, or NAME=ARTIFACT"),
        (["{embedder}", "--max-queue", "0"], "max_queue must be a whole number of at least 1"),
        (["{embedder}", "--api-key-file", "/no/such/file"], "the API keys cannot be read"),
        (["{embedder}", "--host", "192.0.2.1", "--port", "0"], "cannot listen on 192.0.2.1, port 0"),
        (["/no/such/artifact", "--port", "0"], "/no/such/artifact"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    arguments: list[str],
    says: str,
    run: Run,  # noqa: F811
    artifacts: dict[str, Path],
) -> None:
    done = run("serve", *(text.format(**{name: str(path) for name, path in artifacts.items()}) for text in arguments))
    assert done.code == 2
    assert says in " ".join(done.err.split())


def test_it_begins_answers_and_ends(artifacts: dict[str, Path], tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("a-key\n", "utf-8")
    command = [sys.executable, "-m", "stcompile", "serve", f"one={artifacts['embedder']}", str(artifacts["reranker"])]
    blocked = "import sys; [sys.modules.update({name: None}) for name in ('torch', 'transformers', 'onnx')]"
    hook = tmp_path / "sitecustomize.py"
    hook.write_text(blocked, "utf-8")
    process = subprocess.Popen(
        [*command, "--port", "0", "--api-key-file", str(keys)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path.cwd())])},
    )
    assert process.stderr is not None
    try:
        before = ""
        while "listening on" not in before:
            line = process.stderr.readline()
            assert line, before
            before += line
        port = int(re.findall(r":(\d+)\n", before)[-1])
        asked = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/embeddings",
            json.dumps({"model": "one", "input": "a dog"}).encode(),
            {"authorization": "Bearer a-key", "content-type": "application/json"},
        )
        with urllib.request.urlopen(asked, timeout=60) as answer:
            assert len(json.load(answer)["data"]) == 1
    finally:
        process.send_signal(signal.SIGTERM)
        _, rest = process.communicate(timeout=60)
    assert process.returncode == 0, rest
    events = [json.loads(line) for line in rest.splitlines() if line.startswith("{")]
    assert [event["event"] for event in events] == ["listening", "request", "ended"]
    assert "a dog" not in rest
    assert "a-key" not in rest


def test_all_addresses_are_those_of_both_kinds() -> None:
    try:
        listening = bound("::", 0)
    except InputError:
        pytest.skip("this machine has no IPv6")
    with listening, socket.create_connection(("127.0.0.1", listening.getsockname()[1]), timeout=10):
        pass


def test_who_ends_it_while_it_loads_gets_no_error(artifacts: dict[str, Path], tmp_path: Path) -> None:
    hook = tmp_path / "sitecustomize.py"
    hook.write_text(_LOADS_FOR_EVER, "utf-8")
    command = [sys.executable, "-m", "stcompile", "serve", str(artifacts["embedder"]), "--port", "0"]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path.cwd())])},
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "loading\n"
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 0


_LOADS_FOR_EVER = """
import sys, time
import stcompile.runtime.loading

def load(*_, **__):
    print("loading", file=sys.stderr, flush=True)
    time.sleep(60)

stcompile.runtime.loading.load = load
"""
