"""The files that sentence-transformers makes through optimum: float32 exports, and what it makes of those.

Options: `backend`; `recipe`, one of `RECIPES`, or none for the float32 export; `calibration`, which the run fills in. A
file stands where sentence-transformers looks for it, under `onnx/` or `openvino/`.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .sentence_transformers_any import write_static

SUFFIX = "recipe"
_FLOAT32 = {"onnx": "onnx/model.onnx", "openvino": "openvino/openvino_model.xml"}


def prepare(source: str, destination: str, options: dict[str, Any]) -> None:
    """The float32 export of a model folder, or one file made of such an export."""
    import sentence_transformers as st

    backend, recipe = options["backend"], options.get("recipe")
    loading: dict[str, Any] = {"file_name": _FLOAT32[backend]} if recipe else {"export": True}
    if backend == "onnx":
        loading["provider"] = "CPUExecutionProvider"
    model = st.SentenceTransformer(source, backend=backend, device="cpu", model_kwargs=loading)
    if recipe is None:
        model.save_pretrained(destination)
        return
    Path(destination).mkdir(parents=True)
    shutil.copy(Path(source) / "tokenizer.json", destination)
    RECIPES[recipe](model, destination, options)


def _dynamic(model: Any, destination: str, options: dict[str, Any]) -> None:
    import sentence_transformers as st

    st.export_dynamic_quantized_onnx_model(model, options["recipe"], destination, file_suffix=SUFFIX)


def _optimized(model: Any, destination: str, options: dict[str, Any]) -> None:
    import sentence_transformers as st

    st.export_optimized_onnx_model(model, options["recipe"], destination, file_suffix=SUFFIX)


def _static(model: Any, destination: str, options: dict[str, Any]) -> None:
    write_static(model, destination, options["calibration"], SUFFIX)


RECIPES: dict[str, Callable[[Any, str, dict[str, Any]], None]] = {
    "avx512_vnni": _dynamic,
    "O2": _optimized,
    "O3": _optimized,
    "static": _static,
}
