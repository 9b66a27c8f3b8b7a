"""Records what FlagEmbedding makes of the folders with its heads: python -m golden.flag_embedding

It wants an environment of its own, since it needs transformers 4: pip install FlagEmbedding==1.4.2 'transformers<5'
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from FlagEmbedding import BGEM3FlagModel

GOLDEN = Path(__file__).resolve().parent
RECORDED = GOLDEN / "hybrid"


def main() -> int:
    """Writes one file for each folder that has both heads."""
    for head in sorted(GOLDEN.glob("models/*/sparse_linear.pt")):
        folder = head.parent
        about = json.loads((GOLDEN / "expected" / folder.name / "case.json").read_text(encoding="utf-8"))
        texts = json.loads((GOLDEN / "expected" / about["inputs"]).read_text(encoding="utf-8"))
        # Its default rounds weights to float16, on a CPU too.
        model: Any = BGEM3FlagModel(str(folder), use_fp16=False, devices="cpu")
        # One by one: how a text is padded is no part of what is right.
        asked = {"return_dense": True, "return_sparse": True, "return_colbert_vecs": True}
        found = [model.encode([text], max_length=about["max_seq_length"], **asked) for text in texts]
        weights = [item["lexical_weights"][0] for item in found]
        vectors = [item["colbert_vecs"][0] for item in found]
        query = max(texts, key=len)
        pairs = [[query, text] for text in texts]
        limits = dict.fromkeys(("max_query_length", "max_passage_length"), about["max_seq_length"])
        scores = model.compute_score(pairs, weights_for_different_modes=[0.4, 0.2, 0.4], **limits)
        RECORDED.mkdir(exist_ok=True)
        arrays: dict[str, Any] = dict(
            versions=[f"{name} {version(name)}" for name in ("FlagEmbedding", "transformers", "torch")],
            dense=np.concatenate([item["dense_vecs"] for item in found]),
            tokens=np.array([int(token) for item in weights for token in item], np.int32),
            weights=np.array([value for item in weights for value in item.values()], np.float32),
            counts=np.array([len(item) for item in weights]),
            vectors=np.concatenate(vectors),
            lengths=np.array([len(item) for item in vectors]),
            **{f"score_{name.replace('+', '_')}": np.array(value, np.float32) for name, value in scores.items()},
        )
        np.savez_compressed(RECORDED / f"{folder.name}.npz", **arrays)
        print(f"{folder.name}: {len(texts)} texts")
    return 0


if __name__ == "__main__":
    sys.exit(main())
