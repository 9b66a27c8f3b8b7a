"""sentence-transformers' CrossEncoder with any of its three backends, and the exports that two of them need.

Options: `backend`; `file` of the ONNX or OpenVINO model. It takes pairs, in batches of 32 by length, its own way.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from .batches import BATCH_SIZE
from .sentence_transformers_any import model_arguments


def prepare(source: str, destination: str, options: dict[str, Any]) -> None:
    """The float32 export of a backend and, of ONNX, beside it the 8-bit one that its documentation names."""
    import sentence_transformers as st

    backend = options["backend"]
    kwargs = {"export": True} if backend == "openvino" else {"export": True, "provider": "CPUExecutionProvider"}
    model = st.CrossEncoder(source, backend=backend, device="cpu", model_kwargs=kwargs)
    model.save_pretrained(destination)
    # fastembed looks for another key first, which tokenizers keep from a call that once cut.
    path = Path(destination) / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "max_length": model.max_seq_length}), encoding="utf-8")
    if backend == "onnx":
        st.export_dynamic_quantized_onnx_model(model, options["int8"], destination, file_suffix="int8")


def load(model: str, threads: int, options: dict[str, Any]) -> Callable[[list[str]], Any]:
    import torch
    from sentence_transformers import CrossEncoder

    found = CrossEncoder(
        model, backend=options["backend"], device="cpu", model_kwargs=model_arguments(threads, options)
    )
    found.activation_fn = torch.nn.Identity()
    return partial(found.predict, batch_size=BATCH_SIZE, show_progress_bar=False)
