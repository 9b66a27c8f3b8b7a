"""`SentenceTransformer`: an `Encoder` that is made as code for sentence-transformers makes its model."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self

from stcompile.artifact.manifest import SIMILARITIES
from stcompile.errors import InputError
from stcompile.runtime.device import CPU, CUDA, Device
from stcompile.runtime.encoder import Encoder
from stcompile.runtime.hub import located
from stcompile.runtime.inputs import at_least_one, check_prompt
from stcompile.runtime.left_out import LEFT_OUT, left_out
from stcompile.runtime.loaded import check_kind, fitting_artifact

# How a model is computed: of what is compiled that is settled.
_SETTLED = frozenset(("trust_remote_code", "backend", "model_card_data", "use_auth_token"))

# What may be set on a model: fields of the manifest.
_SET = ("prompts", "default_prompt_name", "similarity", "truncate_dim")


class SentenceTransformer(Encoder):
    """Takes the place of `sentence_transformers.SentenceTransformer` in code that encodes and compares.

        from stcompile import SentenceTransformer

    All else as of `Encoder`, which has the methods of sentence-transformers with their order and defaults. `prompts`,
    `default_prompt_name`, `similarity_fn_name`, `truncate_dim` and a shorter `max_seq_length` may be set on it, as
    there; a longer one is an error, and so are the names in `stcompile.runtime.left_out`, each with what to do instead.

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
        check_kind(artifact, self.kind)
        self._compiled = manifest = artifact.manifest
        known = {**manifest.prompts, **_prompts_in(prompts or {})}
        changed = dataclasses.replace(
            manifest,
            prompts=known,
            default_prompt_name=_known(
                manifest.default_prompt_name if default_prompt_name is None else default_prompt_name, known
            ),
            similarity=_measure_called(manifest.similarity if similarity_fn_name is None else similarity_fn_name),
            truncate_dim=_kept(manifest.truncate_dim if truncate_dim is None else truncate_dim),
        )
        super().__init__(dataclasses.replace(artifact, manifest=changed), device=device or CPU, threads=threads)
        self._again = partial(
            type(self),
            str(model_name_or_path),
            device=device,
            threads=threads,
            cache_folder=cache_folder,
            revision=revision,
            local_files_only=local_files_only,
            token=token,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        manifest = self._manifest
        settings = {name: getattr(manifest, name) for name in _SET}
        return self._again, (), (settings, self._opened.max_tokens)

    def __setstate__(self, state: tuple[dict[str, Any], int | None]) -> None:
        settings, max_tokens = state
        self._set(**settings)
        if max_tokens is not None:
            self.max_seq_length = max_tokens

    def __getattr__(self, name: str) -> Any:
        """Of what is no attribute, why.

        Raises:
            LeftOutError: sentence-transformers' model has it, and what is compiled does not.
            AttributeError: neither has it.
        """
        if name in LEFT_OUT:
            raise left_out(name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        # It would be kept, and change nothing.
        if name in LEFT_OUT:
            raise left_out(name)
        super().__setattr__(name, value)

    def _set(self, **settings: Any) -> None:
        """Puts fields of the manifest in the place of its own, for this object alone."""
        self._manifest = dataclasses.replace(self._manifest, **settings)
        self.artifact = dataclasses.replace(self.artifact, manifest=self._manifest)

    @property
    def prompts(self) -> dict[str, str]:
        """Prompt name to the text that is put in front; may be changed, or set as a whole."""
        return self._manifest.prompts

    @prompts.setter
    def prompts(self, prompts: Mapping[str, str]) -> None:
        self._set(prompts=_prompts_in(prompts))

    @property
    def default_prompt_name(self) -> str | None:
        """The prompt that is used when none is asked for; may be set to the name of another, or to None."""
        return self._manifest.default_prompt_name

    @default_prompt_name.setter
    def default_prompt_name(self, name: str | None) -> None:
        self._set(default_prompt_name=_known(name, self._manifest.prompts))

    @property
    def similarity_fn_name(self) -> str:
        """`cosine`, `dot`, `euclidean` or `manhattan`; may be set to another, and None is `cosine`."""
        return self._manifest.similarity

    @similarity_fn_name.setter
    def similarity_fn_name(self, name: Any) -> None:
        self._set(similarity=_measure_called("cosine" if name is None else name))

    @property
    def truncate_dim(self) -> int | None:
        """How many dimensions are kept by default; may be set, and None keeps all."""
        return self._manifest.truncate_dim

    @truncate_dim.setter
    def truncate_dim(self, keep: int | None) -> None:
        self._set(truncate_dim=_kept(keep))

    @contextmanager
    def truncate_embeddings(self, truncate_dim: int | None) -> Iterator[None]:
        """Keeps so many dimensions by default in this context, in all threads; None keeps all.

        Raises:
            InputError: no whole number of at least 1.
        """
        before, self.truncate_dim = self.truncate_dim, truncate_dim
        try:
            yield
        finally:
            self.truncate_dim = before

    truncate_sentence_embeddings = truncate_embeddings

    @property
    def max_seq_length(self) -> int | None:
        """Most tokens of a text, special tokens included; longer ones are cut. None when unlimited.

        May be set to fewer than the artifact lets them have, and back; None is as many as that. Of several routes each
        is cut there.
        """
        return super().max_seq_length

    @max_seq_length.setter
    def max_seq_length(self, length: int | None) -> None:
        most = self._compiled.max_seq_length
        if length is not None and at_least_one("max_seq_length", length) > (most or length):
            raise InputError(
                f"texts are compiled to have at most {most} tokens, and max_seq_length={length} is more: set it on the "
                "sentence-transformers model, and export that"
            )
        cut = self._compiled.cut_at(length)
        if length is not None and most is None and cut == self._compiled:
            raise InputError("texts of this model are as long as they are: leave max_seq_length out")
        self._opened = self._opened.cut_at(dataclasses.replace(self.artifact, manifest=self._compiled), length)
        self._set(text=cut.text, graphs=cut.graphs)

    def get_max_seq_length(self) -> int | None:
        """`max_seq_length`, as sentence-transformers calls it, too."""
        return self.max_seq_length

    def supports(self, modality: str) -> bool:
        """Whether that is one of `modalities`."""
        return modality in self.modalities

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

    def cpu(self) -> Self:
        """`to("cpu")`."""
        return self.to(CPU)

    def cuda(self, device: object = None) -> Self:
        """`to` of a GPU: its number, or its name."""
        if device is None or isinstance(device, int):
            return self.to(CUDA if device is None else f"{CUDA}:{device}")
        return self.to(device)


def _prompts_in(prompts: Mapping[str, str]) -> dict[str, str]:
    """A copy; as in sentence-transformers None is no text."""
    if not isinstance(prompts, Mapping):
        raise InputError(f"prompts must be a dict of names and texts, got {type(prompts).__name__}")
    for prompt in prompts.values():
        check_prompt(prompt)
    return {name: prompt or "" for name, prompt in prompts.items()}


def _known(name: str | None, prompts: Mapping[str, str]) -> str | None:
    if name is not None and name not in prompts:
        raise InputError(f"unknown default prompt {name!r}: the prompts are {', '.join(map(repr, prompts)) or 'none'}")
    return name


def _measure_called(name: Any) -> str:
    """Of a name, or of sentence-transformers' enumeration of them."""
    measure = str(getattr(name, "value", name))
    if measure not in SIMILARITIES:
        raise InputError(f"unknown similarity_fn_name {measure!r}: choose one of {', '.join(SIMILARITIES)}")
    return measure


def _kept(dimensions: int | None) -> int | None:
    return None if dimensions is None else at_least_one("truncate_dim", dimensions)
