"""Text to three kinds of vectors through the torch-free runtime, against those that FlagEmbedding gave."""

from __future__ import annotations

import numpy as np
import pytest

import stcompile
from stcompile.artifact.report import read_report
from stcompile.runtime.hybrid_embeddings import HybridEmbeddings
from tests.conftest import Compiled, Quick, load_case
from tests.hybrid import ALL, CASE, Recorded, recorded

# Largest difference of a number of a vector of length 1, and of a weight. Measured: 3e-7 and 1.1e-6, of
# weights up to 7.
ROUNDING, WEIGHTS_ROUNDING = 1e-6, 4e-6

TEXTS = load_case(CASE).texts


@pytest.fixture(scope="module")
def encoder(compiled: Compiled) -> stcompile.HybridEncoder:
    return stcompile.HybridEncoder.load(compiled(CASE, outputs=ALL), threads=1)


@pytest.mark.parametrize("batch_size", [None, 1, 7])
def test_all_are_those_of_flag_embedding(encoder: stcompile.HybridEncoder, batch_size: int | None) -> None:
    assert_close(recorded(), encoder.encode_hybrid(TEXTS, batch_size=batch_size))


def test_scores_are_those_of_flag_embedding(encoder: stcompile.HybridEncoder) -> None:
    known = recorded().scores
    query, documents = encoder.encode_hybrid(max(TEXTS, key=len)), encoder.encode_hybrid(TEXTS)
    found = encoder.similarity_hybrid(query, documents, {"dense": 0.4, "sparse": 0.2, "multi_vector": 0.4})
    assert found.dense is not None
    assert found.sparse is not None
    assert found.multi_vector is not None
    np.testing.assert_allclose(found.dense[0], known["dense"], atol=ROUNDING)
    np.testing.assert_allclose(found.sparse[0], known["sparse"], rtol=2e-6, atol=1e-5)
    np.testing.assert_allclose(found.multi_vector[0], known["colbert"], atol=ROUNDING)
    np.testing.assert_allclose(found.combined[0], known["colbert_sparse_dense"], rtol=2e-6, atol=1e-5)
    assert known["sparse"].max() > 1


def test_openvino_makes_the_same(compiled: Compiled) -> None:
    encoder = stcompile.HybridEncoder.load(compiled(CASE, "openvino-fp32", outputs=ALL), threads=1)
    assert_close(recorded(), encoder.encode_hybrid(TEXTS))


def assert_close(expected: Recorded, found: HybridEmbeddings) -> None:
    assert found.dense is not None
    np.testing.assert_allclose(found.dense, expected.dense, rtol=0, atol=ROUNDING)
    for weights, vector in zip(expected.sparse, found.sparse, strict=True):
        assert vector.indices.tolist() == sorted(weights)
        np.testing.assert_allclose(
            vector.values, [weights[token] for token in sorted(weights)], rtol=0, atol=WEIGHTS_ROUNDING
        )
    for known, vectors in zip(expected.multi_vector, found.multi_vector, strict=True):
        assert vectors.shape == known.shape
        np.testing.assert_allclose(vectors, known, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("part", ALL)
def test_the_comparison_can_fail(encoder: stcompile.HybridEncoder, part: str) -> None:
    found = encoder.encode_hybrid(TEXTS)
    values = {"dense": found.dense, "sparse": found.sparse.values, "multi_vector": found.multi_vector[3]}[part]
    assert values is not None
    values[(0,) * values.ndim] += 1e-5
    with pytest.raises(AssertionError):
        assert_close(recorded(), found)


# Smallest cosine of a text's sparse vector, and of a token's vector, by our own modules. Measured: 0.9977 and 0.9996,
# 0.9998 and 0.99997, 0.9957 and 0.9994.
LEAST = {"onnx-int8": (0.995, 0.999), "onnx-bf16": (0.9995, 0.9999), "openvino-int8": (0.99, 0.999)}


@pytest.mark.parametrize("target", LEAST)
def test_lower_precision_is_near(target: str, quick: Quick) -> None:
    report = read_report(quick(CASE, target, outputs=ALL)).parity
    sparse, vectors = report.outputs
    assert (sparse.output, vectors.output) == ("sparse", "multi_vector")
    assert sparse.min_cosine >= LEAST[target][0]
    assert vectors.min_cosine >= LEAST[target][1]
