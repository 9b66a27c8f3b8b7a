"""sentence-transformers' SparseEncoder with its torch and ONNX backends, and the exports that the latter needs.

Options: `backend`; `file` of the ONNX model. Batches of 32 by length, its own way.
"""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from .batches import BATCH_SIZE
from .sentence_transformers_any import model_arguments


def prepare(source: str, destination: str, options: dict[str, Any]) -> None:
    """The float32 export and, beside it, the 8-bit one that its documentation names."""
    import sentence_transformers as st

    kwargs = {"export": True, "provider": "CPUExecutionProvider"}
    model = st.SparseEncoder(source, backend="onnx", device="cpu", model_kwargs=kwargs)
    model.save_pretrained(destination)
    st.export_dynamic_quantized_onnx_model(model, options["int8"], destination, file_suffix="int8")
    # fastembed looks for it beside the tokenizer.
    shutil.copy(Path(destination) / "onnx" / "model.onnx", Path(destination) / "model.onnx")


def load(model: str, threads: int, options: dict[str, Any]) -> Callable[[list[str]], Any]:
    from sentence_transformers import SparseEncoder

    found = SparseEncoder(
        model, backend=options["backend"], device="cpu", model_kwargs=model_arguments(threads, options)
    )
    return partial(found.encode, batch_size=BATCH_SIZE, show_progress_bar=False)
