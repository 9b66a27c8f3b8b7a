"""LanceDB: a table whose vectors the registry's function makes, for rows and for queries."""

import sys
from pathlib import Path

import lancedb
import numpy as np
from lancedb.embeddings import get_registry
from lancedb.pydantic import LanceModel, Vector

import stcompile
import stcompile.integrations.lancedb

encoder, _ = sys.argv[1:]
texts = ["a dog", "a cat", "one more"]
function = get_registry().get("stcompile").create(artifact=encoder)


class Note(LanceModel):  # type: ignore[misc] # of a package that is not here
    text: str = function.SourceField()
    vector: Vector(function.ndims()) = function.VectorField()  # type: ignore[valid-type] # LanceDB's way


table = lancedb.connect("notes").create_table("notes", schema=Note)
table.add([{"text": text} for text in texts])
loaded = stcompile.load(encoder, threads=1)
kept = np.stack(table.to_arrow().column("vector").to_pylist())
assert np.allclose(kept, loaded.encode_document(texts), atol=1e-5)
assert table.search("a dog").limit(1).to_list()[0]["text"] == "a dog"
assert get_registry().get("stcompile").create(artifact=Path(encoder)).artifact == encoder
print("right")
