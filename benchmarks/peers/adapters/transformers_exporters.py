"""What transformers' own exporter makes, in ONNX Runtime, with the loop its user writes: batches of 32 by length.

Options: `precision`.
"""

import shutil
from pathlib import Path
from typing import Any

from .onnx_graph import load

__all__ = ["load", "prepare"]


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
