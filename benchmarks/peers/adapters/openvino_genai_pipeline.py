"""OpenVINO GenAI's TextEmbeddingPipeline, with the loop its user writes: batches of 32 by length.

It pads what it gets in one call to the longest, and knows nothing of batches. Options: `file`, `max_seq_length`.
"""

from collections.abc import Callable
from pathlib import Path
from shutil import copy
from typing import Any

import numpy as np

from .batches import by_length


def prepare(source: str, destination: str, options: dict[str, Any]) -> None:
    """The folder it reads: the graph that sentence-transformers exported, and the tokenizer as a second graph."""
    import openvino
    import openvino_tokenizers
    from transformers import AutoTokenizer

    folder = Path(destination)
    folder.mkdir(parents=True)
    for suffix in (".xml", ".bin"):
        copy(Path(source) / f"{options['file']}{suffix}", folder / f"openvino_model{suffix}")
    tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True)
    graph = openvino_tokenizers.convert_tokenizer(tokenizer)
    openvino.save_model(graph, folder / "openvino_tokenizer.xml")


def load(model: str, threads: int, options: dict[str, Any]) -> Callable[[list[str]], Any]:
    import openvino_genai

    config = openvino_genai.TextEmbeddingPipeline.Config()
    config.pooling_type = openvino_genai.TextEmbeddingPipeline.PoolingType.MEAN
    config.normalize = True
    config.max_length = options["max_seq_length"]
    found = openvino_genai.TextEmbeddingPipeline(model, "CPU", config, INFERENCE_NUM_THREADS=threads)

    def encode(texts: list[str]) -> Any:
        vectors = np.empty((len(texts), options["dim"]), np.float32)
        for places in by_length([len(text) for text in texts]):
            vectors[places] = found.embed_documents([texts[place] for place in places])
        return vectors

    return encode
