"""LangChain: a vector store and a compressing retriever, as its documentation uses them."""

import asyncio
import sys

import numpy as np
from langchain_core.documents import Document
from langchain_core.vectorstores import InMemoryVectorStore

import stcompile
from stcompile.errors import InputError
from stcompile.integrations.langchain import StcompileEmbeddings, StcompileReranker

encoder, reranker = sys.argv[1:]
embeddings = StcompileEmbeddings(encoder, threads=1)
loaded = stcompile.load(encoder, threads=1)
texts = ["a dog", "a cat", "one more"]
assert np.allclose(embeddings.embed_documents(texts), loaded.encode_document(texts), atol=1e-5)
assert np.allclose(embeddings.embed_query("a dog"), loaded.encode_query("a dog"), atol=1e-5)
assert np.allclose(asyncio.run(embeddings.aembed_query("a dog")), loaded.encode_query("a dog"), atol=1e-5)
store = InMemoryVectorStore(embeddings)
store.add_documents([Document(page_content=text, metadata={"at": place}) for place, text in enumerate(texts)])
assert store.similarity_search("a dog", k=1)[0].page_content == "a dog"

compressor = StcompileReranker(artifact=reranker, top_n=2)
found = compressor.compress_documents([Document(page_content=text, metadata={"at": 1}) for text in texts], "a dog")
expected = stcompile.Reranker.load(reranker).rank("a dog", texts, 2)
assert [one.page_content for one in found] == [texts[one["corpus_id"]] for one in expected]
assert found[0].metadata["relevance_score"] >= found[1].metadata["relevance_score"]
assert found[0].metadata["at"] == 1
assert compressor.compress_documents([], "a dog") == []
try:
    StcompileEmbeddings(reranker)
except InputError as error:
    assert "this takes an encoder or a hybrid encoder, and got a reranker" in str(error)
else:
    raise AssertionError("a reranker makes no embeddings")
held = StcompileReranker(artifact=stcompile.load(reranker))
assert held.model_dump_json() == StcompileReranker(artifact=reranker).model_dump_json()
print("right")
