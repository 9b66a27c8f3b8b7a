"""LlamaIndex: an index, a retriever and a node postprocessor."""

import asyncio
import sys

import numpy as np
from llama_index.core import Document, VectorStoreIndex
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

import stcompile
from stcompile.errors import ArtifactError, InputError
from stcompile.integrations.llama_index import StcompileEmbedding, StcompileRerank

encoder, reranker = sys.argv[1:]
embedding = StcompileEmbedding(encoder)
loaded = stcompile.load(encoder, threads=1)
texts = ["a dog", "a cat", "one more"]
assert np.allclose(embedding.get_text_embedding_batch(texts), loaded.encode_document(texts), atol=1e-5)
assert np.allclose(embedding.get_query_embedding("a dog"), loaded.encode_query("a dog"), atol=1e-5)
assert np.allclose(asyncio.run(embedding.aget_query_embedding("a dog")), loaded.encode_query("a dog"), atol=1e-5)
index = VectorStoreIndex.from_documents([Document(text=text) for text in texts], embed_model=embedding)
assert index.as_retriever(similarity_top_k=1).retrieve("a dog")[0].text == "a dog"

nodes = [NodeWithScore(node=TextNode(text=text), score=0.5) for text in texts]
found = StcompileRerank(artifact=reranker, top_n=2).postprocess_nodes(nodes, query_bundle=QueryBundle("a dog"))
expected = stcompile.Reranker.load(reranker).rank("a dog", texts, 2)
assert [one.text for one in found] == [texts[one["corpus_id"]] for one in expected]
assert found[0].score == expected[0]["score"]
# Opened again by what LlamaIndex saves, and told apart by it in its caches.
again = StcompileEmbedding.from_json(embedding.to_json())
assert again.get_query_embedding("a dog") == embedding.get_query_embedding("a dog")
assert embedding.to_dict()["fingerprint"] == loaded.fingerprint
assert StcompileEmbedding(loaded).to_dict() == embedding.to_dict()
try:
    StcompileEmbedding.from_dict({**embedding.to_dict(), "fingerprint": "of.another"})
except (ArtifactError, InputError):
    pass
else:
    raise AssertionError("another artifact's vectors do not compare")
held = StcompileRerank(artifact=stcompile.load(reranker), top_n=2)
assert StcompileRerank.from_json(held.to_json()).artifact == reranker
print("right")
