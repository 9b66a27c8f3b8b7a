"""Artifacts of each schema: every later release must still load them, and give the same vectors.

They are never written again. A change of the format adds a folder.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import stcompile
from stcompile.artifact import open_artifact
from stcompile.compiler.metrics import as_ragged, distance
from stcompile.kernels import native
from tests.conftest import GOLDEN, load_case
from tests.hybrid import recorded

FROZEN = sorted(folder.parent for folder in (GOLDEN / "artifacts").glob("v*/*/manifest.json"))

# Smallest cosine to sentence-transformers over the golden texts. Measured: fp32 1, fp16 0.99999, int8-dynamic 0.9991,
# onnx-int8 0.9993, bf16 0.99998, openvino-int8 0.9987, int4-weights 0.987.
MIN_COSINE = {
    "onnx-fp32": 0.999999,
    "onnx-fp16": 0.9999,
    "onnx-bf16": 0.9999,
    "onnx-int8-dynamic": 0.998,
    "onnx-int8": 0.998,
    "openvino-int8": 0.998,
    "onnx-int4-weights": 0.98,
}


# Of a reranker's logits with those of sentence-transformers. Measured: 0.9996.
LEAST_CORRELATION = 0.999


# Of a hybrid encoder's weights above 1, in proportion to them. Measured: 0.0132.
WEIGHTS_OFF = 0.03


def test_there_are_frozen_artifacts() -> None:
    assert {open_artifact(folder).manifest.target for folder in FROZEN} == set(MIN_COSINE)


@pytest.mark.parametrize("folder", FROZEN, ids=lambda folder: f"{folder.parent.name}-{folder.name}")
def test_a_frozen_artifact_still_encodes(folder: Path) -> None:
    manifest = open_artifact(folder).manifest
    target = manifest.target
    if manifest.engine.native and not manifest.engine.portable and native.refusals():
        pytest.skip("; ".join(native.refusals()))
    # Before schema 5, what has the package's own operators was a target of its own.
    case = load_case(folder.name.removesuffix("-fused").removesuffix(f"-{target}"))
    encoder = stcompile.load(folder, self_test=manifest.space is not None)
    if isinstance(encoder, stcompile.Reranker):
        scores, expected = encoder.predict(case.texts, activation_fn="identity"), case.expected("logits")
        assert np.corrcoef(scores, expected)[0, 1] >= LEAST_CORRELATION
        return
    # One by one: the dynamic recipe gives a text another vector in another batch.
    # All numbers of a sparse vector: which are the largest, a rounding decides.
    run = case.runs.get("many") or next(run for run in case.runs.values() if run["method"] == "encode")
    vectors = encoder.encode(case.texts, **{**run["kwargs"], "batch_size": 1})
    vectors = vectors.toarray() if isinstance(encoder, stcompile.SparseEncoder) else vectors
    vectors = np.concatenate(vectors) if isinstance(encoder, stcompile.MultiVectorEncoder) else vectors
    expected = case.expected(run["name"])
    assert distance(expected, vectors).cosine.min() >= MIN_COSINE[target]
    if manifest.image is not None:
        images = encoder.encode(case.inputs_of(case.runs["images"]))
        assert distance(case.expected("images"), images).cosine.min() >= MIN_COSINE[target]
    if isinstance(encoder, stcompile.HybridEncoder):
        found = encoder.encode_hybrid(case.texts)
        assert (
            distance(as_ragged(recorded().multi_vector), as_ragged(found.multi_vector)).cosine.min()
            >= MIN_COSINE[target]
        )
        for known, vector in zip(recorded().sparse, found.sparse.toarray(), strict=True):
            # What is next to nothing, rounding decides.
            large = [token for token, weight in known.items() if weight > 1]
            np.testing.assert_allclose(vector[large], [known[token] for token in large], rtol=WEIGHTS_OFF)
