"""Bounds that a caller sets: in a call, on the command line, in pyproject.toml."""

from __future__ import annotations

from pathlib import Path

import pytest

import stcompile
from stcompile.artifact.target import Target
from stcompile.compiler.parity.thresholds import Thresholds, thresholds_in
from stcompile.errors import InputError
from tests.conftest import MODELS, Compiled

TEXTS = ["hello world", "a dog", "one more", "the last one"]


def test_the_nearest_pyproject_counts(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text("[tool.stcompile]\nmin-cosine = 0.9\nneighbour_overlap = 0.5\n", "utf-8")
    assert thresholds_in(inner) == Thresholds(min_cosine=0.9, neighbour_overlap=0.5)
    (tmp_path / "a" / "pyproject.toml").write_text("[project]\nname = 'x'\n", "utf-8")
    assert thresholds_in(inner) == Thresholds()


def test_what_is_asked_for_comes_first() -> None:
    asked = Thresholds(min_cosine=0.99).over(Thresholds(min_cosine=0.5, mean_cosine=0.7))
    assert asked == Thresholds(min_cosine=0.99, mean_cosine=0.7)
    tolerance = Target.parse("onnx-int8").tolerance
    assert Thresholds().applied(tolerance) == tolerance
    applied = Thresholds(mean_cosine=0.1, max_abs_error=2.0, batch_invariance=0.3, neighbour_overlap=0.4).applied(
        tolerance
    )
    assert (applied.mean_cosine, applied.max_abs_error) == (0.1, 2.0)
    assert (applied.batch_invariance, applied.neighbour_overlap) == (0.3, 0.4)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[tool.stcompile]\ncosine = 0.9", "has cosine: it may have min-cosine, mean-cosine, max-abs-error"),
        ("[tool.stcompile]\nmin-cosine = 2", "min_cosine must be a number from 0 to 1, got 2"),
        ("[tool.stcompile]\nmin-cosine = 'much'", "min_cosine must be a number from 0 to 1, got 'much'"),
        ("[tool.stcompile]\nmax-abs-error = -1", "max_abs_error must be a number from 0 on, got -1"),
        ("[tool]\nstcompile = 3", r"\[tool.stcompile\] in .* is no table"),
        ("[tool.stcompile", "cannot be read"),
    ],
)
def test_a_wrong_file_is_one_sentence(content: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(content, "utf-8")
    with pytest.raises(InputError, match=says):
        thresholds_in(tmp_path)


@pytest.mark.parametrize(
    ("bound", "says"),
    [
        ({"min_cosine": 1.0}, "min cosine"),
        ({"mean_cosine": 1.0}, "mean cosine"),
        ({"max_abs_error": 1e-9}, "max abs error"),
        ({"batch_invariance": 1.0, "max_abs_error": 1e-9}, "max abs error"),
    ],
)
def test_every_bound_can_fail(bound: dict[str, float], says: str, compiled: Compiled) -> None:
    folder = compiled("pool_mean", "onnx-int8")
    report = stcompile.verify_artifact(folder, MODELS / "pool_mean", texts=TEXTS, thresholds=Thresholds(**bound))
    assert not report.passed
    assert any(failure.startswith(says) for failure in report.failures)
