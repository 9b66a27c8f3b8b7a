"""sentence-transformers with any of its three backends, and the exports that two of them need.

Options: `backend`; `dtype` of torch; `file` of the ONNX or OpenVINO model. Batches of 32 by length, its own way.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from .batches import BATCH_SIZE


def prepare(source: str, destination: str, options: dict[str, Any]) -> None:
    """The float32 export of a backend, and beside it the 8-bit one that its documentation names for this CPU."""
    import sentence_transformers as st

    backend = options["backend"]
    kwargs = {"export": True} if backend == "openvino" else {"export": True, "provider": "CPUExecutionProvider"}
    model = st.SentenceTransformer(source, backend=backend, device="cpu", model_kwargs=kwargs)
    model.save_pretrained(destination)
    _write_limit(Path(destination) / "tokenizer_config.json", model.max_seq_length)
    if backend == "onnx":
        st.export_dynamic_quantized_onnx_model(model, options["int8"], destination, file_suffix="int8")
        return
    write_static(model, destination, options["calibration"], "int8")


def write_static(model: Any, destination: str, calibration: list[str], suffix: str) -> None:
    """OpenVINO's 8 bits with fixed ranges, by sentence-transformers from some texts."""
    import sentence_transformers as st

    data = Path(destination) / "calibration"
    data.mkdir()
    lines = (json.dumps({"text": text}) for text in calibration)
    (data / "train.jsonl").write_text("\n".join(lines), encoding="utf-8")
    st.export_static_quantized_openvino_model(
        model,
        None,
        destination,
        dataset_name=str(data),
        dataset_config_name="default",
        dataset_split="train",
        column_name="text",
        file_suffix=suffix,
    )


def _write_limit(path: Path, tokens: int) -> None:
    """The stack's own limit where the peers that read no sentence_bert_config.json look for it."""
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "model_max_length": tokens, "max_length": tokens}), encoding="utf-8")


def load(model: str, threads: int, options: dict[str, Any]) -> Callable[[list[str]], Any]:
    from sentence_transformers import SentenceTransformer

    kwargs = model_arguments(threads, options)
    found = SentenceTransformer(model, backend=options["backend"], device="cpu", model_kwargs=kwargs)
    return partial(found.encode, batch_size=BATCH_SIZE, show_progress_bar=False)


def model_arguments(threads: int, options: dict[str, Any]) -> dict[str, Any]:
    """What a backend is loaded with, on so many threads."""
    import torch

    torch.set_num_threads(threads)
    kwargs: dict[str, Any] = {}
    if options["backend"] == "onnx":
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        kwargs = {"file_name": options["file"], "provider": "CPUExecutionProvider", "session_options": settings}
    elif options["backend"] == "openvino":
        kwargs = {"file_name": options["file"], "ov_config": {"INFERENCE_NUM_THREADS": str(threads)}}
    elif "dtype" in options:
        kwargs = {"dtype": getattr(torch, options["dtype"])}
    return kwargs
