"""LlamaIndex's OpenAILikeEmbedding."""

import sys

from llama_index.embeddings.openai_like import OpenAILikeEmbedding

embedding = OpenAILikeEmbedding(
    model_name="embedder", api_base=f"{sys.argv[1]}/v1", api_key="none is needed", embed_batch_size=10
)
query = embedding.get_query_embedding("a dog")
documents = embedding.get_text_embedding_batch(["a dog", "a cat"])
assert len(documents) == 2
assert max(abs(a - b) for a, b in zip(query, documents[0], strict=True)) < 1e-6
print("right")
