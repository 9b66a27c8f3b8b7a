"""The accuracy budget a user asks for, and how it is measured on a route."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stcompile.artifact.target import Target
from stcompile.compiler.parity.probes import probe_texts_for
from stcompile.compiler.pictures import probe_pictures
from stcompile.compiler.quantize.budget import Budget
from stcompile.compiler.quantize.calibration import Calibration, ImageCalibration, image_batches, unpadded
from stcompile.compiler.quantize.measures import MeanCosineDrop, MinCosine, SpearmanDrop
from stcompile.compiler.scored_pairs import ScoredPair, checked_pairs
from stcompile.compiler.stack.image_route import ImageRoute
from stcompile.compiler.stack.route import Route
from stcompile.errors import InputError
from stcompile.runtime.arguments import check_share


@dataclass(frozen=True)
class AskedBudget:
    """What was asked for, one of the three.

    Attributes:
        min_cosine: smallest allowed cosine of any text.
        max_drop: largest allowed loss, as a share.
        pairs: what the loss is measured on: rank correlation with their scores. None measures the mean cosine.
    """

    min_cosine: float | None
    max_drop: float | None
    pairs: tuple[ScoredPair, ...] | None

    def on(self, route: Route, calibration: Calibration | None, prompt: str, texts: Sequence[str] | None) -> Budget:
        """The budget of one route, searched on its calibration texts and on what parity will be judged on.

        Where `texts` is None those are the project's; scored pairs are read with the prompt of plain encode in front.
        """
        if self.pairs is not None:
            assert self.max_drop is not None
            sentences = [text for pair in self.pairs for text in pair[:2]]
            batches = list(unpadded(route, sentences, [prompt] * len(sentences)))
            return Budget(SpearmanDrop(batches, [pair[2] for pair in self.pairs]), self.max_drop)
        judged = (
            [*probe_texts_for(route.weights_computed), *route.front.probe_texts()] if texts is None else list(texts)
        )
        known = () if calibration is None else calibration.batches
        asked = list(unpadded(route, judged, [""] * len(judged)))
        if self.max_drop is not None:
            return Budget(MeanCosineDrop(known, asked), self.max_drop)
        assert self.min_cosine is not None
        return Budget(MinCosine([*known, *asked]), self.min_cosine)

    def on_images(self, route: ImageRoute, calibration: ImageCalibration) -> Budget:
        """The same of the route of images, on the pictures it is calibrated on and those that parity is judged on."""
        asked = image_batches(route, probe_pictures())
        if self.max_drop is not None:
            return Budget(MeanCosineDrop(calibration.batches, asked), self.max_drop)
        assert self.min_cosine is not None
        return Budget(MinCosine([*calibration.batches, *asked]), self.min_cosine)


def asked_budget(
    target: Target, *, min_cosine: float | None, max_drop: float | None, evaluation: Sequence[ScoredPair] | None
) -> AskedBudget | None:
    """The budget that arguments of `export_model` mean; None for none.

    Raises:
        InputError: they contradict each other or the target.
    """
    if evaluation is not None and max_drop is None and not target.distills:
        raise InputError("scored pairs measure a budget or a distillation: pass max_drop too, or target static")
    if max_drop is not None:
        if not target.calibrates:
            raise InputError(f"target {target.name} has no layers to choose between: max_drop goes with int8 and int4")
        if min_cosine is not None:
            raise InputError("min_cosine and max_drop are two budgets: pass one of them")
        check_share(max_drop)
    if not target.calibrates or (min_cosine is None and max_drop is None):
        return None
    pairs = None if evaluation is None else tuple(checked_pairs(evaluation))
    return AskedBudget(min_cosine, max_drop, pairs)
