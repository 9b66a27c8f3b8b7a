"""CTranslate2's encoder, with the loop its user writes: tokenize, batches of 32 by length, mean, normalize.

Options: `compute_type`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from .batches import by_length, unit_means, unpadded_tokenizer


def prepare(source: str, destination: str, options: dict[str, Any]) -> None:
    import ctranslate2

    converter = ctranslate2.converters.TransformersConverter(source, copy_files=["tokenizer.json"])
    converter.convert(destination, quantization=options["compute_type"])


def load(model: str, threads: int, options: dict[str, Any]) -> Callable[[list[str]], Any]:
    import ctranslate2

    encoder = ctranslate2.Encoder(model, device="cpu", compute_type=options["compute_type"], intra_threads=threads)
    tokenizer = unpadded_tokenizer(model, options["max_seq_length"])

    def encode(texts: list[str]) -> Any:
        rows = [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)]
        found = np.empty((len(rows), options["dim"]), np.float32)
        for places in by_length([len(row) for row in rows]):
            batch = [rows[place] for place in places]
            states = np.array(encoder.forward_batch(batch).last_hidden_state)
            found[places] = unit_means(states, np.array([len(row) for row in batch]))
        return found

    return encode
