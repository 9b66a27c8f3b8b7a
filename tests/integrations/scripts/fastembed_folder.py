"""fastembed: an artifact of the layout of transformers.js as a custom model."""

import json
import sys
from pathlib import Path

import numpy as np
from fastembed import TextEmbedding
from fastembed.common.model_description import ModelSource, PoolingType

for job in json.loads(Path(sys.argv[1]).read_text("utf-8")):
    name, folder = job["name"], Path(job["artifact"])
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    TextEmbedding.add_custom_model(
        name,
        pooling=PoolingType.DISABLED,  # the graph has pooled already,
        normalization=False,  # and normalized, if the model does
        output_name="sentence_embedding",
        sources=ModelSource(url="none"),  # one must be named; nothing is fetched from it
        dim=manifest["dim"],
        model_file=manifest["graphs"][0]["file"],
    )
    encoder = TextEmbedding(name, specific_model_path=str(folder))
    found = np.array([*encoder.embed(job["texts"], batch_size=8)], dtype=np.float64)
    golden = np.load(job["expected"]).astype(np.float64)
    cosines = (found * golden).sum(axis=1) / np.linalg.norm(found, axis=1) / np.linalg.norm(golden, axis=1)
    assert cosines.min() >= job["least"], (name, cosines.argmin(), cosines.min())
    print(name, cosines.min(), np.abs(found - golden).max())
print("right")
