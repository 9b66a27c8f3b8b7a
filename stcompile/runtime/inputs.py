"""What `encode` is called with, checked: texts, their tasks, and numbers."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Generic, Protocol, SupportsIndex, TypeVar

import numpy as np

from stcompile.errors import InputError
from stcompile.runtime.pictures import IMAGE_KEY, Picture, is_image, picture_of
from stcompile.runtime.text.base import Text

# A text, `{"text": text}`, `{task: text}` or `{"image": image}`, an image by itself, or any number of these and of
# pairs of texts. What images are is Pillow's to say, which need not be there.
Sentences = str | dict[str, Any] | Iterable[str | Sequence[str] | dict[str, Any] | Any]

# The key of a text by itself, where sentence-transformers names what an input is.
_TEXT = "text"


class _TakesTexts(Protocol):
    @property
    def takes_pairs(self) -> bool: ...


Route = TypeVar("Route", bound=_TakesTexts)


class Reading(Generic[Route]):
    """Reads the items of one call, one by one, and finds the route that they take.

    Args:
        routed: whether the model has routes, so that an item may be `{task: text}`.
        task: that was asked for, or None.
        route_of: the route of a task; raises `InputError` where there is none.
        images: whether an item may be an image.
    """

    def __init__(
        self, routed: bool, task: str | None, route_of: Callable[[str | None], Route], *, images: bool = False
    ) -> None:
        self._routed = routed
        self._images = images
        self._task = task
        self._route_of = route_of
        self._key: str | None = None
        self._has_begun = False
        self._route: Route | None = None

    @property
    def route(self) -> Route:
        """What all items run on.

        Raises:
            InputError: their task has none.
        """
        if self._route is None:
            self._route = self._route_of(self._task if self._key is None else self._key)
        return self._route

    def input(self, item: Any, place: int) -> Text | Picture:
        """The image that an item is, where the model reads images, or its text. Arguments and errors as `text`."""
        picture = picture_of(item, place) if self._images else None
        return self.text(item, place) if picture is None else picture

    def text(self, item: Any, place: int) -> Text:
        """The text or pair of texts that an item is.

        Args:
            item: a text, a pair of texts, `{"text": text}`, or `{task: text}` where the model has routes; numpy's and
                pyarrow's texts too.
            place: its position among all that were passed.

        Raises:
            InputError: it is something else, of another task than those before, or its route takes no pairs.
        """
        key = None
        if isinstance(item, dict) and (self._routed or item.keys() == {_TEXT}):
            key, item = self._unwrapped(item)
        if not self._has_begun:
            self._begin(key)
        elif key != self._key:
            raise _mixed_keys()
        text = checked(item, place)
        if not isinstance(text, str) and not self.route.takes_pairs:
            raise InputError(f"this model cannot take pairs of texts, and item {place} is one: join it into one text")
        return text

    def _begin(self, key: str | None) -> None:
        if key is not None and self._task not in (None, key):
            raise InputError(
                f"the texts have the key {key!r}, but task={self._task!r} was passed: leave one of them out"
            )
        self._key, self._has_begun = key, True

    def _unwrapped(self, item: dict[Any, Any]) -> tuple[str | None, Any]:
        if len(item) != 1:
            raise _mixed_keys()
        ((key, value),) = item.items()
        if isinstance(value, list):
            raise InputError(
                f"the key {key!r} holds a list: pass the list alone where it is a column, a tuple where it is a pair"
            )
        return (None if key == _TEXT else key), value


def _mixed_keys() -> InputError:
    return InputError(
        "texts with keys must all have the same one, {task: text}: encode each task in a call of its own, or "
        "pass texts and task="
    )


def windows(items: Iterator[Any], reading: Reading[Any], size: int) -> Iterator[tuple[list[Any], Exception | None]]:
    """Texts, or texts and images, so many at a time, and what then was wrong: with an item, or with going through.

    Yields:
        those of a window, and None; at the end its error, after which there is nothing more.
    """
    place, error = 0, None
    while True:
        texts: list[Any] = []
        try:
            for item in islice(items, size):
                texts.append(reading.input(item, place))
                place += 1
        except Exception as caught:  # whatever the source raises comes after the vectors of what it gave before
            error = caught
        if texts or error is not None:
            yield texts, error
        if len(texts) < size or error is not None:
            return


def listed(inputs: Any) -> tuple[list[Any], bool]:
    """The items of what was passed as texts, and whether it was a single one by itself.

    Raises:
        InputError: it is no list of texts.
    """
    if isinstance(inputs, (str, dict)) or is_image(inputs):
        return [inputs], True
    check_many(inputs)
    return (inputs.tolist() if isinstance(inputs, np.ndarray) else list(inputs)), False


def check_stream(inputs: Any) -> None:
    """Whether `encode_iter` takes it: many texts, one after the other.

    Raises:
        InputError: it does not.
    """
    if isinstance(inputs, (str, dict)) or is_image(inputs):
        raise InputError("encode_iter takes many texts, one after the other: use encode for a single one")
    check_many(inputs)


def check_many(inputs: Any, verb: str = "encode") -> None:
    """Whether to go through it gives one text after the other, in an order that its vectors can have too.

    Raises:
        InputError: it does not.
    """
    if isinstance(inputs, list):
        return
    kind = type(inputs).__name__
    if isinstance(inputs, Mapping):
        raise InputError(f"{verb} takes a text or a list of texts, got {kind}: pass a list of its texts")
    if isinstance(inputs, (set, frozenset)):
        raise InputError(f"{verb} takes texts in an order, which a {kind} has none of: pass a list of them")
    # To go through a table of pandas, polars, pyarrow or datasets gives the names of its columns, or whole columns.
    if any(hasattr(type(inputs), name) for name in ("columns", "column_names")):
        raise InputError(f"{verb} takes a text or a list of texts, got a {kind}: pass one column of it, table['text']")
    if isinstance(inputs, np.ndarray) and (
        inputs.ndim == 0 or inputs.shape[1:] not in ((), (2,)) or inputs.dtype.names
    ):
        raise InputError(
            f"{verb} takes arrays of texts (n,) or of pairs (n, 2), got shape {inputs.shape} of {inputs.dtype}: pass "
            "one column of it"
        )
    if isinstance(inputs, (bytes, bytearray, memoryview)) or not _is_iterable(inputs):
        raise InputError(f"{verb} takes a text or a list of texts, got {kind}")


def _is_iterable(value: Any) -> bool:
    try:
        iter(value)
    except TypeError:
        return False
    return True


def checked(item: Any, place: int) -> Text:
    """The text or pair of texts that an item is, at its place among all.

    Raises:
        InputError: it is something else, or not Unicode.
    """
    if isinstance(item, str):
        _check_unicode(item, f"item {place}")
        return item
    if isinstance(item, np.ndarray) and item.dtype.kind not in "biufc":
        item = item.tolist()
    # A scalar of pyarrow.
    if hasattr(item, "as_py"):
        return checked(item.as_py(), place)
    if isinstance(item, (list, tuple)) and len(item) == 2 and any(isinstance(part, str) for part in item):
        for half, part in zip(("first", "second"), item, strict=True):
            if not isinstance(part, str):
                raise InputError(
                    f"item {place} is a pair whose {half} text is {type(part).__name__}, not text: {_remedy(part)}"
                )
            _check_unicode(part, f"item {place}")
        return (item[0], item[1])
    raise InputError(f"item {place} is {type(item).__name__}, not text: {_remedy(item)}")


def check_prompt(prompt: str | None) -> None:
    """Whether it can be put in front of a text.

    Raises:
        InputError: it is no text.
    """
    if prompt is not None and not isinstance(prompt, str):
        raise InputError(f"prompt must be text, got {type(prompt).__name__}")
    _check_unicode(prompt or "", "the prompt")


def _check_unicode(text: str, what: str) -> None:
    """Tokenizers refuses half a surrogate pair too, but not by its place."""
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{what} holds half of a surrogate pair, which is no text: decode it as UTF-8 first"
        ) from error


def _remedy(item: Any) -> str:
    # NaN and pandas' NaT are the only values that differ from themselves; pandas' NA does not say.
    if item is None or type(item).__name__ == "NAType" or (isinstance(item, float) and item != item):  # noqa: PLR0124
        return "a missing value has no vector; drop it or fill it in"
    if is_image(item) or (isinstance(item, dict) and item.keys() == {IMAGE_KEY}):
        return "this artifact reads texts alone; images are for one of a model with an image tower, CLIP for one"
    if isinstance(item, dict):
        return 'a dict is {"text": text}, or {task: text} for a model with a Router; of a table pass one column'
    if isinstance(item, (list, tuple)):
        return "a list in a list of texts is a pair of two strings; pass the texts themselves"
    return "encode takes strings (or pairs of strings); drop or convert it"


def at_least_one(name: str, value: SupportsIndex) -> int:
    """A whole number.

    Raises:
        InputError: it is none, or smaller than 1.
    """
    try:
        # numpy's integers count; True is an int to Python, but here a slip
        number = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = 0
    if number < 1:
        raise InputError(f"{name} must be a whole number of at least 1, got {value!r}")
    return number
