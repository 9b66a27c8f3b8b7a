"""`ImageRoute`: the modules of a stack behind its image tower; one graph is made of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stcompile.artifact.image import ImageSpec
from stcompile.artifact.manifest import PIXELS, SENTENCE
from stcompile.compiler.modules.image_tower import ImageTower
from stcompile.compiler.stack.route import Route


class ImageRoute(Route):
    """One straight line of modules, from pictures to the sentence embedding. Arguments and errors as of `Route`."""

    @property
    def tower(self) -> ImageTower:
        """The module that reads images."""
        first = self.blocks[0]
        assert isinstance(first, ImageTower)
        return first

    @property
    def processing(self) -> ImageSpec:
        """How a picture becomes what its graph reads."""
        return self.tower.processing

    @torch.inference_mode()
    def encode(
        self, texts: Sequence[Any], prompt: str | None = None, batch_size: int = 8, output: str | None = None
    ) -> NDArray[np.float32]:
        """Torch's vectors of pictures: images of Pillow, arrays, or paths. float32 `(n, dim)`."""
        rows = [np.zeros((0, self.dim), dtype=np.float32)]
        for start in range(0, len(texts), batch_size):
            features = self(self.front.tokenize(texts[start : start + batch_size], None))
            rows.append(features[SENTENCE].float().numpy())
        return np.concatenate(rows)

    def feeds(self, texts: Sequence[Any], prompt: str | None = None) -> dict[str, NDArray[Any]]:
        """The graph's input for a batch of pictures."""
        return {PIXELS: self.front.tokenize(texts, None)[PIXELS].numpy()}
