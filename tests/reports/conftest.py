"""Verdicts that reports are made of: one that passed, and one of odd texts that failed."""

from __future__ import annotations

import dataclasses

import pytest

from stcompile.compiler.parity.evidence import Evidence, Judged, Verification
from stcompile.compiler.parity.thresholds import Thresholds
from stcompile.compiler.parity.verify import verification
from tests.conftest import MODELS, Compiled

TEXTS = ["hello world", "", "a | pipe\nand a line", "<script>alert('&')</script>", "a dog", "\x07 bell", "one more"]


@pytest.fixture(scope="session")
def passed(compiled: Compiled) -> Verification:
    return verification(compiled("pool_mean", "onnx-int8"), MODELS / "pool_mean", texts=TEXTS, speed=True)


@pytest.fixture(scope="session")
def failed(compiled: Compiled) -> Verification:
    bounds = Thresholds(min_cosine=1.0, neighbour_overlap=1.0, max_abs_error=1e-9)
    return verification(compiled("pool_mean", "onnx-int8"), MODELS / "pool_mean", texts=TEXTS, thresholds=bounds)


@pytest.fixture(scope="session")
def odd(failed: Verification) -> Verification:
    """Texts that would end a cell, a tag, a word of code, or are no XML, as the worst ones."""
    odd = tuple(Judged(text, "run <1>", 1.0, -1.0) for text in ("`|`\n|*_[x](y)", "]]>\x00\ufffe", "</td><b>&amp;"))
    return dataclasses.replace(
        failed, artifact="a|b<c>", evidence=Evidence((*odd, *failed.evidence.judged), failed.evidence.scatters)
    )
