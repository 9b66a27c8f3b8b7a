"""State dicts of the small modules: `model.safetensors`, else `pytorch_model.bin` read without its code."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from stcompile.errors import ModelFolderError, one_line


def read_weights(folder: Path, module: nn.Module) -> None:
    """Loads a module's weights strictly: a missing, unexpected or misshapen tensor is an error.

    Raises:
        ModelFolderError: no weights, unreadable weights, or weights of another module.
    """
    state = read_state(folder)
    try:
        module.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    except RuntimeError as error:
        raise ModelFolderError(
            f"the weights in {folder} do not fit its configuration: {one_line(error, None)}"
        ) from error


def _by_name(state: object) -> dict[str, Tensor]:
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise TypeError("it does not hold tensors by name")
    return state


def read_state(folder: Path) -> dict[str, Tensor]:
    """The tensors of a folder by name.

    Raises:
        ModelFolderError: there are none, or they cannot be read.
    """
    safe, pickled = folder / "model.safetensors", folder / "pytorch_model.bin"
    try:
        if safe.is_file():
            return load_file(str(safe))
        if pickled.is_file():
            return read_pickled(pickled)
    except ModelFolderError:
        raise
    except Exception as error:
        raise ModelFolderError(f"the weights in {folder} cannot be read ({error}): copy the model again") from error
    raise ModelFolderError(f"{folder} has neither model.safetensors nor pytorch_model.bin: copy the model again")


def read_pickled(file: Path) -> dict[str, Tensor]:
    """The tensors of a file that torch saved, by name, read without its code.

    Raises:
        ModelFolderError: it cannot be read, or holds something else.
    """
    try:
        return _by_name(torch.load(file, map_location="cpu", weights_only=True))
    except Exception as error:  # a broken pickle raises whatever its bytes happen to mean
        raise ModelFolderError(f"the weights in {file} cannot be read ({error}): copy the model again") from error
