"""Chroma: a collection that finds its embedding function again, and refuses another artifact in its place."""

import shutil
import sys
from pathlib import Path

import chromadb
import numpy as np

import stcompile
from stcompile.errors import ArtifactError
from stcompile.integrations.chroma import StcompileEmbeddingFunction

encoder, other = sys.argv[1:]
texts = ["a dog", "a cat", "one more"]
folder = Path("artifact")
shutil.copytree(encoder, folder)
client = chromadb.PersistentClient("notes")
collection = client.create_collection("notes", embedding_function=StcompileEmbeddingFunction(str(folder)))
collection.add(ids=["0", "1", "2"], documents=texts)
loaded = stcompile.load(encoder, threads=1)
kept = collection.get(ids=["0", "1", "2"], include=["embeddings"])["embeddings"]
assert np.allclose(kept, loaded.encode_document(texts), atol=1e-5)
# Opened anew, by what the collection keeps.
again = chromadb.PersistentClient("notes").get_collection("notes")
assert again.query(query_texts=["a dog"], n_results=1)["documents"] == [["a dog"]]
config = StcompileEmbeddingFunction(str(folder)).get_config()
assert config == {"artifact": "artifact", "fingerprint": loaded.fingerprint}
# What is loaded knows where it lies, wherever the process goes.
there = {**config, "artifact": str(folder.absolute())}
assert StcompileEmbeddingFunction(stcompile.load(folder)).get_config() == there
shutil.rmtree(folder)
shutil.copytree(other, folder)
try:
    StcompileEmbeddingFunction.build_from_config(config)
except ArtifactError as error:
    assert "fingerprint" in str(error) or "weights" in str(error), error
else:
    raise AssertionError("another model's vectors do not compare")
print("right")
