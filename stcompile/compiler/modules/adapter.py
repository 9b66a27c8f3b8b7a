"""Adapters that PEFT trained: added to the weights of their base, which then is a network like any other."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import torch
from transformers import PreTrainedModel

from stcompile.compiler.kinds.adapter import FILE, base_named
from stcompile.errors import ModelFolderError, UnsupportedError, one_line
from stcompile.extras import require


def base_of(source: str) -> str | None:
    """The folder or hub id of the network that the adapter in a folder belongs to; None where there is no adapter.

    Raises:
        ModelFolderError: the adapter does not say.
    """
    file = Path(source, FILE)
    if not file.is_file():
        return None
    config = None
    with suppress(OSError, ValueError):
        config = json.loads(file.read_text(encoding="utf-8"))
    return base_named(config, file)


def merged(network: PreTrainedModel, source: str) -> PreTrainedModel:
    """The base with an adapter added to its weights, in float32 (`W + B A * alpha / r` for LoRA, Hu et al., 2021).

    Args:
        network: the base in float32, which is changed.
        source: the adapter's folder.

    Raises:
        MissingExtraError: peft is not installed.
        ModelFolderError: the adapter's weights cannot be read, or are not of this network.
        UnsupportedError: PEFT cannot add them to the weights.
    """
    peft = require("peft", "Reading an adapter")
    try:
        config = peft.PeftConfig.from_pretrained(source)
        # In one process with others nothing is trained.
        config.inference_mode = True
        wrapped = peft.PeftModel(network, config)
        found = wrapped.load_adapter(source, "default", torch_device="cpu")
    except Exception as error:  # PEFT's own, safetensors' and torch's
        raise ModelFolderError(f"the adapter in {source} does not fit its base ({one_line(error)})") from error
    if found.unexpected_keys:
        # sentence-transformers would leave them out, with a warning.
        raise ModelFolderError(
            f"the adapter in {source} has weights for parts that its base has not, such as "
            f"{found.unexpected_keys[0]}: it was trained on another network, or on one with a head"
        )
    try:
        with torch.no_grad():
            result: PreTrainedModel = wrapped.merge_and_unload(safe_merge=True)
    except Exception as error:  # as above; numbers that are not finite among them
        raise UnsupportedError(source, f"its adapter cannot be added to its base: {one_line(error)}") from error
    return result.to(torch.float32).eval()
