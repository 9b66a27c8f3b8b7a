"""The whole story on tiny folders: what is published, what is not, and that it is the same every time."""

from __future__ import annotations

import dataclasses
import filecmp
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stcompile
from stcompile.artifact import open_artifact
from stcompile.artifact.manifest import LONGEST, NO_PADDING
from stcompile.artifact.report import ParityReport, read_report
from stcompile.artifact.target import TARGETS
from stcompile.compiler.export import export_model
from stcompile.compiler.parity import verify
from stcompile.compiler.trace import serialize
from stcompile.errors import InputError, ParityError, ProviderError, TargetError
from tests.conftest import MODELS, Compiled, Quick, load_case

TEXTS = ["", " ", "hello", "the quick brown fox", "\U0001f600 emoji", "你好", "new york city " * 40]


def files_of(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


TWO_TEXTS = ["hello", "the quick brown fox"]
_EXPORT = """
import pathlib, sys, stcompile
folder, destination, target, *texts = sys.argv[1:]
stcompile.export_model(folder, pathlib.Path(destination), target, texts=texts, calibration=texts)
"""


@pytest.mark.processes
@pytest.mark.usefixtures("traced_once")
@pytest.mark.parametrize(
    ("target", "graph"),
    [
        ("onnx-int8", ["model.onnx"]),
        *(
            pytest.param(name, ["model.bin", "model.xml"], marks=pytest.mark.more_models)
            for name in ("openvino-int8", "openvino-int8-nncf", "openvino-int4-nncf")
        ),
    ],
)
def test_same_input_and_versions_give_the_same_bytes(target: str, graph: list[str], tmp_path: Path) -> None:
    """In two processes, a new one and this, with other hash seeds: what depends on the order of a set would differ.

    So it would where a third has traced the model for this one.
    """
    model, first, second = MODELS / "full_stack", tmp_path / "1", tmp_path / "2"
    command = [sys.executable, "-c", _EXPORT, str(model), str(first), target, *TWO_TEXTS]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": "1"})
    export_model(model, second, target, texts=TWO_TEXTS, calibration=TWO_TEXTS)
    names = files_of(first)
    assert names == ["manifest.json", *graph, "report.json", "self_test.json", "tokenizer.json"]
    assert filecmp.cmpfiles(first, second, names, shallow=False)[0] == names


@pytest.mark.parametrize(
    ("target", "provider"),
    [
        (name, provider)
        for name, target in TARGETS.items()
        for provider in (("cpu",) if target.is_openvino else ("cpu", "cuda"))
        if not target.distills and not target.needs_operators and not target.refusals()
    ],
)
def test_every_target_on_every_provider_holds_its_tolerance(target: str, provider: str, quick: Quick) -> None:
    artifact = quick("full_stack", target, provider=provider)
    report = read_report(artifact)
    assert (artifact.manifest.target, report.provider) == (target, provider)
    assert report.parity.passed
    assert report.parity.failures == ()


def test_manifest_and_report_tell_what_was_done(compiled: Compiled) -> None:
    artifact = open_artifact(compiled("backbone_qwen3_lasttoken"))
    manifest, report = artifact.manifest, read_report(artifact)
    assert [module.type for module in report.source.modules] == ["Transformer", "Pooling", "Normalize"]
    # Its tokenizer pads on the left, which makes the same vectors.
    assert manifest.text.padding_side == "right"
    assert manifest.prompts["query"] == "Instruct: retrieve\nQuery:"
    attention = next(item for item in report.passes if item.name == "fuse-attention")
    assert (attention.rewrites, attention.refusals) == (2, ())
    layers = next(item for item in report.passes if item.name == "encoder-layers")
    assert (layers.rewrites, layers.refusals) == (2, ())
    assert set(report.versions) >= {"stcompile", "torch", "transformers", "onnxruntime", "tokenizers"}
    axes = {spec.name: spec.axes for spec in (*manifest.graphs[0].inputs, *manifest.graphs[0].outputs)}
    assert axes["input_ids"] == ("batch", "sequence")
    assert axes["sentence_embedding"] == ("batch", "32")


def test_a_model_that_depends_on_padding_is_never_padded(compiled: Compiled) -> None:
    folder = compiled("bert_padding_side_left")
    artifact = open_artifact(folder)
    manifest = artifact.manifest
    assert (manifest.padding, manifest.batch_invariant) == (NO_PADDING, True)
    assert any("padding" in note for note in read_report(artifact).notes)
    encoder = stcompile.load(folder)
    alone, together = encoder.encode(TEXTS, batch_size=1), encoder.encode(TEXTS)
    assert np.abs(alone - together).max() <= 1e-6 * np.linalg.norm(alone, axis=1).max()


@pytest.mark.usefixtures("traced_once")
def test_a_parity_failure_publishes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where a wrong graph would: a stack whose pooling changed after the trace."""
    model, destination = MODELS / "pool_mean", tmp_path / "artifact"
    export_model(model, destination, "onnx-fp32", texts=TEXTS)
    before = {name: (destination / name).read_bytes() for name in files_of(destination)}
    from stcompile.compiler import export
    from stcompile.compiler.trace.onnx import trace

    def trace_another(route: Any, outputs: Any, name: str) -> Any:
        route.blocks[1].modes, kept = ("max",), route.blocks[1].modes
        graph = trace(route, outputs, name)
        route.blocks[1].modes = kept
        return graph

    monkeypatch.setattr(export, "trace", trace_another)
    with pytest.raises(ParityError, match="Nothing was published"):
        export_model(model, destination, "onnx-fp32", texts=TEXTS)
    assert {name: (destination / name).read_bytes() for name in files_of(destination)} == before
    assert os.listdir(tmp_path) == ["artifact"]  # noqa: PTH208 - hidden staging folders count


def test_verify_repeats_the_verdict(compiled: Compiled) -> None:
    artifact = compiled("full_stack", "onnx-int8")
    report = stcompile.verify_artifact(artifact, MODELS / "full_stack", texts=TEXTS)
    assert report.passed
    assert not stcompile.verify_artifact(artifact, MODELS / "full_stack", texts=TEXTS, min_cosine=0.9999999).passed


def test_verify_notices_another_model(compiled: Compiled) -> None:
    artifact = compiled("static")
    report = stcompile.verify_artifact(artifact, MODELS / "static_float16", texts=TEXTS)
    assert not report.passed
    with pytest.raises(stcompile.ModelFolderError, match="compiled from another model"):
        stcompile.verify_artifact(artifact, MODELS / "pool_mean", texts=TEXTS)


def test_prompts_are_part_of_parity(compiled: Compiled) -> None:
    case = load_case("pool_mean_with_prompt")
    report = stcompile.verify_artifact(compiled(case.name), case.model, texts=TEXTS)
    # All texts, the one that is certain to be cut, and a few with each of the three prompts.
    assert report.num_texts == len(TEXTS) + 1 + 3 * len(TEXTS)


@pytest.mark.more_models
def test_token_embeddings_are_a_second_output(compiled: Compiled) -> None:
    artifact = compiled("full_stack", outputs=("sentence_embedding", "token_embeddings"))
    names = [spec.name for spec in open_artifact(artifact).manifest.graphs[0].outputs]
    assert names == ["sentence_embedding", "token_embeddings"]
    encoder = stcompile.load(artifact)
    assert encoder.encode("hello", output_value="token_embeddings").shape == (3, 32)
    with pytest.raises(InputError, match="--outputs"):
        stcompile.load(compiled("full_stack")).encode("hello", output_value="token_embeddings")


@pytest.mark.more_models
def test_a_live_object_and_its_folder_compile_alike(compiled: Compiled, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    live = SentenceTransformer(str(MODELS / "full_stack"), device="cpu")
    export_model(live, tmp_path / "artifact", "onnx-fp32", texts=TEXTS)
    vectors = stcompile.load(tmp_path / "artifact").encode(TEXTS)
    assert np.array_equal(vectors, stcompile.load(compiled("full_stack")).encode(TEXTS))


@pytest.mark.usefixtures("traced_once")
def test_weights_above_the_limit_go_to_a_file_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serialize, "EXTERNAL_ABOVE", 1000)
    artifact = export_model(MODELS / "pool_mean", tmp_path / "artifact", "onnx-fp32", texts=TEXTS)
    assert artifact.manifest.graphs[0].external_data == "model.onnx.data"
    assert (artifact.folder / "model.onnx.data").stat().st_size > 100_000
    assert stcompile.load(artifact.folder).encode("hello").shape == (32,)


@pytest.mark.usefixtures("traced_once")
@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"target": "onnx-int9"}, TargetError, "did you mean"),
        ({"provider": "tpu"}, ProviderError, "choose one of cpu, cuda"),
        ({"outputs": ["token_embeddings"]}, InputError, "outputs must be"),
        ({"outputs": ["sentence_embedding", "x"]}, InputError, "outputs must be"),
        ({"min_cosine": 1.5}, InputError, "between 0 and 1"),
        ({"texts": []}, InputError, "no text to judge parity on"),
    ],
)
def test_wrong_arguments_are_one_clear_error(
    options: dict[str, Any], error: type[Exception], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=sentence):
        export_model(MODELS / "pool_mean", tmp_path / "artifact", **options)
    assert not any(tmp_path.iterdir())


def test_the_tolerance_of_each_target_can_fail() -> None:
    """A tolerance nothing can miss proves nothing."""
    for target in TARGETS.values():
        allowed = target.tolerance
        good: dict[str, Any] = {
            "target": target.name,
            "num_texts": 1,
            "max_abs_error": 0.0,
            "min_cosine": 1.0,
            "mean_cosine": 1.0,
            "neighbour_overlap": 1.0,
            "batch_invariance": 1.0,
            "reference_batch_invariance": 1.0,
            "worst_text": "",
            "tolerance": allowed,
            "failures": (),
            "texts_sha256": "",
            "reference": "sentence-transformers",
        }
        report = ParityReport(**good)
        assert verify._failures(report, LONGEST) == ()
        misses: dict[str, Any] = {
            "min_cosine": allowed.min_cosine - 1e-7,
            "mean_cosine": allowed.mean_cosine - 1e-7,
        }
        if allowed.max_abs_error is not None:
            misses["max_abs_error"] = allowed.max_abs_error * 1.01
        if allowed.batch_invariance is not None:
            misses["batch_invariance"] = allowed.batch_invariance - 1e-7
        for name, value in misses.items():
            missed: dict[str, Any] = {name: value}
            assert len(verify._failures(dataclasses.replace(report, **missed), LONGEST)) == 1
            nowhere: dict[str, Any] = {name: float("nan")}
            assert len(verify._failures(dataclasses.replace(report, **nowhere), LONGEST)) == 1
