"""Encoder layers in one operator: near sentence-transformers, the same in every batch, or refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import stcompile
from stcompile.artifact.manifest import SENTENCE, TOKENS
from stcompile.artifact.report import read_report
from stcompile.artifact.target import TARGETS
from stcompile.errors import ProviderError, TargetError, UnsupportedError
from stcompile.kernels import native
from tests.compiler.export.test_targets_on_architectures import cosines
from tests.conftest import Quick, load_case

FUSED = [name for name, target in TARGETS.items() if target.is_fused]
CASES = ("wide_bert", "wide_distilbert", "wide_electra", "wide_xlmr", "wide_mpnet", "wide_bert_cls", "wide_bert_tokens")

# Smallest cosine of any text with the vector of sentence-transformers; behind each, what was measured over all cases.
LEAST = {"onnx-int8-fused": 0.999, "onnx-bf16-fused": 0.9999, "onnx-fp32-fused": 0.9999999}

here = pytest.mark.skipif(bool(native.refusals()), reason="; ".join(native.refusals()) or "the operators run here")

LONG = "the quick brown fox jumps over a lazy dog " * 60


def fused_of(folder: Path) -> int:
    graph = onnx.load(folder / "model.onnx").graph
    return sum(node.domain == native.DOMAIN for node in graph.node)


@here
@pytest.mark.parametrize("target", FUSED)
@pytest.mark.parametrize("case", CASES)
def test_it_is_near_sentence_transformers(target: str, case: str, quick: Quick) -> None:
    artifact = quick(case, target)
    known = load_case(case)
    vectors = stcompile.load(artifact.folder, threads=1).encode(known.texts)
    assert cosines(known.expected(), vectors).min() >= LEAST[target]
    assert artifact.manifest.engine.native
    # Of the last layer, CLS pooling leaves one row: nothing to fuse.
    assert fused_of(artifact.folder) == (2 if case == "wide_bert_cls" else 3)
    kept = read_report(artifact).quantization
    assert kept is not None
    assert any("encoder layers not fused" in line for line in kept.kept) is (case == "wide_bert_cls")


@here
@pytest.mark.parametrize("target", FUSED)
def test_tokens_are_near_too(target: str, quick: Quick) -> None:
    artifact = quick("wide_bert_tokens", target, outputs=(SENTENCE, TOKENS))
    known = load_case("wide_bert_tokens")
    found = stcompile.load(artifact.folder, threads=1).encode(known.texts, output_value=TOKENS)
    for expected, rows in zip(known.ragged("tokens"), found, strict=True):
        assert rows.shape == expected.shape
        assert cosines(expected, rows).min() >= 0.995


@here
@pytest.mark.parametrize("target", FUSED)
@pytest.mark.parametrize("case", ["wide_bert", "wide_bert_tokens"])
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


@here
@pytest.mark.parametrize("target", FUSED)
@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("full_stack", "the sizes 32 and 64 are not both multiples of 64"),
        ("backbone_modernbert", "no encoder layer can be fused"),
        ("bow_dense_normalize", "it has no attention"),
    ],
)
def test_what_cannot_be_fused_is_refused_by_name(target: str, case: str, reason: str, quick: Quick) -> None:
    with pytest.raises(UnsupportedError, match=reason) as caught:
        quick(case, target)
    assert "): use o" in str(caught.value)


@here
def test_tokens_of_texts_padded_on_the_left_are_refused(quick: Quick, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"padded on the left.*leave them out of --outputs"):
        quick("bert_padding_side_left", "onnx-fp32-fused", tmp_path / "left", outputs=(SENTENCE, TOKENS))


@here
@pytest.mark.parametrize("target", FUSED)
def test_a_dense_for_each_token_reads_what_the_last_layer_makes(target: str, quick: Quick) -> None:
    artifact = quick("wide_bert_dense", target)
    known = load_case("wide_bert_dense")
    assert fused_of(artifact.folder) == 3
    vectors = stcompile.load(artifact.folder, threads=1).encode(known.texts)
    assert cosines(known.expected(), vectors).min() >= LEAST[target]


@here
def test_a_budget_takes_layers_out_of_the_fusion(quick: Quick, tmp_path: Path) -> None:
    cheap = quick("wide_bert", "onnx-int8-fused")
    limit = 1 - (1 - read_report(cheap).parity.min_cosine) / 4
    artifact = quick("wide_bert", "onnx-int8-fused", tmp_path / "near", min_cosine=limit)
    report = read_report(artifact)
    assert report.parity.min_cosine >= limit
    assert fused_of(artifact.folder) < 3
    assert report.quantization is not None
    assert any(layer.reason == "the accuracy budget" for layer in report.quantization.layers)


@here
def test_cuda_is_refused(quick: Quick, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="onnx-int8-fused runs on CPU, not on cuda"):
        quick("wide_bert", "onnx-int8-fused", tmp_path / "cuda", provider="cuda")


def test_another_cpu_refuses_the_target_and_the_artifact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "runs_native_operators", lambda: False)
    for name in FUSED:
        (reason, *_) = TARGETS[name].refusals()
        assert "AVX512-VNNI and AVX512-BF16" in reason
        assert "use onnx-int8" in reason
    with pytest.raises(ProviderError, match="the artifact cannot run here: the fused operators need"):
        native.library()


def test_an_installation_without_the_library_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(native, "runs_native_operators", lambda: True)
    monkeypatch.setattr(native, "_LIBRARY", tmp_path / "none.so")
    (reason,) = native.refusals()
    assert "where there is a C++ compiler" in reason
