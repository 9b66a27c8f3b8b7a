"""Cohere's client, whose rerank asks /v2/rerank."""

import sys

import cohere

client = cohere.ClientV2(api_key="none is needed", base_url=sys.argv[1])
found = client.rerank(model="reranker", query="a dog", documents=["a cat", "a dog", "one more"], top_n=2)
assert len(found.results) == 2
assert found.results[0].relevance_score >= found.results[1].relevance_score
print("right")
