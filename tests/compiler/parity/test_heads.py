"""What a hybrid encoder makes beside its dense vectors is judged, and a perturbed head fails."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from stcompile.artifact import open_artifact
from stcompile.artifact.target import Target
from stcompile.compiler.metrics import Matrix
from stcompile.compiler.parity import heads
from stcompile.compiler.parity.heads import HeadProof, failures_of
from stcompile.compiler.parity.runner import Run, run_shipped
from stcompile.compiler.stack.load import load_stack
from tests.conftest import MODELS, Compiled, load_case
from tests.hybrid import ALL, CASE

TARGET = Target.parse("onnx-fp32")


@pytest.fixture
def proof(compiled: Compiled) -> HeadProof:
    artifact = open_artifact(compiled(CASE, outputs=ALL))
    return HeadProof(
        artifact, artifact.manifest.graphs[0], load_stack(MODELS / CASE).route(None), load_case(CASE).texts
    )


def test_the_artifact_is_right(proof: HeadProof) -> None:
    found = proof.judge(TARGET, TARGET.tolerance, "cpu")
    assert [item.output for item in found] == ["sparse", "multi_vector"]
    assert failures_of(found) == ()


@pytest.mark.parametrize(
    ("run", "says"),
    [
        ("sparse-1", r"max abs error .* \(sparse\)"),
        ("sparse-8", r"batch invariance .* \(sparse\)"),
        ("multi_vector-1", r"max abs error .* \(multi_vector\)"),
        ("multi_vector-8", r"batch invariance .* \(multi_vector\)"),
    ],
)
def test_a_perturbed_number_fails(run: str, says: str, proof: HeadProof, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = run_shipped

    def perturbed(artifact: Path, texts: list[str], runs: dict[str, Run], *, device: str) -> dict[str, Matrix]:
        found = shipped(artifact, texts, runs, device=device)
        row = max(found[run], key=lambda each: float(np.abs(each).max()))
        row[(0,) * row.ndim] += 1e-2 * max(1.0, np.abs(row).max())
        return found

    monkeypatch.setattr(heads, "run_shipped", perturbed)
    failures = failures_of(proof.judge(TARGET, TARGET.tolerance, "cpu"))
    assert failures
    assert any(re.search(says, failure) for failure in failures)


def test_a_word_more_or_less_fails(proof: HeadProof) -> None:
    sparse, _ = proof.judge(TARGET, TARGET.tolerance, "cpu")
    less = dataclasses.replace(sparse, active_overlap=0.99)
    assert failures_of([less]) == ("of the numbers that are not zero 0.9900 are the same, less than 0.9995 (sparse)",)


def test_a_caller_who_accepts_less_accepts_less_of_all(proof: HeadProof) -> None:
    found = proof.judge(TARGET, TARGET.tolerance.accepting(0.5), "cpu")
    assert [item.tolerance.min_cosine for item in found] == [0.5, 0.5]
