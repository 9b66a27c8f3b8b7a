"""torchao through sentence-transformers on torch: batches of 32 by length. Options: `config` of torchao."""

from collections.abc import Callable
from functools import partial
from typing import Any

from .batches import BATCH_SIZE


def prepare(source: str, destination: str, options: dict[str, Any]) -> None:
    """A folder whose weights are quantized, as transformers writes and reads it."""
    import torchao.quantization
    from sentence_transformers import SentenceTransformer
    from transformers import TorchAoConfig

    config = TorchAoConfig(getattr(torchao.quantization, options["config"])())
    model = SentenceTransformer(source, device="cpu", model_kwargs={"quantization_config": config})
    model.save_pretrained(destination)


def load(model: str, threads: int, options: dict[str, Any]) -> Callable[[list[str]], Any]:
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(threads)
    found = SentenceTransformer(model, device="cpu")
    return partial(found.encode, batch_size=BATCH_SIZE, show_progress_bar=False)
