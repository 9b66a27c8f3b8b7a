"""Encoder layers as one operator each: near sentence-transformers by kernel and by body, the same in every batch."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import stcompile
from stcompile.artifact import Artifact, open_artifact
from stcompile.artifact.folder import write_manifest
from stcompile.artifact.manifest import SENTENCE, TOKENS
from stcompile.artifact.report import PassSummary, read_report
from stcompile.compiler.parity.verify import AGREEMENT
from stcompile.errors import ProviderError, TargetError, UnsupportedError
from stcompile.kernels import native
from stcompile.kernels.native import library
from stcompile.runtime import engines
from tests.compiler.export.test_targets_on_architectures import cosines
from tests.conftest import Quick, load_case

TARGETS = ("onnx-int8", "onnx-bf16", "onnx-fp32")

# Heads of 32 and 64; layers that are one; relative positions; one row of the last layer; tokens; and sizes that are no
# multiple of 64, whose heads of 8 are filled up.
WIDE = ("wide_bert", "wide_distilbert", "wide_electra", "wide_xlmr", "wide_mpnet", "wide_bert_cls", "wide_bert_tokens")
# Rotary positions, gates, norms before, around and behind, windows, shared keys: the families of docs/architectures.md.
MODERN = (
    *("backbone_modernbert", "backbone_qwen3_lasttoken", "backbone_gemma3_windows", "backbone_qwen2_lasttoken"),
    *("backbone_mistral_window", "backbone_eurobert", "backbone_nomic_bert", "backbone_jina_v3", "backbone_stablelm"),
    *("backbone_albert", "backbone_roformer", "backbone_ernie4_5", "backbone_glm4", "backbone_gemma2"),
)
CASES = (*WIDE, "full_stack", *MODERN)

# Smallest cosine of any text with the vector of sentence-transformers; behind each, what was measured over all cases.
LEAST = {"onnx-int8": 0.998, "onnx-bf16": 0.9998, "onnx-fp32": 0.9999999}

kernels_run = pytest.mark.skipif(library() is None, reason="; ".join(native.refusals()) or "they run here")

# Tokens alone of `wide_bert_tokens`, which are another graph; what CLS pooling changes in 8 bits is full_stack's too.
MORE = {"wide_bert_tokens": TARGETS, "wide_bert_cls": ("onnx-int8",)}


def marked(case: str, target: str) -> Any:
    """A pair for `parametrize`."""
    return pytest.param(case, target, marks=pytest.mark.more_models if target in MORE.get(case, ()) else ())


PAIRS = [marked(case, target) for case in CASES for target in TARGETS]

LONG = "the quick brown fox jumps over a lazy dog " * 60


def operators_of(folder: Path) -> int:
    graph = onnx.load(folder / "model.onnx").graph
    return sum(node.domain == native.DOMAIN for node in graph.node)


def record_of(artifact: Artifact) -> PassSummary:
    return next(record for record in read_report(artifact).passes if record.name == "encoder-layers")


@pytest.fixture(params=[pytest.param("kernel", marks=kernels_run), "body"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to compute a layer: what is loaded in such a test takes the one of its name."""
    if request.param == "body":
        monkeypatch.setenv(native.VARIABLE, native.NONE)
    return str(request.param)


@pytest.mark.parametrize(("case", "target"), PAIRS)
def test_it_is_near_sentence_transformers(target: str, case: str, path: str, quick: Quick) -> None:
    artifact = quick(case, target)
    known = load_case(case)
    encoder = stcompile.load(artifact.folder, threads=1)
    assert (encoder.kernels == "body") is (path == "body")
    assert cosines(known.expected(), encoder.encode(known.texts)).min() >= LEAST[target]
    assert artifact.manifest.engine.native
    assert artifact.manifest.engine.portable
    # Of the last layer of three, CLS pooling leaves one row: no operator computes it.
    layers = 2 if case in ("wide_bert_cls", "full_stack", *MODERN) else 3
    assert operators_of(artifact.folder) == record_of(artifact).rewrites == layers
    assert bool(record_of(artifact).refusals) is (case == "wide_bert_cls")


@kernels_run
@pytest.mark.parametrize(("case", "target"), PAIRS)
def test_both_ways_agree_and_both_were_judged(target: str, case: str, quick: Quick) -> None:
    paths = read_report(quick(case, target)).parity.paths
    assert [item.path for item in paths] == [native.generation(), "body"]
    assert paths[0].agreement == 1.0
    assert AGREEMENT[target] <= paths[1].agreement <= 1.0
    assert all(item.min_cosine >= LEAST[target] for item in paths)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("level", ["ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_ALL"])
