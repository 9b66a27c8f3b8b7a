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
        if self.pool is not None or self.chunk_size is not None:
            raise InputError(
                "pool and chunk_size are about processes, and an encoder computes on the threads of one: leave them "
                "out, and pass load(threads=) where all CPUs are too many"
            )
        _check_device(self.device, here)
        if self.convert_to_tensor:
            _torch()
        keep = self.truncate_dim
        return replace(
            self,
            prompt_name=None,
            prompt=self._prompt(manifest, role),
            batch_size=None if self.batch_size is None else at_least_one("batch_size", self.batch_size),
            precision=self.precision or "float32",
            device=None,
            truncate_dim=manifest.truncate_dim if keep is None else at_least_one("truncate_dim", keep),
            task=role if self.task is None else self.task,
        )

    def shaped(self, result: Any, single: bool) -> Any:
        """What the caller gets of the rows of all texts: of a single text its own, as an array, tensor or list."""
        if self.convert_to_tensor:
            torch = _torch()
            rows = [torch.from_numpy(row) for row in result] if isinstance(result, list) else None
            result = torch.from_numpy(result) if rows is None else rows
        if single:
            return result[0]
        return result if self.convert_to_numpy or self.convert_to_tensor else list(result)

    def _prompt(self, manifest: Manifest, role: str | None) -> str:
        """The text in front of each text; empty for none."""
        if self.prompt is not None:
            check_prompt(self.prompt)
            return self.prompt
        name, prompts = self.prompt_name, manifest.prompts
        if name is None:
            # The default prompt belongs to plain `encode`.
            name = manifest.default_prompt_name if role is None else _first(_PROMPTS_OF[role], prompts)
        if name is None:
            return ""
        if not isinstance(name, str) or name not in prompts:
            known = ", ".join(map(repr, prompts)) or "none"
            raise InputError(f"unknown prompt {name!r}: this model has {known}; pass prompt= for a text of your own")
        return prompts[name]


def _first(names: Sequence[str], among: Any) -> str | None:
    return next((name for name in names if name in among), None)


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
