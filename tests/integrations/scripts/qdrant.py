"""Qdrant: dense and sparse vectors in one collection, in memory."""

import sys

import numpy as np
from qdrant_client import QdrantClient

import stcompile
from stcompile.errors import InputError
from stcompile.integrations.qdrant import QdrantVectors

dense, sparse, by_cosine = sys.argv[1:]
texts = ["a dog", "a cat", "one more"]
vectors = QdrantVectors(dense=dense, sparse=sparse)
client = QdrantClient(":memory:")
client.create_collection("notes", **vectors.configuration())
client.upsert("notes", vectors.points(texts, payloads=[{"at": place} for place in range(3)]))
for using, folder in (("dense", dense), ("sparse", sparse)):
    encoder = stcompile.load(folder)
    scores = encoder.similarity(encoder.encode_query(["a dog"]), encoder.encode_document(texts))[0]
    best = int(np.argmax(scores))
    (found,) = client.query_points("notes", query=vectors.query("a dog", using), using=using, limit=1).points
    assert found.payload == {"text": texts[best], "at": best}, (using, found)
    assert np.isclose(found.score, scores[best], rtol=1e-4)
kept = client.retrieve("notes", [0, 1, 2], with_vectors=True)
rows = stcompile.load(sparse).encode_document(texts)
for point, row in zip(kept, rows, strict=True):
    assert point.vector["sparse"].indices == row.indices.tolist()
    assert np.allclose(point.vector["sparse"].values, row.values, atol=1e-5)
# By the model's own measure, which Qdrant has for dense vectors alone.
own = stcompile.load(by_cosine)
assert own.similarity_fn_name == "cosine"
by_own = QdrantVectors(sparse=by_cosine)
client.create_collection("cosine", **by_own.configuration())
client.upsert("cosine", by_own.points(texts))
scores = own.similarity(own.encode_query(["a dog"]), own.encode_document(texts))[0]
for one in client.query_points("cosine", query=by_own.query("a dog", "sparse"), using="sparse").points:
    assert np.isclose(one.score, scores[one.id], rtol=1e-4)
# What can be read once is read once; what does not fit is refused before anything is written.
assert len(vectors.points(text for text in texts)) == 3
assert vectors.points(["a dog"], payloads=[None])[0].payload == {"text": "a dog"}
for wrong in (
    lambda: vectors.points("a dog"),
    lambda: vectors.points(texts, ids=[1]),
    lambda: vectors.points(texts, payloads=[{}] * 4),
    lambda: vectors.query("a dog", "Sparse"),
):
    try:
        wrong()
    except InputError:
        continue
    raise AssertionError("it fits nowhere")
print("right")
