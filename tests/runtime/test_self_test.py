"""An artifact's self-test: passes where it makes what it was proved to make, and fails where it does not."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stcompile
from stcompile.artifact.folder import read_manifest, write_manifest
from stcompile.artifact.self_test import SELF_TEST_NAME
from stcompile.errors import ArtifactError, ParityError
from stcompile.runtime import self_test
from stcompile.runtime.route import GraphRuns
from tests.conftest import GOLDEN, Quick

# One of each kind, and one of several routes.
CASES = {
    "full_stack": "onnx-int8",
    "reranker_bert": "onnx-int8",
    "sparse_splade": "onnx-fp32",
    "multi_vector_pooled": "onnx-fp32",
    "bge_m3": "onnx-fp32",
    "router_first_static_query": "onnx-fp32",
    "clip_text": "onnx-fp32",
    "wordemb_lstm_bi": "onnx-fp32",
}


def changed(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The artifact with other golden inputs, and a manifest that fits them."""
    path = folder / SELF_TEST_NAME
    body = json.loads(path.read_text("utf-8"))
    change(body)
    path.write_text(json.dumps(body), "utf-8")
    write_manifest(folder, read_manifest(folder))
    return folder


@pytest.mark.parametrize("case", CASES)
def test_every_kind_passes_its_self_test_and_fails_it_where_vectors_are_wrong(
    case: str, quick: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = quick(case, CASES[case]).folder
    loaded = stcompile.load(folder, self_test=True)
    known = json.loads((folder / SELF_TEST_NAME).read_text("utf-8"))
    assert loaded.self_test() >= known["min_cosine"] > 0.9
    assert len(known["golden"]) >= 4
    wrong_everywhere(monkeypatch)
    with pytest.raises(ParityError, match=r"failed its self-test on this machine.*stcompile doctor"):
        stcompile.load(folder, self_test=True)


def wrong_everywhere(patch: pytest.MonkeyPatch) -> None:
    """Lets every graph give numbers that a wrong kernel might: noise as large as what is right."""
    infer, chance = GraphRuns.infer, np.random.default_rng(7)

    def broken(self: GraphRuns, feeds: Any, outputs: Any) -> Any:
        return [
            rows + chance.normal(size=rows.shape).astype(rows.dtype) * (np.abs(rows).max() + 1)
            for rows in infer(self, feeds, outputs)
        ]

    patch.setattr(GraphRuns, "infer", broken)


@pytest.mark.parametrize("device_kernels", ["none", None])
def test_it_passes_with_kernels_and_with_the_operators_in_their_place(
    device_kernels: str | None, quick: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = quick("wide_bert", "onnx-int8").folder
    if device_kernels is not None:
        monkeypatch.setenv("STCOMPILE_KERNELS", device_kernels)
    assert stcompile.load(folder, self_test=True).self_test() > 0.98


def test_none_of_the_callers_texts_is_stored(quick: Quick, tmp_path: Path) -> None:
    secret = ["the code of the safe is 4711", "nobody is to know this"]
    artifact = quick("full_stack", "onnx-fp32", tmp_path / "artifact", texts=secret)
    content = (artifact.folder / SELF_TEST_NAME).read_text("utf-8")
    assert not any(text in content for text in secret)


def test_one_wrong_number_of_one_input_is_enough(quick: Quick, tmp_path: Path) -> None:
    folder = shutil.copytree(quick("full_stack", "onnx-fp32").folder, tmp_path / "artifact")

    def change(body: dict[str, Any]) -> None:
        body["golden"][3]["values"][0] += 0.1

    with pytest.raises(ParityError, match="of 6 inputs 1 are further from sentence-transformers"):
        stcompile.load(changed(folder, change), self_test=True)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda body: body["golden"][0]["values"].pop(), "numbers where the artifact makes"),
        (lambda body: body.pop("golden"), "golden is missing"),
        (lambda body: body["golden"][0].update(values=["x"]), "must be a number"),
        (lambda body: body["golden"][0].update(inputs=[]), "must be a text or two"),
        (lambda body: body["golden"][0].update(places=[0]), "values without a place"),
    ],
)
def test_golden_inputs_that_do_not_fit_are_one_sentence(
    change: Any, sentence: str, quick: Quick, tmp_path: Path
) -> None:
    folder = shutil.copytree(quick("full_stack", "onnx-fp32").folder, tmp_path / "artifact")
    with pytest.raises(ArtifactError, match=sentence):
        stcompile.load(changed(folder, change), self_test=True)


def test_an_artifact_of_an_older_schema_has_neither() -> None:
    folder = GOLDEN / "artifacts" / "v5" / "full_stack-onnx-int8"
    loaded = stcompile.load(folder)
    assert loaded.fingerprint is None
    with pytest.raises(ArtifactError, match="exported before there was one"):
        loaded.self_test()
    with pytest.raises(ArtifactError, match="has no fingerprint"):
        stcompile.load(folder, expect_fingerprint="*.*.*.*.*.*")


def test_pictures_are_left_out_where_nothing_reads_them(quick: Quick, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = quick("clip_text", "onnx-fp32").folder
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setattr(self_test, "find_spec", lambda name: None)
    assert stcompile.load(folder).self_test() > 0.999


def test_a_fingerprint_is_expected_by_every_class_that_opens_an_artifact(quick: Quick) -> None:
    folder = quick("full_stack", "onnx-int8").folder
    loaded = stcompile.load(folder)
    assert loaded.fingerprint is not None
    for opens in (stcompile.load, stcompile.Encoder.load):
        assert opens(folder, expect_fingerprint=loaded.fingerprint).fingerprint == loaded.fingerprint
        with pytest.raises(ArtifactError, match="it was compiled to int8, not fp32"):
            opens(folder, expect_fingerprint=loaded.fingerprint.replace("int8", "fp32"))


def test_two_targets_of_one_model_differ_in_precision_alone(quick: Quick) -> None:
    found = [stcompile.load(quick("full_stack", target).folder).fingerprint for target in ("onnx-int8", "onnx-fp32")]
    assert len({str(line).rsplit(".", 1)[0] for line in found}) == 1
