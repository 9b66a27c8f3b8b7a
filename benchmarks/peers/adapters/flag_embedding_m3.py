"""FlagEmbedding's BGEM3FlagModel in float32: all three outputs of a text, in batches of 32 by length, its own way."""

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from .batches import BATCH_SIZE


def load(model: str, threads: int, options: dict[str, Any]) -> Callable[[list[str]], Any]:
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    import torch
    from FlagEmbedding import BGEM3FlagModel

    torch.set_num_threads(threads)
    found: Any = BGEM3FlagModel(model, use_fp16=False, devices="cpu", colbert_dim=options["token_dim"])
    asked = {"return_dense": True, "return_sparse": True, "return_colbert_vecs": True}
    return partial(found.encode, batch_size=BATCH_SIZE, max_length=options["max_seq_length"], **asked)