def test_plain_onnxruntime_runs_the_same_file(target: str, level: str, quick: Quick) -> None:
    artifact = quick("wide_mpnet", target)
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    session = ort.InferenceSession(artifact.folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    known = load_case("wide_mpnet")
    encoder = stcompile.load(artifact.folder, threads=1)
    (route,) = encoder._routes.values()
    for places, feeds in route.batches(known.texts, None, 8):
        (found,) = session.run([SENTENCE], feeds)
        assert cosines(known.expected()[places], found).min() >= LEAST[target]
        assert cosines(encoder.encode([known.texts[place] for place in places]), found).min() >= AGREEMENT[target]


def test_the_agreement_can_fail(quick: Quick) -> None:
    """Of another layer's weights."""
    one, other = (stcompile.load(quick(case, "onnx-fp32").folder, threads=1) for case in ("wide_bert", "wide_mpnet"))
    texts = ["a text", "another text"]
    assert cosines(one.encode(texts), other.encode(texts)).max() < AGREEMENT["onnx-int8"]


@pytest.mark.parametrize("target", TARGETS[::2])
def test_portable_leaves_the_operators_out(target: str, quick: Quick) -> None:
    artifact = quick("wide_bert", target, portable=True)
    assert not artifact.manifest.engine.native
    assert operators_of(artifact.folder) == 0
    assert not onnx.load(artifact.folder / "model.onnx").functions
    assert stcompile.load(artifact.folder, threads=1).kernels == ""


def test_portable_is_refused_where_nothing_is_left(quick: Quick, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="onnx-bf16 is made of the package's own operators: leave portable out"):
        quick("wide_bert", "onnx-bf16", tmp_path / "out", portable=True)


@pytest.mark.parametrize("target", TARGETS)
def test_tokens_are_near_too(target: str, quick: Quick) -> None:
    artifact = quick("wide_bert_tokens", target, outputs=(SENTENCE, TOKENS))
    known = load_case("wide_bert_tokens")
    found = stcompile.load(artifact.folder, threads=1).encode(known.texts, output_value=TOKENS)
    for expected, rows in zip(known.ragged("tokens"), found, strict=True):
        assert rows.shape == expected.shape
        assert cosines(expected, rows).min() >= 0.995


@pytest.mark.parametrize(
    ("case", "target"), [marked(case, target) for case in ("wide_bert", "wide_bert_tokens") for target in TARGETS]
)
def test_a_text_has_the_same_vector_in_every_batch(target: str, case: str, quick: Quick) -> None:
    """Up to the sum of the pooling, which the engine adds in an order of its own."""
    folder = quick(case, target).folder
    texts = [text for text in load_case(case).texts if isinstance(text, str)]
    one, two = (stcompile.load(folder, threads=threads) for threads in (1, 2))
    alone = np.concatenate([one.encode([text]) for text in texts])
    for found in (
        one.encode([*texts, LONG], batch_size=64)[:-1],
        one.encode(texts[::-1], batch_size=3)[::-1],
        two.encode([LONG, *texts], batch_size=64)[1:],
        two.encode([*texts, *(f"{text} {number}" for number in range(40) for text in texts)])[: len(texts)],
    ):
        assert np.abs(found - alone).max() <= 2e-6


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("backbone_deberta", "it has no attention of the kind that is known"),
        ("bow_dense_normalize", "it has no attention of the kind that is known"),
    ],
)
def test_what_no_operator_computes_is_told(case: str, reason: str, quick: Quick) -> None:
    record = record_of(quick(case, "onnx-fp32"))
    assert (record.rewrites, record.refusals) == (0, (reason,))
    with pytest.raises(UnsupportedError, match=rf"no encoder layer can be fused \(.*{reason}.*\): use openvino-bf16"):
        quick(case, "onnx-bf16")


def test_rows_of_padding_on_the_left_are_made_by_standard_operators(quick: Quick, tmp_path: Path) -> None:
    artifact = quick("postprocessing_leftpad_tokens", "onnx-fp32", outputs=(SENTENCE, TOKENS))
    assert not artifact.manifest.engine.native
    with pytest.raises(UnsupportedError, match=r"padded on the left.*leave them out of --outputs"):
        quick("postprocessing_leftpad_tokens", "onnx-bf16", tmp_path / "left", outputs=(SENTENCE, TOKENS))


# Its graph in float32 is golden, as that of `dense_token_level` is in each run.
@pytest.mark.more_models
@pytest.mark.parametrize("target", TARGETS)
def test_a_dense_for_each_token_reads_what_the_last_layer_makes(target: str, quick: Quick) -> None:
    artifact = quick("wide_bert_dense", target)
    known = load_case("wide_bert_dense")
    assert operators_of(artifact.folder) == 3
    vectors = stcompile.load(artifact.folder, threads=1).encode(known.texts)
    assert cosines(known.expected(), vectors).min() >= LEAST[target]


def test_a_budget_takes_layers_out_of_the_fusion(quick: Quick, tmp_path: Path) -> None:
    cheap = quick("wide_bert", "onnx-int8")
    limit = 1 - (1 - read_report(cheap).parity.min_cosine) / 4
    artifact = quick("wide_bert", "onnx-int8", tmp_path / "near", min_cosine=limit)
    report = read_report(artifact)
    assert report.parity.min_cosine >= limit
    assert operators_of(artifact.folder) < 3
    assert report.quantization is not None
    assert any(layer.reason == "the accuracy budget" for layer in report.quantization.layers)


def test_on_cuda_layers_are_standard_operators(quick: Quick) -> None:
    assert not quick("wide_bert", "onnx-fp32", provider="cuda").manifest.engine.native


def test_an_artifact_without_bodies_is_refused_where_there_is_no_kernel(
    quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those before schema 5 are."""
    monkeypatch.setenv(native.VARIABLE, native.NONE)
    copy = Path(shutil.copytree(quick("wide_bert", "onnx-fp32").folder, tmp_path / "old"))
    manifest = open_artifact(copy).manifest
    without = dataclasses.replace(manifest, engine=dataclasses.replace(manifest.engine, portable=False))
    write_manifest(copy, without)
    with pytest.raises(ProviderError, match=r"cannot run here: STCOMPILE_KERNELS=none; or export it again"):
        stcompile.load(copy)


def test_it_is_said_once_that_no_kernel_runs(
    quick: Quick, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(native.VARIABLE, native.NONE)
    engines._say_once.cache_clear()
    for _ in range(2):
        stcompile.load(quick("wide_bert", "onnx-fp32").folder)
    (said,) = caplog.messages
    assert "standard operators" in said
    assert "STCOMPILE_KERNELS=none" in said
