"""State dicts of the small modules: `model.safetensors`, else `pytorch_model.bin` read without its code."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from stcompile.errors import ModelFolderError


def read_weights(folder: Path, module: nn.Module) -> None:
    """Loads a module's weights strictly: a missing, unexpected or misshapen tensor is an error.

    Raises:
        ModelFolderError: no weights, unreadable weights, or weights of another module.
    """
    state = _read_state(folder)
    try:
        module.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    except RuntimeError as error:
        detail = " ".join(str(error).split())
        raise ModelFolderError(f"the weights in {folder} do not fit its configuration: {detail}") from error


def _read_state(folder: Path) -> dict[str, Tensor]:
    safe, pickled = folder / "model.safetensors", folder / "pytorch_model.bin"
    try:
        if safe.is_file():
            return load_file(str(safe))
        if pickled.is_file():
            state: dict[str, Tensor] = torch.load(pickled, map_location="cpu", weights_only=True)
            return state
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise ModelFolderError(f"the weights in {folder} cannot be read ({error}): copy the model again") from error
    raise ModelFolderError(f"{folder} has neither model.safetensors nor pytorch_model.bin: copy the model again")
