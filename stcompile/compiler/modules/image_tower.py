"""ImageTower: the side of a transformers network that reads images, as the first module of a route."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from stcompile.artifact.image import CHANNELS, ImageSpec
from stcompile.artifact.manifest import PIXELS, TextSpec
from stcompile.compiler.modules.base import Example, Features, InputModule
from stcompile.compiler.modules.transformer import Transformer, follow
from stcompile.errors import UnsupportedError, one_line
from stcompile.runtime.pictures import Picture, pillow_for_images
from stcompile.runtime.pixels import PixelMaker


class ImageTower(InputModule):
    """Runs the image tower of a network with two (spec section 17); its weights are the Transformer's.

    Reads `pixel_values`, float32 `(batch, 3, height, width)`; writes the Transformer's feature, float32 `(batch, dim)`.

    Args:
        beside: the module that reads texts.
        processing: how a picture becomes `pixel_values`.
        name: what to call the model in an error.

    Raises:
        MissingExtraError: Pillow is not installed.
        UnsupportedError: the network does not take images of that size, or does not make one vector of each.
    """

    has_masked_rows: ClassVar[bool] = False
    has_cls_token: ClassVar[bool] = False

    def __init__(self, beside: Transformer, processing: ImageSpec, name: str) -> None:
        super().__init__()
        image = beside.modality_config["image"]
        path = image.get("method_output_name")
        self.network = beside.network
        self.writes = beside.writes
        self.processing = processing
        self._method = str(image["method"])
        self._steps = path if isinstance(path, list) else [path]
        # Before minutes of work: whatever is done with an image needs it.
        pillow_for_images()
        self._pixels = PixelMaker(processing)
        try:
            with torch.inference_mode():
                made = self(self._blank(1))[self.writes]
        except Exception as error:  # of a network that has positions for another size, or no such output
            reason = (
                f"its image tower fails on {processing.width}x{processing.height} pixels ({one_line(error, 200)}): "
                "correct the size in preprocessor_config.json, or leave it out (--modalities text)"
            )
            raise UnsupportedError(name, reason) from error
        if made.ndim != 2:
            found = "x".join(map(str, made.shape[1:]))
            reason = (
                f"its image tower makes {found} numbers of an image, not one vector: leave it out (--modalities text)"
            )
            raise UnsupportedError(name, reason)
        self._width = int(made.shape[1])

    @property
    def input_names(self) -> tuple[str, ...]:
        return (PIXELS,)

    @property
    def vocabulary_size(self) -> int:
        return 0

    @property
    def positions(self) -> int:
        """Token positions of an image in the network, as far as its configuration says; 1 where it does not."""
        vision = getattr(self.network.config, "vision_config", None)
        patch = getattr(vision, "patch_size", None)
        if not isinstance(patch, int) or patch < 1:
            return 1
        return (self.processing.height // patch) * (self.processing.width // patch) + 1

    def forward(self, features: Features) -> Features:
        result = getattr(self.network, self._method)(pixel_values=features[PIXELS])
        return {**features, self.writes: follow(result, self._steps)}

    def tokenize(self, texts: Sequence[Any], prompt: str | None) -> Features:
        """`pixel_values` of pictures, as the runtime makes them; a prompt is nothing to them."""
        pictures = [Picture(source, place) for place, source in enumerate(texts)]
        return {PIXELS: torch.from_numpy(self._pixels.pixel_values(pictures))}

    def front_end(self, file: str) -> tuple[TextSpec, str]:
        raise NotImplementedError("an image tower reads no text")

    def examples(self) -> dict[str, Example]:
        return {PIXELS: Example(self._blank(2)[PIXELS], ("batch",))}

    def out_width(self, in_width: int) -> int:
        return self._width

    def _blank(self, count: int) -> Features:
        return {PIXELS: torch.zeros((count, CHANNELS, self.processing.height, self.processing.width))}
