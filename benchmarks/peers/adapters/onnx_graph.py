"""A bare ONNX graph in ONNX Runtime, with the loop its user writes: batches of 32 by length, mean, normalize.

Options: `file`, and what else a session is configured with, `config`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .batches import means_by_length, unpadded_tokenizer


def load(model: str, threads: int, options: dict[str, Any]) -> Callable[[list[str]], Any]:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    for name, value in options.get("config", {}).items():
        settings.add_session_config_entry(name, value)
    file = str(Path(model) / options.get("file", "model.onnx"))
    session = onnxruntime.InferenceSession(file, settings, providers=["CPUExecutionProvider"])
    inputs = [taken.name for taken in session.get_inputs()]
    tokenizer = unpadded_tokenizer(model, options["max_seq_length"])

    def states(feeds: dict[str, Any]) -> Any:
        return session.run(["last_hidden_state"], {name: feeds[name] for name in inputs})[0]

    return lambda texts: means_by_length(tokenizer, texts, options["dim"], states)
