"""Pictures drawn from a seed: what image towers are calibrated on, and others that their parity is judged on.

Nobody's photographs: smooth fields of color as of skies and skin, edges, shapes, textures of one frequency, noise, and
flat areas, of sizes above and below what networks read, upright and lying, one of them very narrow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Drawing = NDArray[np.uint8]

# Width and height.
_SIZES = ((320, 240), (96, 128), (512, 384), (224, 224), (40, 30), (180, 300), (1024, 64), (257, 193))

_CALIBRATED, _JUDGED = (64, 17), (32, 29)


@dataclass(frozen=True)
class Drawn:
    """One picture: its name for a report, and its pixels, uint8 `(height, width, 3)`."""

    name: str
    pixels: Drawing


def calibration_pictures() -> list[Drawn]:
    """Those that ranges and strengths are chosen on; none of them is judged."""
    return drawn(*_CALIBRATED)


def probe_pictures() -> list[Drawn]:
    """Those that parity is judged on."""
    return drawn(*_JUDGED)


def drawn(count: int, seed: int) -> list[Drawn]:
    """So many pictures, all kinds and sizes in turn; equal ones for equal seeds, whichever release numpy is."""
    chance = np.random.RandomState(seed)
    kinds = (_field, _shapes, _waves, _noise, _gradient, _flat, _speckled)
    made = []
    for index in range(count):
        kind, (width, height) = kinds[index % len(kinds)], _SIZES[(index * 3 + index // 8) % len(_SIZES)]
        pixels = np.clip(kind(chance, height, width), 0, 255).astype(np.uint8)
        made.append(Drawn(f"{kind.__name__[1:]} {width}x{height}, number {index} of seed {seed}", pixels))
    return made


def pictures_sha256(pictures: Sequence[Drawn]) -> str:
    """Hash of the pictures and their order."""
    digest = hashlib.sha256()
    for picture in pictures:
        digest.update(repr(picture.pixels.shape).encode())
        digest.update(picture.pixels.tobytes())
    return digest.hexdigest()


def _field(chance: np.random.RandomState, height: int, width: int) -> NDArray[np.float64]:
    """Color that changes slowly, with a little of what changes quickly."""
    coarse, fine = (_stretched(chance.rand(n, n, 3), height, width) for n in (4, 13))
    return 255 * (0.8 * coarse + 0.2 * fine)


def _shapes(chance: np.random.RandomState, height: int, width: int) -> NDArray[np.float64]:
    """Discs and rectangles over each other."""
    made = np.broadcast_to(255 * chance.rand(3), (height, width, 3)).copy()
    rows, columns = np.mgrid[0:height, 0:width] / max(height, width)
    for index in range(9):
        y, x, size = chance.rand() * height / max(height, width), chance.rand() * width / max(height, width), 0.3
        size *= chance.rand()
        far = np.hypot(rows - y, columns - x) if index % 2 else np.maximum(np.abs(rows - y), np.abs(columns - x))
        made[far < size] = 255 * chance.rand(3)
    return made


def _waves(chance: np.random.RandomState, height: int, width: int) -> NDArray[np.float64]:
    """A texture of one frequency and direction in each channel."""
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [np.sin(rows * a + columns * b) for a, b in chance.rand(3, 2)]
    return 127.5 + 127.5 * np.stack(waves, axis=-1)


def _noise(chance: np.random.RandomState, height: int, width: int) -> NDArray[np.float64]:
    return 256 * chance.rand(height, width, 3)


def _gradient(chance: np.random.RandomState, height: int, width: int) -> NDArray[np.float64]:
    """From one color to another, over a corner."""
    rows, columns = np.mgrid[0:height, 0:width]
    share = ((rows / height + columns / width) / 2)[..., None]
    first, last = 255 * chance.rand(2, 3)
    made: NDArray[np.float64] = first * (1 - share) + last * share
    return made


def _flat(chance: np.random.RandomState, height: int, width: int) -> NDArray[np.float64]:
    return np.broadcast_to(255 * chance.randint(0, 2, 3).astype(np.float64), (height, width, 3))


def _speckled(chance: np.random.RandomState, height: int, width: int) -> NDArray[np.float64]:
    """A field under the noise of a bad camera."""
    made: NDArray[np.float64] = _field(chance, height, width) + 40 * (chance.rand(height, width, 3) - 0.5)
    return made


def _stretched(grid: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """A grid `(n, n, 3)` over a whole picture, in between linearly."""
    for axis, size in ((0, height), (1, width)):
        places = np.linspace(0, grid.shape[axis] - 1, size)
        low = np.minimum(places.astype(int), grid.shape[axis] - 2)
        share = (places - low).reshape([-1 if other == axis else 1 for other in range(3)])
        grid = np.take(grid, low, axis) * (1 - share) + np.take(grid, low + 1, axis) * share
    return grid
