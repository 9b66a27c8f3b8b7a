"""The server's own description: requests made from it, right ones and wrong ones, are answered as it says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from stcompile.server.app import ENDPOINTS
from tests.server.conftest import Address

EXAMPLES = "40"

# What a model takes depends on the model: a prompt or a length that it does not have is refused, as described.
OF_THE_MODEL = "positive_data_acceptance"


@pytest.mark.fuzzing
def test_what_is_described_is_what_is_answered(server: Address, tmp_path: Path) -> None:
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "run", f"{server.url}/openapi.json"),
        *("--checks", "all", "--exclude-checks", OF_THE_MODEL, "--max-examples", EXAMPLES, "--seed", "1"),
        *("--phases", "examples,coverage,fuzzing", "--generation-database", "none", "--no-color"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]


def test_every_path_is_described(server: Address) -> None:
    found = json.loads(server.ask("/openapi.json").body)
    assert {one.path for one in ENDPOINTS} <= set(found["paths"])
    for path in ("/info", "/health", "/metrics", "/v1/models"):
        assert "get" in found["paths"][path]
    for one in ENDPOINTS:
        answers = found["paths"][one.path]["post"]["responses"]
        assert {"200", "413", "422", "429", "503"} <= set(answers)
