"""`SentenceTransformer`: an `Encoder` that is made as code for sentence-transformers makes its model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Self

from stcompile.artifact.manifest import SIMILARITIES
from stcompile.errors import InputError
from stcompile.runtime.device import CPU, Device
from stcompile.runtime.encoder import Encoder
from stcompile.runtime.hub import located
from stcompile.runtime.inputs import at_least_one
from stcompile.runtime.loaded import fitting_artifact

# How a model is computed: of what is compiled that is settled.
_SETTLED = frozenset(("trust_remote_code", "backend", "model_card_data", "use_auth_token"))


class SentenceTransformer(Encoder):
    """Takes the place of `sentence_transformers.SentenceTransformer` in code that encodes and compares.

        from stcompile import SentenceTransformer

    All else as of `Encoder`, which has the methods of sentence-transformers with their order and defaults.

    Args:
        model_name_or_path: the folder that `stcompile export` wrote, or the repository that it was pushed to.
        device: `cpu`, `cuda` or `cuda:1`; None is `cpu`.
        prompts: beside the model's own, and of one name in its place.
        default_prompt_name: which of them plain `encode` puts in front; None is the model's.
        similarity_fn_name: in the place of the model's own.
        truncate_dim: how many dimensions to keep by default; None is the model's.
        threads: engine threads; None takes the CPUs that this process may use.
        cache_folder: where the hub's files are kept; None takes its own place.
        revision: of a repository; None takes its main branch.
        local_files_only: of a repository take what the cache has, and ask nobody.
        token: who asks the hub; None takes who is logged in.
        options: what sentence-transformers takes besides: `trust_remote_code`, `backend` and their kin are settled, and
            passed over.

    Raises:
        ArtifactError, ProviderError, MissingExtraError: as `stcompile.load`.
        InputError: an option changes what is compiled, or is unknown; a prompt, number or measure is wrong.
    """

    def __init__(
        self,
        model_name_or_path: str | Path,
        *,
        device: str | None = None,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
        similarity_fn_name: Any = None,
        truncate_dim: int | None = None,
        threads: int | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        token: bool | str | None = None,
        **options: Any,
    ) -> None:
        changing = sorted(name for name, value in options.items() if name not in _SETTLED and value is not None)
        if changing:
            raise InputError(
                f"{', '.join(changing)} cannot be chosen for what is compiled: leave {'them' if changing[1:] else 'it'}"
                " out, or export the model with it"
            )
        artifact = fitting_artifact(
            located(model_name_or_path, revision, cache_folder, local_files_only=local_files_only, token=token),
            threads,
            None,
            check_integrity=True,
        )
        manifest = artifact.manifest
        known = {**manifest.prompts, **(prompts or {})}
        name = manifest.default_prompt_name if default_prompt_name is None else default_prompt_name
        if name is not None and name not in known:
            raise InputError(f"unknown default prompt {name!r}: the prompts are {', '.join(map(repr, known))}")
        named = manifest.similarity if similarity_fn_name is None else similarity_fn_name
        measure = str(getattr(named, "value", named))
        if measure not in SIMILARITIES:
            raise InputError(f"unknown similarity_fn_name {measure!r}: choose one of {', '.join(SIMILARITIES)}")
        keep = manifest.truncate_dim if truncate_dim is None else at_least_one("truncate_dim", truncate_dim)
        changed = dataclasses.replace(
            manifest, prompts=known, default_prompt_name=name, similarity=measure, truncate_dim=keep
        )
        super().__init__(dataclasses.replace(artifact, manifest=changed), device=device or CPU, threads=threads)
        self._again = partial(
            type(self),
            str(model_name_or_path),
            device=device,
            prompts=prompts,
            default_prompt_name=default_prompt_name,
            similarity_fn_name=measure,
            truncate_dim=truncate_dim,
            threads=threads,
            cache_folder=cache_folder,
            revision=revision,
            local_files_only=local_files_only,
            token=token,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return self._again, ()

    def get_max_seq_length(self) -> int | None:
        """`max_seq_length`, as sentence-transformers calls it, too."""
        return self.max_seq_length

    def eval(self) -> Self:
        """Itself: it never trains."""
        return self

    def to(self, device: object) -> Self:
        """Itself, where it computes there already.

        Raises:
            InputError: it computes elsewhere.
            ProviderError: there is no device of that name.
        """
        asked = Device.parse(str(device))
        if (asked.kind, asked.index) != (self.device.kind, self.device.index):
            raise InputError(f"it computes on {self.device}: make one with device={str(device)!r}")
        return self
