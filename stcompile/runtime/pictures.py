"""Images as `encode` is given them: of Pillow, arrays, tensors and files; none is opened before its turn comes."""

from __future__ import annotations

import base64
import binascii
import os
import sys
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from stcompile.errors import InputError, StcompileError, one_line
from stcompile.extras import require

# The key of an image by itself, where sentence-transformers names what an input is.
IMAGE_KEY = "image"

# What sentence-transformers takes a text for that ends in one of these and names a file.
ENDINGS = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tiff", ".webp")
_DATA = "data:image/"
_ADDRESSES = ("http://", "https://")

_AXES = 3


@dataclass(frozen=True, eq=False)
class Picture:
    """One image of a call. Two are equal where they are one object, or the same file's name.

    Attributes:
        source: an image of Pillow, an array `(height, width, channels)` or `(channels, height, width)`, or text: the
            path of a file, or a `data:` address.
        place: its position in the call, to begin an error with.
    """

    source: Any
    place: int

    def __hash__(self) -> int:
        return hash(self.source) if isinstance(self.source, str) else id(self.source)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Picture):
            return NotImplemented
        return self.source is other.source or (isinstance(self.source, str) and self.source == other.source)

    def opened(self) -> Any:
        """The image of Pillow or the array that it is; a file is read, turned as its EXIF data say, and made RGB.

        So sentence-transformers reads files, and images of Pillow it takes as they are.

        Raises:
            InputError: the file cannot be read.
            MissingExtraError: Pillow is not installed.
        """
        pillow, operations = pillow_for_images(), require("PIL.ImageOps", _PURPOSE)
        if not isinstance(self.source, str):
            return self.source
        with self.told_apart():
            content: Any = self.source
            if content.startswith(_DATA):
                content = BytesIO(base64.b64decode(content.partition(",")[2].encode(), validate=False))
            with pillow.open(content) as image:
                return operations.exif_transpose(image).convert("RGB")

    def told_apart(self) -> _ToldApart:
        """A context in which whatever is raised becomes an `InputError` that names the image."""
        return _ToldApart(self)


_PURPOSE = "Encoding images"


def pillow_for_images() -> Any:
    """`PIL.Image`.

    Raises:
        MissingExtraError: Pillow is not installed.
    """
    return require("PIL.Image", _PURPOSE)


def is_image(value: Any) -> bool:
    """Whether it is an image: of Pillow, or an array or tensor of numbers on three axes; Pillow is not imported."""
    pillow = sys.modules.get("PIL.Image")
    if pillow is not None and isinstance(value, pillow.Image):
        return True
    if getattr(value, "ndim", None) != _AXES or not hasattr(value, "__array__"):
        return False
    # torch's types have no kind.
    return getattr(getattr(value, "dtype", None), "kind", "f") in "biufc"


def picture_of(item: Any, place: int) -> Picture | None:
    """The image that an item of a call is; None of what is none.

    As sentence-transformers tells them: images of Pillow, arrays and tensors of three axes, `{"image": one of these or
    a path}`, and texts that name a file of an image here. `{"text": text}` is a text whatever it names.

    Raises:
        InputError: it is an image that is not on this machine, or no image although it is called one.
    """
    named = isinstance(item, dict) and item.keys() == {IMAGE_KEY}
    value = item[IMAGE_KEY] if named else item
    if is_image(value):
        return Picture(value, place)
    if isinstance(value, os.PathLike):
        return Picture(os.fspath(value), place)
    if isinstance(value, str):
        ends = value.lower().endswith(ENDINGS)
        if value.startswith(_ADDRESSES) and (named or (ends and " " not in value)):
            raise InputError(
                f"item {place} is the address of an image, and the runtime reads nothing from a network: pass the "
                'image, or {"text": address} where it is a text'
            )
        if named or value.startswith(_DATA) or (ends and os.path.isfile(value)):  # noqa: PTH113 - of any text
            return Picture(value, place)
        return None
    if named:
        raise InputError(
            f"item {place} is called an image and is {_kind(value)}: pass an image of Pillow, an array or tensor of "
            "three axes, or the path of a file"
        )
    return None


def _kind(value: Any) -> str:
    axes = getattr(value, "ndim", None)
    return type(value).__name__ if axes is None else f"{type(value).__name__} of {axes} axes"


class _ToldApart:
    def __init__(self, picture: Picture) -> None:
        self._picture = picture

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        # Pillow raises OSError, SyntaxError, ValueError and errors of its own of files that are damaged or too large.
        if not isinstance(error, Exception) or isinstance(error, (StcompileError, MemoryError)):
            return
        source = self._picture.source
        where = f" ({source:.200})" if isinstance(source, str) and not source.startswith(_DATA) else ""
        reason = "it is not base64" if isinstance(error, binascii.Error) else one_line(error) or type(error).__name__
        raise InputError(
            f"item {self._picture.place}{where} cannot be read as an image ({reason}): leave it out, or repair it"
        ) from error
