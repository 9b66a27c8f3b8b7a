"""What transformers' own exporter makes, in ONNX Runtime, with the loop its user writes: batches of 32 by length.

Options: `precision`.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .batches import by_length, unit_means, unpadded_tokenizer


def prepare(source: str, destination: str, options: dict[str, Any]) -> None:
    """The graph with the exporter's fusions for ONNX Runtime on a CPU; int8 by the quantizer that it brings."""
    from onnxruntime.quantization import QuantType
    from transformers import AutoModel, AutoTokenizer
    from transformers.exporters import OnnxConfig, OnnxRuntimeDynamicConfig, OnnxRuntimeQuantizer
    from transformers.exporters.exporter_onnx import OnnxExporter

    # The types and scales by channel that sentence-transformers' export takes for this CPU. With one scale for a whole
    # weight the cosine to torch falls from 0.99 to 0.96, and static quantization raises on what the fusions write.
    weights = QuantType.QInt8 if options["int8"] == "avx512_vnni" else QuantType.QUInt8
    dynamic = OnnxRuntimeDynamicConfig(per_channel=True, weight_type=weights)
    quantizer = OnnxRuntimeQuantizer(dynamic) if options["precision"] == "int8" else None
    model = AutoModel.from_pretrained(source, local_files_only=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True)
    sample = tokenizer(options["calibration"][:2], padding=True, truncation=True, return_tensors="pt")
    config = OnnxConfig(dynamic=True, ort_fusions="cpu", quantizer=quantizer)
    OnnxExporter().export(model, dict(sample), config).save_pretrained(destination)
    shutil.copy(Path(source) / "tokenizer.json", destination)


def load(model: str, threads: int, options: dict[str, Any]) -> Callable[[list[str]], Any]:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        str(Path(model) / "model.onnx"), settings, providers=["CPUExecutionProvider"]
    )
    inputs = [taken.name for taken in session.get_inputs()]
    tokenizer = unpadded_tokenizer(model, options["max_seq_length"])

    def encode(texts: list[str]) -> Any:
        rows = [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)]
        found = np.empty((len(rows), options["dim"]), np.float32)
        for places in by_length([len(row) for row in rows]):
            lengths = np.array([len(rows[place]) for place in places])
            mask = np.arange(lengths.max()) < lengths[:, None]
            ids = np.zeros(mask.shape, np.int64)
            ids[mask] = np.concatenate([rows[place] for place in places])
            given = {"input_ids": ids, "attention_mask": mask.astype(np.int64), "token_type_ids": np.zeros_like(ids)}
            states = session.run(["last_hidden_state"], {name: given[name] for name in inputs})[0]
            found[places] = unit_means(states, lengths)
        return found

    return encode
