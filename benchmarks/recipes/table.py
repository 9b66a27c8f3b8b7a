"""Every recipe: how it is made, and who runs what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.peers.contenders import Prepared

# The environment of this very process: the compiler's, which ours are made in.
COMPILER = "compiler"

FULL, INT8, INT8_WEIGHTS, INT4_WEIGHTS = KINDS = (
    "32 and 16 bits",
    "8 bits, weights and activations",
    "8 bits, weights alone",
    "4 bits, weights alone",
)

OURS = "stcompile"


@dataclass(frozen=True)
class Recipe:
    """One way to make a model smaller or faster, or to leave it as it is.

    Attributes:
        kind: what it does to numbers, one of `KINDS`.
        library: who does it.
        call: how, as somebody writes it who does it by hand.
        maker: what makes its files; None where the model folder itself is read.
        environment: where it runs.
        adapter: the module of `peers/adapters/` that loads it.
        options: passed to the adapter.
        target: of stcompile; empty for others.
    """

    kind: str
    library: str
    call: str
    maker: Prepared | None
    environment: str
    adapter: str
    options: Mapping[str, Any] = field(default_factory=dict)
    target: str = ""


# What other recipes begin with, which `Prepared.of` names: optimum's float32 exports.
BASES: dict[str, Prepared] = {
    "optimum-onnx": Prepared("st-onnx", "optimum_files", {"backend": "onnx"}),
    "optimum-openvino": Prepared("st-openvino", "optimum_files", {"backend": "openvino"}),
}

_ONNX, _XML = "onnx/model.onnx", "openvino/openvino_model.xml"

# By itself OpenVINO computes in bfloat16 where the CPU has it, and quantizes activations before compressed weights.
_EXACT = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
_EXACTLY = ", computed in float32"


def _ours(kind: str, target: str) -> Recipe:
    maker = Prepared(COMPILER, "stcompile_runtime", {"target": target})
    call = f"stcompile export MODEL --target {target}"
    return Recipe(kind, OURS, call, maker, "stcompile", "stcompile_runtime", target=target)


def _torch(**options: Any) -> Recipe:
    given = ", ".join(f'"{name}": torch.{value}' for name, value in options.items())
    call = f"SentenceTransformer(MODEL{', model_kwargs={' + given + '}' if given else ''})"
    adapter = "sentence_transformers_any"
    return Recipe(FULL, "torch", call, None, "sentence-transformers", adapter, {"backend": "torch", **options})


def _torchao(kind: str, config: str) -> Recipe:
    maker = Prepared("torchao", "torchao_model", {"config": config})
    return Recipe(kind, "torchao", f"TorchAoConfig({config}())", maker, "torchao", "torchao_model")


def _optimum(kind: str, backend: str, call: str, recipe: str) -> Recipe:
    environment = f"st-{backend}"
    maker = Prepared(environment, "optimum_files", {"backend": backend, "recipe": recipe}, of=f"optimum-{backend}")
    if backend == "onnx":
        return Recipe(kind, "optimum", call, maker, environment, "onnx_graph", {"file": "onnx/model_recipe.onnx"})
    file = "openvino/openvino_model_recipe.xml"
    return Recipe(kind, "optimum", call, maker, environment, "openvino_graph", {"file": file})


def _nncf(
    kind: str, method: str, *, needs_texts: bool, of: str = "openvino", config: Mapping[str, str] = {}, **arguments: Any
) -> Recipe:
    options = {
        "method": method,
        "arguments": arguments,
        "needs_texts": needs_texts,
        "graph": _XML if of == "openvino" else _ONNX,
    }
    call = _written({"weights": "nncf.compress_weights", "post-training": "nncf.quantize"}[method], arguments)
    if of == "onnx":
        maker = Prepared("onnx-quantizers", "nncf_quantizer", options, of="optimum-onnx")
        return Recipe(kind, "NNCF", call, maker, "onnx-quantizers", "onnx_graph")
    maker = Prepared("st-openvino", "nncf_quantizer", options, of="optimum-openvino")
    opened = {"file": "openvino_model.xml", "config": config}
    return Recipe(kind, "NNCF", call, maker, "st-openvino", "openvino_graph", opened)


_FUNCTIONS = {
    "dynamic": "quantize_dynamic",
    "static": "quantize_static",
    "weights": "MatMulNBitsQuantizer",
    "hqq": "HQQWeightOnlyQuantConfig",
}


def _onnxruntime(kind: str, method: str, **arguments: Any) -> Recipe:
    options = {"method": method, "arguments": arguments}
    maker = Prepared("onnx-quantizers", "onnxruntime_quantizers", options, of="optimum-onnx")
    call = _written(_FUNCTIONS[method], arguments)
    return Recipe(kind, "onnxruntime", call, maker, "onnx-quantizers", "onnxruntime_quantizers")


def _written(function: str, arguments: Mapping[str, Any]) -> str:
    return f"{function}({', '.join(f'{name}={value}' for name, value in arguments.items())})"


REFERENCE = "torch float32"

RECIPES: dict[str, Recipe] = {
    REFERENCE: _torch(),
    "torch bfloat16": _torch(dtype="bfloat16"),
    "stcompile onnx-fp32": _ours(FULL, "onnx-fp32"),
    "stcompile onnx-bf16": _ours(FULL, "onnx-bf16"),
    "stcompile openvino-fp32": _ours(FULL, "openvino-fp32"),
    "optimum ONNX float32": Recipe(
        FULL,
        "optimum",
        'SentenceTransformer(MODEL, backend="onnx")',
        BASES["optimum-onnx"],
        "st-onnx",
        "onnx_graph",
        {"file": _ONNX},
    ),
    "optimum ONNX O2": _optimum(FULL, "onnx", 'export_optimized_onnx_model(model, "O2", ...)', "O2"),
    "optimum ONNX O3": _optimum(FULL, "onnx", 'export_optimized_onnx_model(model, "O3", ...)', "O3"),
    "optimum OpenVINO": Recipe(
        FULL,
        "optimum",
        'SentenceTransformer(MODEL, backend="openvino")',
        BASES["optimum-openvino"],
        "st-openvino",
        "openvino_graph",
        {"file": _XML},
    ),
    "stcompile onnx-int8": _ours(INT8, "onnx-int8"),
    "stcompile openvino-int8": _ours(INT8, "openvino-int8"),
    "stcompile openvino-int8-nncf": _ours(INT8, "openvino-int8-nncf"),
    "stcompile onnx-int8-dynamic": _ours(INT8, "onnx-int8-dynamic"),
    "NNCF post-training": _nncf(INT8, "post-training", model_type="TRANSFORMER", needs_texts=True),
    f"NNCF post-training{_EXACTLY}": _nncf(
        INT8, "post-training", model_type="TRANSFORMER", needs_texts=True, config=_EXACT
    ),
    "NNCF post-training, no model type": _nncf(INT8, "post-training", needs_texts=True),
    "NNCF post-training, ONNX": _nncf(INT8, "post-training", model_type="TRANSFORMER", needs_texts=True, of="onnx"),
    "optimum OpenVINO qint8": _optimum(
        INT8, "openvino", "export_static_quantized_openvino_model(model, ...)", "static"
    ),
    "optimum ONNX avx512_vnni": _optimum(
        INT8, "onnx", 'export_dynamic_quantized_onnx_model(model, "avx512_vnni", ...)', "avx512_vnni"
    ),
    "onnxruntime dynamic": _onnxruntime(INT8, "dynamic"),
    "onnxruntime dynamic, per channel": _onnxruntime(INT8, "dynamic", per_channel=True),
    "onnxruntime dynamic, per channel, reduced range": _onnxruntime(
        INT8, "dynamic", per_channel=True, reduce_range=True
    ),
    "onnxruntime static": _onnxruntime(INT8, "static"),
    "onnxruntime static, MatMul alone, per channel": _onnxruntime(
        INT8, "static", per_channel=True, op_types_to_quantize=["MatMul"]
    ),
    "torchao dynamic": _torchao(INT8, "Int8DynamicActivationInt8WeightConfig"),
    "CTranslate2 int8": Recipe(
        INT8,
        "CTranslate2",
        'TransformersConverter(MODEL).convert(..., quantization="int8")',
        Prepared("ctranslate2", "ctranslate2_encoder", {"compute_type": "int8"}),
        "ctranslate2",
        "ctranslate2_encoder",
        {"compute_type": "int8"},
    ),
    "llama.cpp Q8_0": Recipe(
        INT8,
        "llama.cpp",
        "convert_hf_to_gguf.py MODEL --outtype q8_0",
        Prepared("llama-cpp", "llama_cpp_library"),
        "llama-cpp",
        "llama_cpp_library",
    ),
    "stcompile onnx-int8-weights": _ours(INT8_WEIGHTS, "onnx-int8-weights"),
    "stcompile openvino-int8-weights": _ours(INT8_WEIGHTS, "openvino-int8-weights"),
    "NNCF int8_asym": _nncf(INT8_WEIGHTS, "weights", mode="INT8_ASYM", needs_texts=False),
    f"NNCF int8_asym{_EXACTLY}": _nncf(INT8_WEIGHTS, "weights", mode="INT8_ASYM", needs_texts=False, config=_EXACT),
    "NNCF int8_sym": _nncf(INT8_WEIGHTS, "weights", mode="INT8_SYM", needs_texts=False),
    "NNCF int8_asym, ONNX": _nncf(INT8_WEIGHTS, "weights", mode="INT8_ASYM", needs_texts=False, of="onnx"),
    "MatMulNBits 8 bit": _onnxruntime(INT8_WEIGHTS, "weights", bits=8, block_size=32),
    "MatMulNBits 8 bit, level 4": _onnxruntime(INT8_WEIGHTS, "weights", bits=8, block_size=32, accuracy_level=4),
    "torchao weights": _torchao(INT8_WEIGHTS, "Int8WeightOnlyConfig"),
    "stcompile onnx-int4-weights": _ours(INT4_WEIGHTS, "onnx-int4-weights"),
    "stcompile openvino-int4-weights": _ours(INT4_WEIGHTS, "openvino-int4-weights"),
    "stcompile openvino-int4-nncf": _ours(INT4_WEIGHTS, "openvino-int4-nncf"),
    "NNCF int4_sym": _nncf(INT4_WEIGHTS, "weights", mode="INT4_SYM", group_size=64, needs_texts=False),
    "NNCF int4_asym": _nncf(INT4_WEIGHTS, "weights", mode="INT4_ASYM", group_size=64, needs_texts=False),
    "NNCF int4_sym, LoRA correction": _nncf(
        INT4_WEIGHTS, "weights", mode="INT4_SYM", group_size=64, lora_correction=True, needs_texts=True
    ),
    "NNCF int4_sym, scale estimation": _nncf(
        INT4_WEIGHTS, "weights", mode="INT4_SYM", group_size=64, scale_estimation=True, needs_texts=True
    ),
    "NNCF int4_sym, ONNX": _nncf(INT4_WEIGHTS, "weights", mode="INT4_SYM", group_size=64, needs_texts=False, of="onnx"),
    "MatMulNBits 4 bit, symmetric": _onnxruntime(INT4_WEIGHTS, "weights", bits=4, block_size=32, is_symmetric=True),
    "MatMulNBits 4 bit": _onnxruntime(INT4_WEIGHTS, "weights", bits=4, block_size=32),
    "MatMulNBits 4 bit, HQQ": _onnxruntime(INT4_WEIGHTS, "hqq", bits=4, block_size=32),
}
