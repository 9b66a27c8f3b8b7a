"""Who is compared, and what each of them reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SOURCE = "source"


@dataclass(frozen=True)
class Prepared:
    """A model in the form that a contender reads.

    Attributes:
        environment: where it is made.
        adapter: whose `prepare` makes it.
        options: passed to that.
        of: what it is made of: another of `PREPARED`, or the model folder.
    """

    environment: str
    adapter: str
    options: Mapping[str, Any] = field(default_factory=dict)
    of: str = SOURCE


@dataclass(frozen=True)
class Contender:
    """One engine in one precision.

    Attributes:
        environment: where it runs.
        adapter: the module of `adapters/` that loads it.
        model: what it reads: one of `PREPARED`, a target of stcompile, or the model folder itself.
        precision: whom it is compared with, `fp32`, `bf16` or `int8`.
        options: passed to the adapter.
    """

    environment: str
    adapter: str
    model: str
    precision: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_ours(self) -> bool:
        """Whether it is stcompile."""
        return self.environment == "stcompile"


_ST = "sentence_transformers_any"

# The options `int8` (for ONNX) and `calibration` (for OpenVINO) are filled in by the run: they depend on the machine.
PREPARED: dict[str, Prepared] = {
    "st-onnx": Prepared("st-onnx", _ST, {"backend": "onnx"}),
    "st-openvino": Prepared("st-openvino", _ST, {"backend": "openvino"}),
    "ctranslate2-fp32": Prepared("ctranslate2", "ctranslate2_encoder", {"compute_type": "float32"}),
    "ctranslate2-int8": Prepared("ctranslate2", "ctranslate2_encoder", {"compute_type": "int8"}),
    "genai-fp32": Prepared(
        "st-openvino", "openvino_genai_pipeline", {"file": "openvino/openvino_model"}, of="st-openvino"
    ),
    "genai-int8": Prepared(
        "st-openvino", "openvino_genai_pipeline", {"file": "openvino/openvino_model_int8"}, of="st-openvino"
    ),
    "infinity": Prepared("infinity", "infinity_engine", {"file": "onnx/model.onnx"}, of="st-onnx"),
    "exporters-fp32": Prepared("transformers-exporters", "transformers_exporters", {"precision": "fp32"}),
    "exporters-int8": Prepared("transformers-exporters", "transformers_exporters", {"precision": "int8"}),
    "llama-cpp-q8-0": Prepared("llama-cpp", "llama_cpp_library"),
}

_FP32, _INT8 = "onnx/model.onnx", "onnx/model_int8.onnx"

REFERENCE = "ST torch fp32"

CONTENDERS: dict[str, Contender] = {
    "stcompile onnx-fp32": Contender("stcompile", "stcompile_runtime", "onnx-fp32", "fp32"),
    "stcompile onnx-bf16": Contender("stcompile", "stcompile_runtime", "onnx-bf16", "bf16"),
    "stcompile onnx-int8": Contender("stcompile", "stcompile_runtime", "onnx-int8", "int8"),
    REFERENCE: Contender("sentence-transformers", _ST, SOURCE, "fp32", {"backend": "torch"}),
    "ST torch bf16": Contender("sentence-transformers", _ST, SOURCE, "bf16", {"backend": "torch", "dtype": "bfloat16"}),
    "ST ONNX fp32": Contender("st-onnx", _ST, "st-onnx", "fp32", {"backend": "onnx", "file": _FP32}),
    "ST ONNX int8": Contender("st-onnx", _ST, "st-onnx", "int8", {"backend": "onnx", "file": _INT8}),
    "ST OpenVINO": Contender(
        "st-openvino", _ST, "st-openvino", "fp32", {"backend": "openvino", "file": "openvino/openvino_model.xml"}
    ),
    "ST OpenVINO int8": Contender(
        "st-openvino", _ST, "st-openvino", "int8", {"backend": "openvino", "file": "openvino/openvino_model_int8.xml"}
    ),
    "fastembed fp32": Contender("fastembed", "fastembed_onnx", "st-onnx", "fp32", {"file": _FP32}),
    "fastembed int8": Contender("fastembed", "fastembed_onnx", "st-onnx", "int8", {"file": _INT8}),
    "CTranslate2 fp32": Contender(
        "ctranslate2", "ctranslate2_encoder", "ctranslate2-fp32", "fp32", {"compute_type": "float32"}
    ),
    "CTranslate2 int8": Contender(
        "ctranslate2", "ctranslate2_encoder", "ctranslate2-int8", "int8", {"compute_type": "int8"}
    ),
    "OpenVINO GenAI": Contender("openvino-genai", "openvino_genai_pipeline", "genai-fp32", "fp32"),
    "OpenVINO GenAI int8": Contender("openvino-genai", "openvino_genai_pipeline", "genai-int8", "int8"),
    "light-embed fp32": Contender("light-embed", "light_embed_onnx", "st-onnx", "fp32", {"file": _FP32}),
    "light-embed int8": Contender("light-embed", "light_embed_onnx", "st-onnx", "int8", {"file": _INT8}),
    "infinity fp32": Contender("infinity", "infinity_engine", "infinity", "fp32"),
    "transformers ONNX fp32": Contender("transformers-exporters", "transformers_exporters", "exporters-fp32", "fp32"),
    "transformers ONNX int8": Contender("transformers-exporters", "transformers_exporters", "exporters-int8", "int8"),
    "llama.cpp Q8_0": Contender("llama-cpp", "llama_cpp_library", "llama-cpp-q8-0", "int8"),
}

# OpenVINO computes in bfloat16 by default where the CPU has it, so there its defaults are no fp32 peers.
DEFAULT_IS_BF16 = ("ST OpenVINO", "OpenVINO GenAI")
