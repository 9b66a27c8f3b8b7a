"""What `encode` can be asked for, with the names and order of `SentenceTransformer.encode`, checked once."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, SupportsIndex

from stcompile.artifact.manifest import SENTENCE, TOKENS
from stcompile.errors import InputError, MissingExtraError
from stcompile.runtime import postprocess
from stcompile.runtime.device import Device
from stcompile.runtime.inputs import at_least_one, check_prompt


@dataclass(frozen=True)
class EncodeOptions:
    """One call's options.

    Attributes:
        prompt: the text in front of each text; None for none.
        batch_size: texts of a run; None takes the artifact's token budget.
        show_progress_bar: None leaves it to the logger.
        output_value: which output of the graph.
        precision: of the vectors.
        as_list: a list of vectors instead of one array.
        torch: where tensors are asked for, the imported torch; otherwise None.
        normalize: scale each vector to length 1.
        keep: dimensions that are kept; None keeps all.
        task: which route of a Router; None takes its default.
    """

    prompt: str | None
    batch_size: int | None
    show_progress_bar: bool | None
    output_value: str
    precision: str
    as_list: bool
    torch: Any
    normalize: bool
    keep: int | None
    task: str | None

    def shaped(self, result: Any, single: bool) -> Any:
        """What the caller gets of the rows of all texts: of a single text its own, as an array, tensor or list."""
        if self.torch is not None:
            rows = [self.torch.from_numpy(row) for row in result] if isinstance(result, list) else None
            result = self.torch.from_numpy(result) if rows is None else rows
        if single:
            return result[0]
        return list(result) if self.as_list else result


def checked_options(
    prompt_name: str | None,
    prompt: str | None,
    batch_size: SupportsIndex | None,
    show_progress_bar: bool | None,
    output_value: str,
    precision: str | None,
    convert_to_numpy: bool,
    convert_to_tensor: bool,
    device: object,
    normalize_embeddings: bool,
    truncate_dim: SupportsIndex | None,
    pool: None,
    chunk_size: None,
    task: str | None,
    *,
    prompts: Mapping[str, str],
    default_prompt_name: str | None,
    default_dim: int | None,
    here: Device,
) -> EncodeOptions:
    """The options that the arguments of `encode` make.

    Args:
        prompt_name, prompt, batch_size, show_progress_bar, output_value, precision, convert_to_numpy,
            convert_to_tensor, device, normalize_embeddings, truncate_dim, pool, chunk_size, task: as of `encode`.
        prompts: the model's.
        default_prompt_name: the model's.
        default_dim: how many dimensions the model keeps.
        here: where the encoder computes.

    Raises:
        InputError: one is wrong, or asks for what a compiled model does not do.
        ProviderError: there is no device of that name.
        MissingExtraError: tensors are asked for, and torch is not installed.
    """
    if output_value not in (SENTENCE, TOKENS):
        raise InputError(f"unknown output_value {output_value!r}: choose {SENTENCE} or {TOKENS}")
    if precision is not None and precision not in postprocess.PRECISIONS:
        raise InputError(f"unknown precision {precision!r}: choose one of {', '.join(postprocess.PRECISIONS)}")
    if pool is not None or chunk_size is not None:
        raise InputError(
            "pool and chunk_size are about processes, and an encoder computes on the threads of one: leave them out, "
            "and pass load(threads=) where all CPUs are too many"
        )
    _check_device(device, here)
    return EncodeOptions(
        prompt=_prompt(prompt_name, prompt, prompts, default_prompt_name),
        batch_size=None if batch_size is None else at_least_one("batch_size", batch_size),
        show_progress_bar=show_progress_bar,
        output_value=output_value,
        precision=precision or "float32",
        as_list=not convert_to_numpy and not convert_to_tensor,
        torch=_torch() if convert_to_tensor else None,
        normalize=normalize_embeddings,
        keep=default_dim if truncate_dim is None else at_least_one("truncate_dim", truncate_dim),
        task=task,
    )


def _prompt(
    name: str | None, prompt: str | None, prompts: Mapping[str, str], default_prompt_name: str | None
) -> str | None:
    if prompt is None:
        name = default_prompt_name if name is None else name
        if name is None:
            return None
        if not isinstance(name, str) or name not in prompts:
            known = ", ".join(map(repr, prompts)) or "none"
            raise InputError(f"unknown prompt {name!r}: this model has {known}; pass prompt= for a text of your own")
        return prompts[name]
    check_prompt(prompt)
    return prompt


def _check_device(device: object, here: Device) -> None:
    if device is None:
        return
    if not isinstance(device, (list, tuple)):
        asked = Device.parse(str(device))
        if (asked.kind, asked.index) == (here.kind, here.index):
            return
    raise InputError(
        f"this encoder computes on {here}, not on {device}: leave device out, or load one there with "
        "stcompile.load(folder, device=...)"
    )


def _torch() -> Any:
    try:
        # By its name, because the runtime imports torch for nobody who does not ask for tensors.
        return importlib.import_module("torch")
    except ImportError as error:
        raise MissingExtraError(
            "convert_to_tensor=True needs torch, which is not installed: leave it out for numpy, or pip install torch"
        ) from error
