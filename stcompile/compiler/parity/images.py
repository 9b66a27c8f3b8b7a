"""The image tower's part of parity: pictures by the shipped runtime, against sentence-transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from stcompile.artifact.manifest import Manifest
from stcompile.artifact.report import ImageParity
from stcompile.artifact.target import Tolerance
from stcompile.compiler.metrics import Distance, Matrix, compared, rounded
from stcompile.compiler.parity.bounds import too_large, too_small
from stcompile.compiler.parity.golden import Answered, golden_picture, on_one_thread
from stcompile.compiler.parity.reference import Reference
from stcompile.compiler.parity.runner import Run
from stcompile.compiler.pictures import pictures_sha256, probe_pictures
from stcompile.compiler.stack.image_route import ImageRoute
from stcompile.kernels.native import library
from stcompile.runtime.pictures import pillow_for_images

_BATCH = 8

# Pictures that our own modules read too.
_FEW = 8

_BODY = "body"


class ImagePlan:
    """Pictures in files, and what to run of them: in batches, one by one, and without kernels where there are some.

    Args:
        manifest: the artifact's, with an image route.
        route: the modules that were traced; no longer needed once this is made.
        folder: where the files go, for as long as this is used.
    """

    label = "images"

    def __init__(self, manifest: Manifest, route: ImageRoute, folder: Path) -> None:
        self._pictures = probe_pictures()
        self.texts = [str(folder / f"{index}.png") for index in range(len(self._pictures))]
        pillow = pillow_for_images()
        for path, picture in zip(self.texts, self._pictures, strict=True):
            pillow.fromarray(picture.pixels).save(path)
        self._dim = route.dim
        everything: dict[str, Any] = {"truncate_dim": self._dim}
        order = range(len(self.texts))
        self.runs = {
            "batched": Run(order, {**everything, "batch_size": _BATCH}),
            "alone": Run(order, {**everything, "batch_size": 1}),
        }
        if manifest.engine.portable and library() is not None:
            self.runs[_BODY] = Run(order, {**everything, "batch_size": 1}, kernels=False)
        self._own = route.encode(self.texts[:_FEW])
        self._smallest = min(range(len(self.texts)), key=lambda place: Path(self.texts[place]).stat().st_size)
        self._expected: Matrix = np.zeros((1, self._dim), np.float32)

    def answers(self, reference: Reference) -> Matrix:
        """What the reference makes of the pictures, float32 `(n, dim)`."""
        with on_one_thread():
            self._expected = reference.images([self.texts[self._smallest]], dim=self._dim, batch_size=1)
        return reference.images(self.texts, dim=self._dim, batch_size=_BATCH)

    def report(self, reference: Matrix, found: dict[str, Matrix]) -> ImageParity:
        """How far the artifact's vectors are from the reference's."""
        both = [compared(reference, found[name]) for name in ("batched", "alone")]
        errors = np.maximum(*(item.abs_error for item in both))
        cosines = np.minimum(*(item.cosine for item in both))
        worst = int(np.lexsort((-errors, cosines))[0])
        kernels, body = found["alone"], found.get(_BODY)
        return ImageParity(
            num_images=len(self.texts),
            max_abs_error=rounded(errors.max()),
            min_cosine=rounded(cosines.min()),
            mean_cosine=rounded(cosines.mean()),
            batch_invariance=rounded(compared(kernels, found["batched"]).cosine.min()),
            body_min_cosine=None if body is None else rounded(compared(reference, body).cosine.min()),
            agreement=None if body is None else rounded(compared(kernels, body).cosine.min()),
            worst_image=self._pictures[worst].name,
            images_sha256=pictures_sha256(self._pictures),
        )

    @property
    def all_texts(self) -> list[str]:
        """What `runs` count from."""
        return self.texts

    def golden(self, found: dict[str, Matrix]) -> Answered:
        """The smallest picture, which the artifact is to be checked by later, and how near it is now."""
        apart = compared(self._expected, found["alone"][[self._smallest]])
        known = golden_picture(self.texts[self._smallest], self._expected[0])
        return Answered(tuple(known), float(apart.cosine[0]))

    def misread(self, reference: Matrix) -> Distance:
        """How far our own modules, which were traced, and our own pixels are from the reference."""
        return compared(reference[: len(self._own)], self._own)


def image_failures(found: ImageParity, allowed: Tolerance, agreement: float) -> tuple[str, ...]:
    """What of images is not within the tolerance of texts, one sentence each."""
    where = f" ({found.worst_image})"
    return (
        *too_large("max abs error of images", found.max_abs_error, allowed.max_abs_error, where),
        *too_small("min cosine of images", found.min_cosine, allowed.min_cosine, where),
        *too_small("mean cosine of images", found.mean_cosine, allowed.mean_cosine, where),
        *too_small("batch invariance of images", found.batch_invariance, allowed.batch_invariance, where),
        *too_small("min cosine without kernels of images", found.body_min_cosine, allowed.min_cosine, where),
        *too_small(
            "cosine between kernels and standard operators of images",
            found.agreement,
            allowed.least_agreement(agreement),
            where,
        ),
    )
