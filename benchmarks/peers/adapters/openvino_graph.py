"""A bare graph in OpenVINO, with the loop its user writes: batches of 32 by length, mean, normalize.

The engine computes as it chooses by itself: on some CPUs in bfloat16, and with activations in 8 bits before weights
that are compressed. Options: `file`, and `config` of the engine.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .batches import means_by_length, unpadded_tokenizer


def load(model: str, threads: int, options: dict[str, Any]) -> Callable[[list[str]], Any]:
    import openvino

    config = {"INFERENCE_NUM_THREADS": threads, **options.get("config", {})}
    graph = openvino.Core().compile_model(str(Path(model) / options["file"]), "CPU", config)
    inputs = [taken.get_any_name() for taken in graph.inputs]
    tokenizer = unpadded_tokenizer(model, options["max_seq_length"])

    def states(feeds: dict[str, Any]) -> Any:
        return graph({name: feeds[name] for name in inputs})[0]

    return lambda texts: means_by_length(tokenizer, texts, options["dim"], states)
