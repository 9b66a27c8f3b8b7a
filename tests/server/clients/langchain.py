"""LangChain's OpenAIEmbeddings, as its documentation uses it with another server."""

import sys

from langchain_openai import OpenAIEmbeddings

embeddings = OpenAIEmbeddings(
    model="embedder", base_url=f"{sys.argv[1]}/v1", api_key="none is needed", check_embedding_ctx_length=False
)
query = embeddings.embed_query("a dog")
documents = embeddings.embed_documents(["a dog", "a cat"])
assert len(documents) == 2
assert max(abs(a - b) for a, b in zip(query, documents[0], strict=True)) < 1e-6
assert documents[0] != documents[1]
print("right")
