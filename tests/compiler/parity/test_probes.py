"""Which of the default texts a network is judged on, by its size."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

import stcompile
from stcompile.artifact.report import read_report
from stcompile.cli import render
from stcompile.cli.console import out
from stcompile.compiler.parity import probes
from stcompile.compiler.parity.probes import probe_texts, probe_texts_for
from stcompile.compiler.steps import Estimate
from tests.conftest import MODELS


def scripts(texts: list[str]) -> set[str]:
    letters = [next((one for one in text if one.isalpha()), "") for text in texts]
    return {unicodedata.name(letter).split()[0] for letter in letters if letter}


def test_a_small_network_is_judged_on_all() -> None:
    assert probe_texts_for(33_000_000) == probe_texts()
    assert probe_texts_for(0) == probe_texts()


@pytest.mark.parametrize(("weights", "most"), [(200_000_000, 190), (440_000_000, 90), (8_000_000_000, 64)])
def test_a_large_one_on_some_of_every_kind(weights: int, most: int) -> None:
    every, some = probe_texts(), probe_texts_for(weights)
    assert 64 <= len(some) <= most
    assert some == [text for text in every if text in some]  # in their order, and the same ones each time
    assert probe_texts_for(weights) == some
    assert scripts(some) == scripts(every)
    assert max(every, key=len) in some
    assert {text for text in every if not any(map(str.isalpha, text))} <= {*some}
    lengths = [sorted(map(len, texts)) for texts in (every, some)]
    middle, own = (found[len(found) // 2] for found in lengths)
    assert own == pytest.approx(middle, rel=0.35)


def test_the_report_says_of_how_many_they_were_chosen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(probes, "_ALL_UP_TO", 1000)  # as if a golden model were a large one
    report = read_report(stcompile.export_model(MODELS / "normalize", tmp_path / "out", "onnx-fp32")).parity
    assert (report.num_texts, report.chosen_of) == (65, 248)  # with the one that is cut
    monkeypatch.setattr(out, "_width", 200)
    out.print(render.parity(report.target, report.to_dict()))
    assert "65, chosen of 248" in capsys.readouterr().out
    own = stcompile.export_model(MODELS / "normalize", tmp_path / "own", "onnx-fp32", texts=["a", "b c"])
    assert read_report(own).parity.chosen_of is None


def test_an_estimate_is_told_once_it_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("stcompile.compiler.steps.time.monotonic", lambda: now)
    estimate = Estimate(100)
    assert estimate.left(0) == ""
    now += 2
    assert estimate.left(1) == ""
    now += 58
    assert estimate.left(10) == " (about 9 min left)"
    assert estimate.left(99) == ""
