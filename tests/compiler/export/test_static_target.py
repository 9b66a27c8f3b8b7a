"""The target `static`: a network distilled into a table of tokens, and what that cost."""

from __future__ import annotations

import importlib
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules as st

import stcompile
from stcompile.artifact import open_artifact
from stcompile.artifact.report import read_report
from stcompile.cli import app as cli
from stcompile.compiler.export import export_model
from stcompile.compiler.parity.probes import probe_texts
from stcompile.compiler.stack.distill import distilled
from stcompile.compiler.stack.load import load_stack
from stcompile.errors import InputError, MissingExtraError, UnsupportedError
from tests.conftest import MODELS, Compiled, load_case, transformer_of

MODEL = "pool_mean"
TEXTS = ["hello", "The quick brown fox jumps over the lazy dog."]
PAIRS = [
    ("hello", "Hello World", 4.0),
    ("the quick brown fox", "a lazy dog", 1.5),
    ("New York city", "new york", 5.0),
    ("x", "?!", 0.0),
    ("what is the weather today", "it rains", 3.0),
]

# Principal components of the same table, computed twice.
SAME_COMPONENTS = 0.9999


def cosines(vectors: Any) -> Any:
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return (unit[::2] * unit[1::2]).sum(axis=1)


def test_it_is_what_sentence_transformers_distills(tmp_path: Path) -> None:
    artifact = export_model(MODELS / MODEL, tmp_path / "artifact", "static", pca_dims=8, texts=TEXTS)
    assert artifact.manifest.dim == 8
    embedding = st.StaticEmbedding.from_distillation(str(MODELS / MODEL), pca_dims=8, device="cpu")
    theirs = SentenceTransformer(modules=[embedding, st.Normalize()], device="cpu")
    texts = load_case(MODEL).texts
    expected, vectors = theirs.encode(texts), stcompile.load(artifact.folder).encode(texts)
    some = np.linalg.norm(expected, axis=1) > 0
    assert np.array_equal(some, np.linalg.norm(vectors, axis=1) > 0)
    assert some.sum() > 20
    assert (expected[some] * vectors[some]).sum(axis=1).min() >= SAME_COMPONENTS


