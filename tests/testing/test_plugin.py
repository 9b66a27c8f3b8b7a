"""Parity as an assertion, and the pytest plugin in a suite of its own."""

from __future__ import annotations

from typing import Any

import pytest

from stcompile.errors import InputError
from stcompile.testing import assert_parity
from tests.conftest import MODELS, Compiled

pytest_plugins = ["pytester"]

TEXTS = ["hello world", "a dog", "one more", "the last one"]


def test_what_passes_is_returned(compiled: Compiled) -> None:
    found = assert_parity(compiled("pool_mean"), MODELS / "pool_mean", texts=TEXTS)
    assert found.parity.num_texts > len(TEXTS)
    assert assert_parity(compiled("pool_mean"), baseline=compiled("pool_mean"), texts=TEXTS).passed


def test_what_fails_shows_the_worst_texts(compiled: Compiled) -> None:
    with pytest.raises(AssertionError) as caught:
        assert_parity(compiled("pool_mean", "onnx-int8"), MODELS / "pool_mean", texts=TEXTS, min_cosine=1.0)
    said = str(caught.value)
    assert said.startswith("pool_mean-onnx-int8 (onnx-int8) against pool_mean is not within tolerance:\n  min cosine")
    assert "The worst of" in said
    assert any(repr(text) in said for text in TEXTS)
    with pytest.raises(AssertionError, match="min cosine"):
        assert_parity(compiled("pool_mean", "onnx-int8"), baseline=compiled("pool_mean"), texts=TEXTS)


def test_it_compares_with_one_thing(compiled: Compiled) -> None:
    wrongs: tuple[dict[str, Any], ...] = ({}, {"against": "x", "baseline": "y"})
    for wrong in wrongs:
        with pytest.raises(InputError, match="pass against=MODEL or baseline=ARTIFACT"):
            assert_parity(compiled("pool_mean"), **wrong)


def test_the_fixture_takes_the_projects_bounds(compiled: Compiled, pytester: pytest.Pytester) -> None:
    one, other = compiled("pool_mean"), compiled("pool_mean", "onnx-int8")
    pytester.makepyprojecttoml("[tool.stcompile]\nmin-cosine = 0.5\n[tool.pytest.ini_options]\n")
    pytester.makepyfile(
        f"""
        def test_within(stcompile_parity):
            stcompile_parity({str(other)!r}, baseline={str(one)!r}, texts={TEXTS!r})

        def test_a_calls_own_bound_comes_first(stcompile_parity):
            stcompile_parity({str(other)!r}, baseline={str(one)!r}, texts={TEXTS!r}, min_cosine=1.0)
        """
    )
    # Where stcompile is installed, pytest has loaded it already.
    done = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    done.assert_outcomes(passed=1, failed=1)
    done.stdout.fnmatch_lines(["*is not within tolerance*", "*min cosine*"])
