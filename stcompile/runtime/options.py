"""What `encode` can be asked for, with the names and order of `SentenceTransformer.encode`, checked once."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from stcompile.artifact.manifest import SENTENCE, TOKENS, Manifest
from stcompile.errors import InputError, MissingExtraError
from stcompile.runtime import postprocess
from stcompile.runtime.device import Device
from stcompile.runtime.inputs import at_least_one, check_prompt

Precision = Literal["float32", "int8", "uint8", "binary", "ubinary"]
Output = Literal["sentence_embedding", "token_embeddings"]

# What `encode_query` and `encode_document` are named after, and the prompts they take, the first that there is.
QUERY, DOCUMENT = "query", "document"
_PROMPTS_OF = {QUERY: ("query",), DOCUMENT: ("document", "passage", "corpus")}


@dataclass(frozen=True)
class EncodeOptions:
    """One call's options, as `Encoder.encode` takes them beside its texts, and with the meaning that it tells."""

    prompt_name: str | None = None
    prompt: str | None = None
    batch_size: int | None = None
    show_progress_bar: bool | None = None
    output_value: Output = "sentence_embedding"
    precision: Precision | None = "float32"
    convert_to_numpy: bool = True
    convert_to_tensor: bool = False
    device: object = None
    normalize_embeddings: bool = False
    truncate_dim: int | None = None
    pool: None = None
    chunk_size: None = None
    task: str | None = field(default=None, kw_only=True)

    def settled(self, manifest: Manifest, here: Device, role: str | None = None) -> EncodeOptions:
        """The same with every default filled in, so that equal ones mean the same; settling them again changes nothing.

        `here` is where the encoder computes; the role is `query` or `document`, where one of those methods is asked.

        Raises:
            InputError: one is wrong, or asks for what a compiled model does not do.
            ProviderError: there is no device of that name.
            MissingExtraError: tensors are asked for, and torch is not installed.
        """
        if self.output_value not in (SENTENCE, TOKENS):
            raise InputError(f"unknown output_value {self.output_value!r}: choose {SENTENCE} or {TOKENS}")
        if self.precision is not None and self.precision not in postprocess.PRECISIONS:
            known = ", ".join(postprocess.PRECISIONS)
            raise InputError(f"unknown precision {self.precision!r}: choose one of {known}")
        check_call(self.pool, self.chunk_size, self.device, here, tensor=self.convert_to_tensor)
        keep = self.truncate_dim
        return replace(
            self,
            prompt_name=None,
            prompt=prompt_of(self.prompt, self.prompt_name, manifest, role),
            batch_size=None if self.batch_size is None else at_least_one("batch_size", self.batch_size),
            precision=self.precision or "float32",
            device=None,
            truncate_dim=manifest.truncate_dim if keep is None else at_least_one("truncate_dim", keep),
            task=role if self.task is None else self.task,
        )

    def shaped(self, result: Any, single: bool) -> Any:
        """What the caller gets of the rows of all texts: of a single text its own, as an array, tensor or list."""
        return shaped(result, single, array=self.convert_to_numpy, tensor=self.convert_to_tensor)


def prompt_of(prompt: str | None, name: str | None, manifest: Manifest, role: str | None) -> str:
    """The text in front of each text; empty for none. All as of `prompt_text`, but for the role: `query`, `document` or
    None, whose prompt is taken where none is asked for.
    """
    # The default prompt belongs to plain `encode`: models have both roles' prompts, unless a caller has set others.
    own = None if role is None else _first(_PROMPTS_OF[role], manifest.prompts)
    return prompt_text(prompt, name, manifest, manifest.default_prompt_name if own is None else own)


def prompt_text(prompt: str | None, name: str | None, manifest: Manifest, default: str | None) -> str:
    """The text in front of each text; empty for none.

    Args:
        prompt: that was asked for; wins over its name.
        name: of a prompt of the model, or None.
        manifest: the artifact's.
        default: the name where none is asked for.

    Raises:
        InputError: the prompt is no text, or there is none of that name.
    """
    if prompt is not None:
        check_prompt(prompt)
        return prompt
    name, prompts = default if name is None else name, manifest.prompts
    if name is None:
        return ""
    if not isinstance(name, str) or name not in prompts:
        known = ", ".join(map(repr, prompts)) or "none"
        raise InputError(f"unknown prompt {name!r}: this model has {known}; pass prompt= for a text of your own")
    return prompts[name]


def shaped(result: Any, single: bool, *, array: bool, tensor: bool) -> Any:
    """Rows of all texts as a caller wants them: of a single text its own, as an array, tensor or list."""
    if tensor:
        torch = imported_torch()
        rows = [torch.from_numpy(row) for row in result] if isinstance(result, list) else None
        result = torch.from_numpy(result) if rows is None else rows
    if single:
        return result[0]
    return result if array or tensor else list(result)


def _first(names: Sequence[str], among: Any) -> str | None:
    return next((name for name in names if name in among), None)


def check_call(pool: object, chunk_size: object, device: object, here: Device, *, tensor: bool) -> None:
    """Whether a call asks for nothing that a compiled model does not do; `here` is where it computes.

    Raises:
        InputError: for processes, or another device.
        ProviderError: there is no device of that name.
        MissingExtraError: tensors are asked for, and torch is not installed.
    """
    if pool is not None or chunk_size is not None:
        raise InputError(
            "pool and chunk_size are about processes, and an artifact computes on the threads of one: leave them "
            "out, and pass load(threads=) where all CPUs are too many"
        )
    if tensor:
        imported_torch()
    if device is None:
        return
    if not isinstance(device, (list, tuple)):
        asked = Device.parse(str(device))
        if (asked.kind, asked.index) == (here.kind, here.index):
            return
    raise InputError(
        f"this artifact computes on {here}, not on {device}: leave device out, or load one there with "
        "stcompile.load(folder, device=...)"
    )


def imported_torch() -> Any:
    """torch, for who asks for tensors.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        # By its name, because the runtime imports torch for nobody who does not ask for tensors.
        return importlib.import_module("torch")
    except ImportError as error:
        raise MissingExtraError(
            "convert_to_tensor=True needs torch, which is not installed: leave it out for numpy, or pip install torch"
        ) from error
