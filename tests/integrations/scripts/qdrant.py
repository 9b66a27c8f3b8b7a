"""Qdrant: dense and sparse vectors in one collection, in memory."""

import sys

import numpy as np
from qdrant_client import QdrantClient

import stcompile
from stcompile.integrations.qdrant import QdrantVectors

dense, sparse = sys.argv[1:]
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
print("right")
