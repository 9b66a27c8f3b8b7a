"""The fuzz targets run, and what should not happen is noticed; the page has what was run."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import stcompile
from reliability import page
from reliability.faults import FAULTS
from reliability.fuzz.changes import Provider, changed_bytes, changed_json
from reliability.fuzz.run import fuzzed
from reliability.fuzz.targets import REFUSED, TARGETS, WORKED, Target, outcome_of
from stcompile.errors import InputError

# Enough to see that a target takes changes and that not all of them are refused or accepted.
RUNS = 60

needs_atheris = pytest.mark.skipif(find_spec("atheris") is None, reason="atheris has no wheel for this machine")


class Chosen:
    """A provider that always decides the same."""

    def ConsumeIntInRange(self, low: int, high: int) -> int:
        return min(high, low + 1)

    def ConsumeBytes(self, count: int) -> bytes:
        return b"\xff" * count

    def ConsumeUnicode(self, count: int) -> str:
        return "?" * count

    ConsumeUnicodeNoSurrogates = ConsumeUnicode

    def remaining_bytes(self) -> int:
        return 0


class Planted(Target):
    about = "a fault of ours"

    def __init__(self, raised: Exception | None) -> None:
        self._raised = raised

    def attempt(self, data: Provider) -> None:
        if self._raised is not None:
            raise self._raised


def test_an_outcome_is_a_result_a_refusal_or_raised() -> None:
    assert outcome_of(Planted(None), Chosen()) == WORKED
    assert outcome_of(Planted(InputError("cut it")), Chosen()) == REFUSED
    with pytest.raises(KeyError):
        outcome_of(Planted(KeyError("of ours")), Chosen())
    for sentence in ("", "Traceback (most recent call last)"):
        with pytest.raises(AssertionError):
            outcome_of(Planted(InputError(sentence)), Chosen())


def test_changes_change_and_leave_the_original() -> None:
    body = {"a": [1, {"b": "c"}], "d": None}
    before = json.dumps(body)
    assert changed_json(body, Chosen()) != body
    assert json.dumps(body) == before
    assert changed_bytes(b"0123456789", Chosen()) != b"0123456789"


@needs_atheris
@pytest.mark.fuzzing
@pytest.mark.parametrize("name", TARGETS)
def test_every_target_finds_nothing_in_a_few_inputs(name: str, tmp_path: Path) -> None:
    found = fuzzed(name, 120, 5, tmp_path, f"-runs={RUNS}")
    assert not found.problem, (tmp_path / f"{name}.log").read_text("utf-8")[-3000:]


@needs_atheris
@pytest.mark.fuzzing
def test_a_process_that_ends_badly_is_a_problem_with_its_reason(tmp_path: Path) -> None:
    found = fuzzed("no-such-target", 5, 1, tmp_path)
    assert "KeyError: 'no-such-target'" in found.problem


def test_the_page_has_a_row_with_its_command_for_each_that_was_run() -> None:
    row: dict[str, Any] = {"iterations": 7, "counts": {"worked": 7}, "outcome": "fine", "machine": "m", "date": "d"}
    rows = {name: {**row, "about": f"about {name}", "command": f"run {name}"} for name in (*TARGETS, *FAULTS)}
    text = page.written(rows)
    assert all(f"| about {name} | 7 |" in text and f"`run {name}`" in text for name in rows)


def test_a_run_that_an_engine_gives_up_is_one_sentence(quick: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = stcompile.load(quick("full_stack", "onnx-fp32").folder)
    (route,) = encoder._routes.values()
    for said, expected in (
        ("INVALID_ARGUMENT: indices element out of\nbounds", "the engine cannot compute the graph .*export the model"),
        ("RUNTIME_EXCEPTION: Failed to allocate memory for 8 GB", "has not the memory.*smaller batch_size"),
    ):

        def run(*_: Any, reason: str = said) -> Any:
            raise RuntimeError(reason)

        monkeypatch.setattr(route, "_engine", type("Engine", (), {"run": run, "kernels": ""})())
        with pytest.raises(stcompile.StcompileError, match=expected) as caught:
            encoder.encode("hello world")
        assert "\n" not in str(caught.value)
