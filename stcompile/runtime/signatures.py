"""How `encode` and its siblings may be called: what type checkers are told, and names of other releases."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, SupportsIndex, TypedDict, TypeVar, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from stcompile.errors import InputError
from stcompile.runtime.inputs import Sentences
from stcompile.runtime.options import EncodeOptions, Output, Precision

if TYPE_CHECKING:
    from torch import Tensor

_Method = Callable[[Any, Any, EncodeOptions], object]
_Called_co = TypeVar("_Called_co", covariant=True)


class SharedOptions(TypedDict, total=False):
    """Options of `encode` that leave every caller's vectors his own where texts of several share a run."""

    prompt_name: str | None
    prompt: str | None
    normalize_embeddings: bool
    truncate_dim: SupportsIndex | None
    task: str | None


class PlainOptions(SharedOptions, total=False):
    """Options of `encode` that do not change what kind of result there is."""

    batch_size: SupportsIndex | None
    show_progress_bar: bool | None
    device: object
    pool: None
    chunk_size: None


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


class EncodeIter(Protocol):
    """What `encode_iter` gives for what it is asked for."""

    @overload
    def __call__(
        self,
        inputs: Iterable[str | Sequence[str] | dict[str, Any]],
        *,
        output_value: Output = ...,
        precision: Precision | None = ...,
        convert_to_numpy: bool = ...,
        convert_to_tensor: Literal[False] = ...,
        **options: Unpack[PlainOptions],
    ) -> Iterator[NDArray[Any]]: ...

    @overload
    def __call__(
        self,
        inputs: Iterable[str | Sequence[str] | dict[str, Any]],
        *,
        output_value: Output = ...,
        precision: Precision | None = ...,
        convert_to_tensor: Literal[True],
        **options: Unpack[PlainOptions],
    ) -> Iterator[Tensor]: ...


class Method(Protocol[_Called_co]):
    """A method that is called as `Encode` or `EncodeIter` says."""

    def __get__(self, instance: object, owner: type | None = None, /) -> _Called_co: ...


def called_with(options: type[Any], method: Callable[[Any, Any, Any], object]) -> Any:
    """A method that takes texts and options by itself, as one whose arguments are texts and each option by its name.

    Its first argument, `inputs`, may be called `sentences`, as before sentence-transformers 6. Names of options that
    there are none of are an `InputError`.
    """
    name, known = method.__name__, inspect.signature(options).parameters

    @functools.wraps(method)
    def called(self: Any, *args: Any, **kwargs: Any) -> object:
        if "sentences" in kwargs:
            if "inputs" in kwargs or args:
                raise InputError(f"{name} was passed inputs and, by its older name, sentences: pass one")
            kwargs["inputs"] = kwargs.pop("sentences")
        if "inputs" in kwargs:
            args = (kwargs.pop("inputs"), *args)
        if not args:
            raise TypeError(f"{name}() missing 1 required positional argument: 'inputs'")
        unknown = [option for option in kwargs if option not in known]
        if unknown:
            raise InputError(f"{name} has no option {unknown[0]!r}: it takes {', '.join(('inputs', *known))}")
        inputs, *given = args
        return method(self, inputs, options(*given, **kwargs))

    own, inputs, _ = inspect.signature(method).parameters.values()
    called.__signature__ = inspect.Signature([own, inputs, *known.values()])  # type: ignore[attr-defined] # help()
    return called


encode_method: Callable[[_Method], Method[Encode]] = functools.partial(called_with, EncodeOptions)
encode_iter_method: Callable[[_Method], Method[EncodeIter]] = functools.partial(called_with, EncodeOptions)
