"""Artifacts behind HTTP, as OpenAI, text-embeddings-inference, Cohere and Jina answer: `stcompile serve`."""
