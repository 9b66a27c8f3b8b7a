"""What makes scores of logits, where a caller wants another activation than the model's own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcompile.errors import InputError, one_line

Scores = NDArray[np.float32]

# A name of `NAMED`, a function of numpy's arrays, or a module of torch.
Activation = str | Callable[[Any], Any]


def _sigmoid(logits: Scores) -> Scores:
    # Of large negative numbers exp() overflows to infinity, and one divided by that is right.
    with np.errstate(over="ignore"):
        result: Scores = np.float32(1) / (np.float32(1) + np.exp(-logits))
    return result


NAMED: dict[str, Callable[[Scores], Scores]] = {"identity": lambda logits: logits, "sigmoid": _sigmoid}


def check_activation(activation: object) -> None:
    """Whether it is one, before anything is computed.

    Raises:
        InputError: it is no function and none of the names.
    """
    if isinstance(activation, str) and activation not in NAMED:
        raise InputError(f"unknown activation_fn {activation!r}: choose {' or '.join(NAMED)}, or pass a function")
    if activation is not None and not isinstance(activation, str) and not callable(activation):
        raise InputError(f"activation_fn must be a function or {' or '.join(NAMED)}, got {type(activation).__name__}")


def activated(activation: Activation, logits: Scores) -> Scores:
    """Scores of logits, `(n, labels)` float32.

    Raises:
        InputError: the activation fails, or gives another shape.
    """
    if isinstance(activation, str):
        return NAMED[activation](logits)
    torch = sys.modules.get("torch")
    try:
        if torch is not None and (isinstance(activation, torch.nn.Module) or _is_torchs(activation)):
            with torch.inference_mode():
                found = np.asarray(activation(torch.from_numpy(logits)))
        else:
            found = np.asarray(activation(logits))
    except Exception as error:  # it is the caller's own
        raise InputError(
            f"activation_fn fails on float32 scores ({type(error).__name__}: {one_line(error, 200)})"
        ) from error
    if found.shape != logits.shape:
        raise InputError(f"activation_fn made {found.shape} of scores {logits.shape}: it must keep their shape")
    return found.astype(np.float32, copy=False)


def _is_torchs(activation: Callable[[Any], Any]) -> bool:
    """Whether it is a function of torch, which takes tensors."""
    homes = (activation, type(activation), type(getattr(activation, "__self__", None)))
    return any(str(getattr(home, "__module__", "")).partition(".")[0] == "torch" for home in homes)
