"""Haystack: pipelines that index, search and rank, saved and read again."""

import sys

import numpy as np
from haystack import Document, Pipeline
from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
from haystack.components.writers import DocumentWriter
from haystack.document_stores.in_memory import InMemoryDocumentStore

import stcompile
from stcompile.errors import InputError
from stcompile.integrations.haystack import StcompileDocumentEmbedder, StcompileRanker, StcompileTextEmbedder

encoder, reranker = sys.argv[1:]
loaded = stcompile.load(encoder, threads=1)
texts = ["a dog", "a cat", "one more"]
store = InMemoryDocumentStore()
indexing = Pipeline()
indexing.add_component("embedder", StcompileDocumentEmbedder(encoder, meta_fields_to_embed=["title"]))
indexing.add_component("writer", DocumentWriter(store))
indexing.connect("embedder", "writer")
indexing.run({"embedder": {"documents": [Document(content=text, meta={"title": "of"}) for text in texts]}})
kept = {one.content: one.embedding for one in store.filter_documents()}
assert np.allclose([kept[text] for text in texts], loaded.encode_document([f"of\n{text}" for text in texts]), atol=1e-5)

search = Pipeline()
search.add_component("embedder", StcompileTextEmbedder(encoder))
search.add_component("retriever", InMemoryEmbeddingRetriever(store, top_k=3))
search.add_component("ranker", StcompileRanker(reranker, top_k=2))
search.connect("embedder.embedding", "retriever.query_embedding")
search.connect("retriever.documents", "ranker.documents")
# Haystack reads classes of modules that it was told to trust.
again = Pipeline.loads(search.dumps(), allowed_modules=["stcompile.integrations.haystack", "haystack.*"])
again.get_component("retriever").document_store = store
found = again.run({"embedder": {"text": "a dog"}, "ranker": {"query": "a dog"}})["ranker"]["documents"]
expected = stcompile.Reranker.load(reranker).rank("a dog", texts, 2)
assert [one.content for one in found] == [texts[one["corpus_id"]] for one in expected]
held = StcompileTextEmbedder(loaded)
assert held.to_dict() == StcompileTextEmbedder(encoder).to_dict()
assert np.allclose(held.run("a dog")["embedding"], loaded.encode_query("a dog"), atol=1e-5)
try:
    held.run(texts)
except InputError as error:
    assert "this takes one text, got list" in str(error)
else:
    raise AssertionError("several texts have no one vector")
print("right")
