"""CTranslate2's encoder, with the loop its user writes: tokenize, batches of 32 by length, mean, normalize.

Options: `compute_type`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .batches import by_length


def prepare(source: str, destination: str, options: dict[str, Any]) -> None:
    import ctranslate2

    converter = ctranslate2.converters.TransformersConverter(source, copy_files=["tokenizer.json"])
    converter.convert(destination, quantization=options["compute_type"])


def load(model: str, threads: int, options: dict[str, Any]) -> Callable[[list[str]], Any]:
    import ctranslate2
    from tokenizers import Tokenizer

    encoder = ctranslate2.Encoder(model, device="cpu", compute_type=options["compute_type"], intra_threads=threads)
    tokenizer = Tokenizer.from_file(str(Path(model) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(options["max_seq_length"])

    def encode(texts: list[str]) -> Any:
        rows = [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)]
        found = np.empty((len(rows), options["dim"]), np.float32)
        for places in by_length([len(row) for row in rows]):
            batch = [rows[place] for place in places]
            states = np.array(encoder.forward_batch(batch).last_hidden_state)
            lengths = np.array([len(row) for row in batch])[:, None]
            kept = np.arange(states.shape[1]) < lengths
            means = (states * kept[:, :, None]).sum(1) / lengths
            found[places] = means / np.linalg.norm(means, axis=1, keepdims=True)
        return found

    return encode
