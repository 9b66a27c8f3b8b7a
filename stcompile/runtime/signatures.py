"""How `encode` and its siblings may be called: what type checkers are told, and names of other releases."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Protocol, SupportsIndex, TypedDict, TypeVar, cast, overload

import numpy as np
from numpy.typing import NDArray

from stcompile.errors import InputError
from stcompile.runtime.inputs import Sentences

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import Unpack

Precision = Literal["float32", "int8", "uint8", "binary", "ubinary"]
Output = Literal["sentence_embedding", "token_embeddings"]

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


class PlainOptions(TypedDict, total=False):
    """Options of `encode` that do not change what kind of result there is."""

    prompt_name: str | None
    prompt: str | None
    batch_size: SupportsIndex | None
    show_progress_bar: bool | None
    device: object
    normalize_embeddings: bool
    truncate_dim: SupportsIndex | None
    pool: None
    chunk_size: None
    task: str | None


class Encode(Protocol):
    """What `encode` gives for what it is asked for."""

    @overload
    def __call__(
        self,
        inputs: Sentences,
        prompt_name: str | None = ...,
        prompt: str | None = ...,
        batch_size: SupportsIndex | None = ...,
        show_progress_bar: bool | None = ...,
        output_value: Literal["sentence_embedding"] = ...,
        precision: Literal["float32"] | None = ...,
        convert_to_numpy: Literal[True] = ...,
        convert_to_tensor: Literal[False] = ...,
        device: object = ...,
        normalize_embeddings: bool = ...,
        truncate_dim: SupportsIndex | None = ...,
        pool: None = ...,
        chunk_size: None = ...,
        *,
        task: str | None = ...,
    ) -> NDArray[np.float32]: ...

    @overload
    def __call__(
        self, inputs: Sentences, *, precision: Literal["int8", "binary"], **options: Unpack[PlainOptions]
    ) -> NDArray[np.int8]: ...

    @overload
    def __call__(
        self, inputs: Sentences, *, precision: Literal["uint8", "ubinary"], **options: Unpack[PlainOptions]
    ) -> NDArray[np.uint8]: ...

    @overload
    def __call__(
        self,
        inputs: Sentences,
        *,
        convert_to_tensor: Literal[True],
        precision: Precision | None = ...,
        **options: Unpack[PlainOptions],
    ) -> Tensor: ...

    # A text is also something to go through, but it comes first.
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self,
        inputs: str | dict[str, Any],
        *,
        output_value: Literal["token_embeddings"],
        **options: Unpack[PlainOptions],
    ) -> NDArray[np.float32]: ...

    @overload
    def __call__(
        self, inputs: Sentences, *, output_value: Literal["token_embeddings"], **options: Unpack[PlainOptions]
    ) -> list[NDArray[np.float32]]: ...

    # Whatever the types of the arguments leave open.
    @overload
    def __call__(
        self,
        inputs: Sentences,
        prompt_name: str | None = ...,
        prompt: str | None = ...,
        batch_size: SupportsIndex | None = ...,
        show_progress_bar: bool | None = ...,
        output_value: Output = ...,
        precision: Precision | None = ...,
        convert_to_numpy: bool = ...,
        convert_to_tensor: bool = ...,
        device: object = ...,
        normalize_embeddings: bool = ...,
        truncate_dim: SupportsIndex | None = ...,
        pool: None = ...,
        chunk_size: None = ...,
        *,
        task: str | None = ...,
    ) -> NDArray[Any] | list[NDArray[Any]] | Tensor | list[Tensor]: ...


class EncodeMethod(Protocol):
    """A method of that kind."""

    def __get__(self, instance: object, owner: type | None = None, /) -> Encode: ...


def encode_method(method: Callable[..., object]) -> EncodeMethod:
    """Marks a method that is called as `Encode` says, and `takes_sentences`."""
    return cast("EncodeMethod", takes_sentences(method))


def takes_sentences(method: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """A method whose first argument, `inputs`, may be called `sentences`, as sentence-transformers before 6 did.

    Other names that it does not have are an `InputError`.
    """
    known = list(inspect.signature(method).parameters)[1:]

    @functools.wraps(method)
    def renamed(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        if "sentences" in kwargs:
            if "inputs" in kwargs or len(args) > 1:
                raise InputError(f"{method.__name__} was passed inputs and, by its older name, sentences: pass one")
            kwargs["inputs"] = kwargs.pop("sentences")
        unknown = [name for name in kwargs if name not in known]
        if unknown:
            raise InputError(f"{method.__name__} has no option {unknown[0]!r}: it takes {', '.join(known)}")
        return method(*args, **kwargs)

    return renamed
