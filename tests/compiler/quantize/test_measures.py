"""How accuracy is measured while a plan is searched."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import spearmanr

from stcompile.compiler.quantize.calibration import Batch
from stcompile.compiler.quantize.measures import MeanCosineDrop, MinCosine, SpearmanDrop, lost

Array = npt.NDArray[np.float32]

RNG = np.random.default_rng(31)


def batches(*rows: Sequence[int]) -> list[Batch]:
    return [Batch({"input_ids": np.zeros((len(part), 1), np.int64)}, tuple(part)) for part in rows]


def cosines(left: Array, right: Array) -> npt.NDArray[np.float64]:
    a, b = left.astype(np.float64), right.astype(np.float64)
    found: npt.NDArray[np.float64] = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return found


def vectors(count: int = 12) -> tuple[Array, Array]:
    exact = RNG.standard_normal((count, 8)).astype(np.float32)
    return exact, (exact + 0.2 * RNG.standard_normal((count, 8))).astype(np.float32)


def test_the_smallest_cosine_is_that_of_the_worst_text() -> None:
    exact, found = vectors()
    measure = MinCosine(batches(range(12)))
    assert measure(exact, found) == pytest.approx(cosines(exact, found).min())
    assert measure(exact, 7 * exact) == pytest.approx(1)
    assert (measure.name, measure.larger_is_better, measure.count) == ("min_cosine", True, 12)


def test_the_share_that_is_lost_is_the_mean() -> None:
    exact, found = vectors()
    measure = MeanCosineDrop(batches(range(5), range(5, 12)))
    assert measure(exact, found) == pytest.approx(1 - cosines(exact, found).mean())
    assert lost(exact, found) == measure(exact, found)
    assert measure(exact, exact) == pytest.approx(0, abs=1e-12)
    assert (measure.name, measure.larger_is_better, measure.count) == ("mean_cosine_drop", False, 12)


@pytest.mark.parametrize("order", [[*range(12)], [11, 3, 0, 7, 1, 2, 4, 5, 6, 8, 9, 10]])
def test_rank_correlation_is_of_the_pairs_however_the_batches_mixed_them(order: list[int]) -> None:
    """Batches hold texts of one length: rows 2i and 2i + 1 are a pair wherever they come."""
    exact, found = vectors()
    scores = RNG.uniform(0, 5, 6)
    place = np.argsort(order)
    measure = SpearmanDrop(batches(order[:4], order[4:5], order[5:]), scores.tolist())
    before, after = (
        spearmanr(cosines(rows[place][0::2], rows[place][1::2]), scores).statistic for rows in (exact, found)
    )
    assert before != pytest.approx(0)
    assert measure(exact, found) == pytest.approx((before - after) / abs(before))
    assert measure(exact, exact) == 0
    assert (measure.name, measure.larger_is_better, measure.count) == ("spearman_drop", False, 6)


def test_a_rank_correlation_that_rises_is_no_drop() -> None:
    exact = np.array([[1, 0], [0, 1], [1, 0], [1, 1], [1, 0], [1, 0]], np.float32)
    measure = SpearmanDrop(batches(range(6)), [0, 1, 2])
    assert measure(exact[[0, 1, 4, 5, 2, 3]], exact) < 0


def test_a_correlation_of_nothing_has_nothing_to_lose() -> None:
    exact, found = vectors(6)
    assert SpearmanDrop(batches(range(6)), [1, 1, 1])(exact, found) == 0
