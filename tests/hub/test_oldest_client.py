"""The hub's client in its oldest declared release, whose errors have other names."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.apart import run_apart
from tests.conftest import Compiled

OLDEST = "0.34.0"


@pytest.mark.clients
def test_artifacts_are_fetched_by_it(compiled: Compiled, tmp_path: Path) -> None:
    script = Path(__file__).parent / "scripts" / "oldest_client.py"
    packages = (f"huggingface_hub=={OLDEST}", "pyyaml")
    run_apart(script, packages, [str(compiled("normalize")), OLDEST], tmp_path, ours=True)


def test_it_is_the_oldest_that_is_declared() -> None:
    declared = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert declared.count(f'"huggingface-hub>={OLDEST.removesuffix(".0")}"') == 2
