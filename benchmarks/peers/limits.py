"""What the CPU can do at most in 8 bits, and how much of that a text needs."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from tokenizers import Tokenizer

# Rows, inner width and columns of matrix multiplications as encoders have them; the fastest counts.
_SHAPES = ((256, 384, 1536), (512, 384, 1536), (512, 1536, 384), (512, 768, 3072))
_REPEATS = 12


def int8_limit() -> float:
    """Operations a second of one core in the fastest 8-bit matrix multiplication, an addition and a product being two.

    It is ONNX Runtime's own, without the scales and sums around it, on weights that are packed already.
    """
    return max(_operations_per_second(*shape) for shape in _SHAPES)


def _operations_per_second(rows: int, inner: int, columns: int) -> float:
    random = np.random.default_rng(0)
    weight = ir.tensor(random.integers(-64, 64, (inner, columns), dtype=np.int8), name="w")
    x = ir.val("x", ir.DataType.UINT8, (rows, inner))
    held = ir.val("w", const_value=weight)
    node = ir.node("MatMulInteger", [x, held])
    node.outputs[0].name = "y"
    node.outputs[0].type = ir.TensorType(ir.DataType.INT32)
    node.outputs[0].shape = ir.Shape((rows, columns))
    graph = ir.Graph([x], node.outputs, nodes=[node], initializers=[held], opset_imports={"": 20}, name="limit")
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    model = ir.to_proto(ir.Model(graph, ir_version=10)).SerializeToString()
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feeds = {"x": random.integers(0, 255, (rows, inner), dtype=np.uint8)}
    seconds = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        session.run(None, feeds)
        seconds.append(time.perf_counter() - started)
    return 2 * rows * inner * columns / min(seconds)


def operations_per_text(model: Path, texts: Sequence[str], max_seq_length: int | None) -> float | None:
    """Mean operations of a text in a BERT-like encoder without any padding; None for another architecture.

    Of each layer, for `n` tokens, width `h` and inner width `i`: `2 n (4 h^2 + 2 h i)` in its matrix multiplications
    and `4 n^2 h` in its attention.
    """
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    if config.get("model_type") not in ("bert", "roberta", "xlm-roberta", "mpnet"):
        return None
    layers, width, inner = (config[name] for name in ("num_hidden_layers", "hidden_size", "intermediate_size"))
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.no_padding()
    if max_seq_length is not None:
        tokenizer.enable_truncation(max_seq_length)
    counts = np.array([len(encoding.ids) for encoding in tokenizer.encode_batch_fast(list(texts))], dtype=np.float64)
    each = layers * (2 * counts * (4 * width**2 + 2 * width * inner) + 4 * counts**2 * width)
    return float(each.mean())
