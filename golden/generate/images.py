"""The pictures that image towers are recorded on: small PNGs of every kind of pixel, drawn from a seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

_SEED = 20


def _colors(height: int, width: int, channels: int = 3) -> Any:
    """Colors that change over the picture, with noise, uint8."""
    chance = np.random.RandomState(_SEED + height * width + channels)
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [128 + 90 * np.sin(rows * a + columns * b) for a, b in chance.rand(channels, 2)]
    return np.clip(np.stack(waves, axis=-1) + 40 * chance.randn(height, width, channels), 0, 255).astype(np.uint8)


def _palette(transparent: bool) -> Any:
    image = Image.fromarray(_colors(30, 28)).quantize(16)
    if transparent:
        image.info["transparency"] = 3
    return image


def _turned() -> Any:
    image = Image.fromarray(_colors(18, 31))
    exif = Image.Exif()
    # The orientation: what is stored lies on its side.
    exif[0x0112] = 6
    image.info["exif"] = exif.tobytes()
    return image


# Networks of golden models read 16x16 and 16x24.
PICTURES: dict[str, Any] = {
    "larger": Image.fromarray(_colors(40, 44)),
    "smaller": Image.fromarray(_colors(9, 11)),
    "as_wanted": Image.fromarray(_colors(16, 16)),
    "portrait": Image.fromarray(_colors(61, 20)),
    "landscape": Image.fromarray(_colors(17, 90)),
    "grey": Image.fromarray(_colors(33, 27, 1)[..., 0]),
    "grey_alpha": Image.fromarray(_colors(22, 23, 2), "LA"),
    "grey_16_bit": Image.fromarray(_colors(20, 20, 1)[..., 0].astype(np.uint16) * 257),
    "black_and_white": Image.fromarray(_colors(25, 25, 1)[..., 0]).convert("1"),
    "rgba": Image.fromarray(_colors(29, 31, 4)),
    "palette": _palette(transparent=False),
    "palette_transparent": _palette(transparent=True),
    "turned": _turned(),
    "pixel": Image.fromarray(_colors(1, 1)),
}


def write_images(folder: Path) -> list[Path]:
    """Writes them, and gives their paths in order."""
    folder.mkdir(exist_ok=True)
    paths = []
    for name, image in PICTURES.items():
        path = folder / f"{name}.png"
        known = {key: image.info[key] for key in ("exif", "transparency") if key in image.info}
        image.save(path, **known)
        paths.append(path)
    return paths
