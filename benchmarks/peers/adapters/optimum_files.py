"""The files that sentence-transformers makes through optimum: float32 exports, and what it makes of those.

Options: `backend`; `recipe`, one of `RECIPES`, or none for the float32 export; `calibration`, which the run fills in. A
file stands where sentence-transformers looks for it, under `onnx/` or `openvino/`.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
    import sentence_transformers as st

    data = Path(destination) / "calibration"
    data.mkdir()
    lines = (json.dumps({"text": text}) for text in options["calibration"])
    (data / "train.jsonl").write_text("\n".join(lines), encoding="utf-8")
    st.export_static_quantized_openvino_model(
        model,
        None,
        destination,
        dataset_name=str(data),
        dataset_config_name="default",
        dataset_split="train",
        column_name="text",
        file_suffix=SUFFIX,
    )


RECIPES: dict[str, Callable[[Any, str, dict[str, Any]], None]] = {
    "avx512_vnni": _dynamic,
    "O2": _optimized,
    "O3": _optimized,
    "static": _static,
}
