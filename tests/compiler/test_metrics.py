"""Distances between vectors, on rows whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from stcompile.compiler.metrics import BROKEN, distance, neighbour_overlap
from stcompile.compiler.parity.probes import probe_texts

INFINITY = np.inf


@pytest.mark.parametrize(
    ("left", "right", "error", "cosine"),
    [
        ([3.0, 4.0], [3.0, 4.0], 0.0, 1.0),
        ([3.0, 4.0], [3.0, 4.5], 0.1, 27.0 / (5 * np.hypot(3, 4.5))),
        ([0.0, 0.0], [0.0, 0.0], 0.0, 1.0),
        ([0.0, 0.0], [0.0, 0.5], 0.5, 0.0),
        ([-INFINITY, -INFINITY], [-INFINITY, -INFINITY], 0.0, 1.0),
        ([-INFINITY, 1.0], [0.0, 1.0], BROKEN, -1.0),
        ([1.0, 1.0], [np.nan, 1.0], BROKEN, -1.0),
    ],
)
def test_distance(left: list[float], right: list[float], error: float, cosine: float) -> None:
    found = distance(np.array([left], np.float32), np.array([right], np.float32))
    assert found.abs_error[0] == pytest.approx(error)
    assert found.cosine[0] == pytest.approx(cosine)


def test_neighbour_overlap_counts_shared_neighbours() -> None:
    points = np.eye(6, dtype=np.float32)
    points[1] = points[0] + 0.1 * points[2]
    points[4] = points[3] + 0.1 * points[5]
    assert neighbour_overlap(points, points, count=1) == 1.0
    swapped = points[[0, 4, 2, 3, 1, 5]]
    assert neighbour_overlap(points, swapped, count=1) < 1.0


def test_one_text_has_no_neighbours() -> None:
    assert neighbour_overlap(np.ones((1, 3), np.float32), np.ones((1, 3), np.float32)) == 1.0


def test_the_probe_texts_cover_what_breaks_encoders() -> None:
    texts = probe_texts()
    assert len(texts) == len(set(texts)) > 200
    assert "" in texts
    assert any(text and not text.strip() for text in texts)
    assert any("\U0001f300" <= char <= "\U0001faff" for text in texts for char in text)
    assert any("一" <= char <= "鿿" for text in texts for char in text)