@pytest.mark.parametrize("left", [None, 7])
def test_its_length_limit_is_the_models(left: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Releases of model2vec leave different limits in the tokenizer: 0.8 none of its own, 0.10 512."""
    distill = importlib.import_module("model2vec.distill")
    real = distill.distill_from_model

    def other_release(**options: Any) -> Any:
        found = real(**options)
        tokenizer = found.tokenizer
        tokenizer.no_truncation() if left is None else tokenizer.enable_truncation(left)
        return found

    monkeypatch.setattr(distill, "distill_from_model", other_release)
    model = load_stack(MODELS / MODEL)
    front = distilled(model, pca_dims=8).routes[""].front
    assert front.max_seq_length == transformer_of(model).max_seq_length == 64


def test_it_needs_no_torch(compiled: Compiled) -> None:
    code = (
        "import sys, stcompile\n"
        "vectors = stcompile.load(sys.argv[1]).encode(['hello', ''])\n"
        "assert not {'torch', 'transformers', 'model2vec', 'sklearn'} & set(sys.modules)\n"
        "print(vectors.shape)"
    )
    command = [sys.executable, "-c", code, str(compiled(MODEL, "static"))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "(2, 32)\n"


def test_the_report_tells_what_it_was_distilled_from(compiled: Compiled) -> None:
    artifact = open_artifact(compiled(MODEL, "static"))
    manifest, report = artifact.manifest, read_report(artifact)
    assert (manifest.target, manifest.batch_invariant, manifest.similarity) == ("static", True, "cosine")
    assert [module.type for module in report.source.modules] == ["StaticEmbedding", "Normalize"]
    assert manifest.text.kind == "static"
    found = report.distillation
    assert found is not None
    assert found.fingerprint == load_stack(MODELS / MODEL).fingerprint() != report.source.fingerprint
    assert (found.measure, found.texts, found.teacher) == ("neighbour_overlap", len(probe_texts()), 1)
    assert 0 < found.student < 1
    assert found.pca_dims == manifest.dim == 32, "no more than the network has"


def test_prompts_are_left_behind(compiled: Compiled) -> None:
    """A static table has no context that could read them."""
    encoder = stcompile.load(compiled("prompt_default_name", "static"))
    assert set(encoder.prompts.values()) == {""}
    assert np.array_equal(encoder.encode_query(TEXTS), encoder.encode(TEXTS, prompt=""))


def test_scored_pairs_measure_both_models(tmp_path: Path) -> None:
    artifact = export_model(MODELS / MODEL, tmp_path / "artifact", "static", evaluation=PAIRS, texts=TEXTS)
    found = read_report(artifact).distillation
    assert found is not None
    assert (found.measure, found.texts) == ("spearman", len(PAIRS))
    texts = [text for pair in PAIRS for text in pair[:2]]
    scores = [pair[2] for pair in PAIRS]
    teacher = SentenceTransformer(str(MODELS / MODEL), device="cpu").encode(texts)
    student = stcompile.load(artifact.folder).encode(texts)
    assert found.teacher == pytest.approx(spearmanr(cosines(teacher), scores).statistic, abs=1e-6)
    assert found.student == pytest.approx(spearmanr(cosines(student), scores).statistic, abs=1e-6)


def test_verify_distills_again(compiled: Compiled) -> None:
    artifact = compiled(MODEL, "static")
    assert stcompile.verify_artifact(artifact, MODELS / MODEL, texts=TEXTS).passed
    assert not stcompile.verify_artifact(artifact, MODELS / "pool_cls", texts=TEXTS).passed


@pytest.mark.parametrize(
    ("case", "sentence"),
    [
        ("pool_max", "it pools max: distillation knows mean, cls, lasttoken"),
        ("pool_concat_sqrt_weighted", "it pools .* and .*: distillation knows mean, cls, lasttoken"),
        ("router_two_encoders", "a Router has no one model to distill"),
        ("bow_binary", "its BoW is no network that could be distilled"),
        ("static", "its StaticEmbedding is no network that could be distilled"),
        ("wordemb_mean", "its WordEmbeddings is no network that could be distilled"),
    ],
)
def test_what_cannot_be_distilled_is_refused_by_name(case: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=f"{case} cannot be compiled: {sentence}"):
        export_model(MODELS / case, tmp_path / "artifact", "static", evaluation=PAIRS, texts=TEXTS)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"target": "onnx-fp32", "evaluation": PAIRS}, "pass max_drop too, or target static"),
        ({"target": "onnx-int8", "evaluation": PAIRS}, "pass max_drop too, or target static"),
        ({"evaluation": PAIRS[:1]}, "at least two scored pairs"),
        ({"evaluation": [("a", "b"), ("c", "d")]}, r"evaluation pairs must be \(text, text, score\)"),
        ({"evaluation": [("a", "b", "much"), ("c", "d", 1)]}, r"evaluation pairs must be \(text, text, score\)"),
        ({"evaluation": PAIRS, "pca_dims": 0}, "pca_dims must be a positive whole number or None, got 0"),
        ({"evaluation": PAIRS, "pca_dims": 2.5}, "pca_dims must be a positive whole number or None, got 2.5"),
    ],
)
def test_wrong_arguments_are_one_clear_error(options: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=sentence):
        export_model(MODELS / MODEL, tmp_path / "artifact", **{"target": "static", "texts": TEXTS, **options})
    assert not any(tmp_path.iterdir())


def test_scored_pairs_go_with_no_other_target_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("a,b,1\nc,d,2\n", encoding="utf-8")
    arguments = ["export", str(MODELS / MODEL), "--output", str(tmp_path / "artifact"), "--eval", str(pairs)]
    monkeypatch.setattr(sys, "argv", ["stcompile", *arguments, "--target", "onnx-fp32"])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        cli.run()
    told = capfd.readouterr().err
    assert ended.value.code == 2
    assert "static" in told
    assert "Traceback" not in told
    assert not (tmp_path / "artifact").exists()


@pytest.mark.parametrize(
    "error",
    [
        ModuleNotFoundError("No module named 'model2vec'", name="model2vec"),
        ModuleNotFoundError("No module named 'sklearn'", name="sklearn"),
        # What model2vec says without its extra
        ImportError("`sklearn`, is required. Please reinstall model2vec with the `distill` extra."),
    ],
)
def test_a_missing_package_is_a_pip_line(error: ImportError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(module: str) -> Any:
        assert module.startswith("model2vec")
        raise error

    stack = load_stack(MODELS / MODEL)
    monkeypatch.setattr(importlib, "import_module", fails)
    with pytest.raises(MissingExtraError, match=r"Distilling a model needs .*pip install .*'stcompile\[static\]'"):
        distilled(stack)
