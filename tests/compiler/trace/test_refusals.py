"""What a user is told when torch's exporter gives up: `stcompile.compiler.trace.refusals`."""

from __future__ import annotations

import pytest
import torch

from stcompile.compiler.stack.load import load_stack
from stcompile.compiler.trace import refusals
from tests.conftest import MODELS
from tests.versions.table import pins


@pytest.mark.parametrize(("installed", "says"), [("2.9.1+cu128", True), ("2.13.0", False), ("2.14.1", False)])
def test_a_newer_torch_is_the_first_remedy_of_an_older_one(
    installed: str, says: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    route = load_stack(MODELS / "pool_mean").routes[""]
    monkeypatch.setattr(torch, "__version__", installed)
    said = refusals.why_not_traced(route, RuntimeError("8*s21 is not tracked with proxy"))
    assert said.startswith("torch's exporter cannot follow the network of its Transformer (bert), which ")
    assert (f"update torch, of which {installed} is installed, compile a model of another" in said) is says


def test_most_was_tried_with_the_pinned_torch() -> None:
    assert pins("constraints.txt")["torch"].startswith(f"{refusals.TRIED}.")
