"""Pictures to `pixel_values`: the arithmetic of transformers' image processors of Pillow, number by number.

transformers calls it `PilBackend` (image_processing_backends.py, image_transforms.py of 5.23): to RGB over white,
resized by Pillow in 8 bits, cropped in the middle, scaled in float64, normalized in float32. With torchvision installed
transformers resizes by that instead, to other numbers (docs/images.md).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcompile.artifact.image import CHANNELS, RESAMPLINGS, ImageSpec
from stcompile.runtime.pictures import Picture, pillow_for_images

Pixels = NDArray[np.float32]

# Of red, green and blue with or without alpha, or of grey alone.
_CHANNELS = (1, 3, 4)

# Of an image in between: where one side is thousands of times the other, the longer one is resized to millions.
_MOST_PIXELS = 1 << 26

_LARGEST = 255


class PixelMaker:
    """Makes what a graph reads of pictures. Safe to use from several threads at once."""

    def __init__(self, spec: ImageSpec) -> None:
        self._spec = spec
        # What each of the 256 values becomes in each channel, float32 `(3, 256)`.
        levels = np.tile(np.arange(_LARGEST + 1, dtype=np.uint8), (CHANNELS, 1))
        self._table = self._normalized(levels[:, None, :])[:, 0, :]

    def pixel_values(self, pictures: list[Picture]) -> Pixels:
        """Pictures as a graph reads them: float32 `(batch, 3, height, width)`.

        Raises:
            InputError: one cannot be read, has channels that no image has, numbers that are none, or a shape that takes
                too much memory.
            MissingExtraError: Pillow is not installed.
        """
        made = np.empty((len(pictures), CHANNELS, self._spec.height, self._spec.width), dtype=np.float32)
        for place, picture in enumerate(pictures):
            opened = picture.opened()
            with picture.told_apart():
                made[place] = self._made(opened)
        return made

    def _made(self, opened: Any) -> NDArray[Any]:
        image = self._cropped(self._resized(self._rgb(opened)))
        if image.dtype != np.uint8:
            return self._normalized(image)
        return np.stack([row[channel] for row, channel in zip(self._table, image, strict=True)])

    def _rgb(self, opened: Any) -> NDArray[Any]:
        """`(3, height, width)`; what is transparent lets white through."""
        pillow = pillow_for_images()
        if isinstance(opened, pillow.Image):
            if "A" in opened.getbands() or opened.info.get("transparency") is not None:
                opened = opened.convert("RGBA")
                white = pillow.new("RGBA", opened.size, (_LARGEST, _LARGEST, _LARGEST, _LARGEST))
                opened = pillow.alpha_composite(white, opened)
            found = np.moveaxis(np.asarray(opened.convert("RGB")), -1, 0)
        else:
            found = _rgb_of(np.asarray(opened))
        if 0 in found.shape:
            raise ValueError("it has no pixels")
        return found

    def _resized(self, image: NDArray[Any]) -> NDArray[Any]:
        spec = self._spec
        if spec.resample is None:
            return image
        height, width = _size(image, spec)
        if height * width > _MOST_PIXELS:
            raise ValueError(
                f"its {image.shape[2]}x{image.shape[1]} pixels would be resized to {width}x{height}: crop it first"
            )
        is_share = _is_share(image)
        if is_share:
            image = _scaled(image, _LARGEST)
        pillow = pillow_for_images()
        drawn = pillow.fromarray(np.ascontiguousarray(np.moveaxis(image.astype(np.uint8, copy=False), 0, -1)))
        resized = np.asarray(drawn.resize((width, height), resample=RESAMPLINGS.index(spec.resample)))
        found = np.moveaxis(resized, -1, 0)
        return _scaled(found, 1 / _LARGEST) if is_share else found

    def _cropped(self, image: NDArray[Any]) -> NDArray[Any]:
        """The middle, with zeros around what is smaller, a row or column more of them above and left of it."""
        if not self._spec.crops:
            return image
        wanted, sizes = (self._spec.height, self._spec.width), image.shape[1:]
        high, wide = map(max, wanted, sizes)
        top, left = (-(-(whole - size) // 2) for whole, size in zip((high, wide), sizes, strict=True))
        if (high, wide) != sizes:
            around = np.zeros((CHANNELS, high, wide), dtype=image.dtype)
            around[:, top : top + sizes[0], left : left + sizes[1]] = image
            image = around
        # Halves are rounded down before what was put around is counted in.
        top += (sizes[0] - wanted[0]) // 2
        left += (sizes[1] - wanted[1]) // 2
        return image[:, top : top + wanted[0], left : left + wanted[1]]

    def _normalized(self, image: NDArray[Any]) -> NDArray[Any]:
        spec = self._spec
        if spec.scale is not None:
            image = _scaled(image, spec.scale)
        if spec.mean is not None and spec.std is not None:
            image = image if np.issubdtype(image.dtype, np.floating) else image.astype(np.float32)
            mean, std = (np.array(values, dtype=image.dtype)[:, None, None] for values in (spec.mean, spec.std))
            image = (image - mean) / std
        return image


def _size(image: NDArray[Any], spec: ImageSpec) -> tuple[int, int]:
    """Height and width that a picture is resized to."""
    if spec.shortest_edge is None:
        assert spec.resized_height is not None
        assert spec.resized_width is not None
        return spec.resized_height, spec.resized_width
    height, width = image.shape[1:]
    short, long = sorted((height, width))
    longest = int(spec.shortest_edge * long / short)
    return (longest, spec.shortest_edge) if width <= height else (spec.shortest_edge, longest)


def _rgb_of(image: NDArray[Any]) -> NDArray[Any]:
    """An array of three axes as `(3, height, width)`."""
    axes = [axis for axis in (0, 2) if image.ndim == 3 and image.shape[axis] in _CHANNELS]
    if not axes or image.dtype.kind not in "uif":
        raise ValueError(
            f"an array {image.shape} of {image.dtype}, where an image is (height, width, channels) or (channels, "
            "height, width) of 1, 3 or 4 channels"
        )
    if not np.isfinite(image).all():
        raise ValueError("it has numbers that are NaN or infinite")
    # Where both could be, the first is taken.
    image = np.moveaxis(image, axes[0], 0)
    channels = len(image)
    if channels == 1:
        return np.repeat(image, CHANNELS, axis=0)
    if channels == CHANNELS:
        return image
    if np.issubdtype(image.dtype, np.floating) and not (image.min() >= 0 and image.max() <= 1):
        raise ValueError("numbers outside 0 to 1 beside transparency")
    white: Any = _LARGEST if np.issubdtype(image.dtype, np.integer) else 1.0
    alpha = image[3:4] / white
    over: NDArray[Any] = alpha * image[:3] + (1 - alpha) * white
    return (np.round(over) if white == _LARGEST else over).astype(image.dtype)


def _is_share(image: NDArray[Any]) -> bool:
    """Whether numbers are shares of white, 0 to 1, rather than 0 to 255."""
    if image.dtype == np.uint8:
        return False
    if np.allclose(image, image.astype(int)):
        most, is_share = _LARGEST, False
    else:
        most, is_share = 1, True
    if not (image.min() >= 0 and image.max() <= most):
        raise ValueError(f"its numbers are {image.min():g} to {image.max():g}, where an image has 0 to 255, or 0 to 1")
    return is_share


def _scaled(image: NDArray[Any], scale: float) -> NDArray[Any]:
    found: NDArray[Any] = (image.astype(np.float64) * scale).astype(np.float32)
    return found
