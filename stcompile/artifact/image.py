"""How a picture becomes what a graph reads: the settings of an image processor, as the manifest has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from stcompile.artifact.fields import Real, one_of, whole

# What a picture is resized by, at the number that Pillow and an image processor's configuration have for it.
RESAMPLINGS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")

# Of red, green and blue.
CHANNELS = 3

# No network of any kind reads more than some thousand pixels a side; a manifest must not make a picture fill memory.
Pixels = Annotated[int, whole(1, 2**13)]


@dataclass(frozen=True)
class ImageSpec:
    """The steps from a picture to `pixel_values`, in their order; a step whose field is None is left out.

    As transformers' `PilBackend` computes them: resized by Pillow, cropped in the middle, scaled, normalized.

    Attributes:
        height: of `pixel_values`.
        width: of `pixel_values`.
        resample: what Pillow resizes by, one of `RESAMPLINGS`; None does not resize.
        shortest_edge: pixels that the shorter side is resized to, the other in proportion; None where both are told.
        resized_height: what the height is resized to.
        resized_width: what the width is resized to.
        crops: whether `height` and `width` are cut out of the middle, with zeros around what is smaller.
        scale: what the numbers 0 to 255 are multiplied by.
        mean: subtracted from each channel.
        std: each channel is divided by it.
    """

    height: Pixels
    width: Pixels
    resample: Annotated[str, one_of(*RESAMPLINGS)] | None
    shortest_edge: Pixels | None
    resized_height: Pixels | None
    resized_width: Pixels | None
    crops: bool
    scale: Real | None
    mean: tuple[Real, ...] | None
    std: tuple[Real, ...] | None
