"""sentence-transformers' ONNX or OpenVINO backend and optimum's own loader: artifacts of the layout of optimum."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer

# OpenVINO would compute in bfloat16 by itself where the CPU has it.
IN_FLOAT32 = {"ov_config": {"INFERENCE_PRECISION_HINT": "f32"}}


def loaded(folder: str, backend: str) -> tuple[Any, SentenceTransformer]:
    """The network alone, and what sentence-transformers makes of the whole folder."""
    if backend == "onnx":
        from optimum.onnxruntime import ORTModelForFeatureExtraction

        return ORTModelForFeatureExtraction.from_pretrained(folder), SentenceTransformer(folder, backend=backend)
    from optimum.intel import OVModelForFeatureExtraction

    alone = OVModelForFeatureExtraction.from_pretrained(folder, subfolder="openvino", **IN_FLOAT32)
    return alone, SentenceTransformer(folder, backend=backend, model_kwargs=IN_FLOAT32)


def cosines(left: Any, right: Any) -> Any:
    left, right = left.astype(np.float64), right.astype(np.float64)
    return (left * right).sum(-1) / np.linalg.norm(left, axis=-1) / np.linalg.norm(right, axis=-1)


for job in json.loads(Path(sys.argv[1]).read_text("utf-8")):
    folder, texts = job["artifact"], job["texts"]
    before = sorted(path.name for path in Path(folder).rglob("*"))
    network, whole = loaded(folder, job["backend"])
    # A network exported anew would be a network of torch's weights, and there are none.
    assert "ModelForFeatureExtraction" in type(whole[0].auto_model).__name__
    assert not list(Path(folder).glob("*.safetensors"))
    found = whole.encode(texts, batch_size=8)
    least = cosines(found, np.load(job["expected"])).min()
    assert least >= job["least"], (job["name"], least)

    tokenizer = AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(texts[:8], padding=True, truncation=True, max_length=32, return_tensors="pt")
    given = network(**batch).last_hidden_state
    with torch.inference_mode():
        wanted = AutoModel.from_pretrained(job["model"], dtype=torch.float32)(**batch).last_hidden_state
    seen = batch["attention_mask"].numpy() > 0
    hidden = cosines(np.asarray(given)[seen], wanted.numpy()[seen]).min()
    assert hidden >= job["least_of_tokens"], (job["name"], hidden)
    assert sorted(path.name for path in Path(folder).rglob("*")) == before
    print(job["name"], least, hidden)
print("right")
