"""What of a verdict goes into the artifact, so that any machine can check it again: a few texts that are nobody's."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from stcompile.artifact.report import ParityReport
from stcompile.artifact.self_test import Golden, SelfTest
from stcompile.compiler.metrics import Matrix, rounded

# Short, so that checking them takes milliseconds and what is stored stays small.
TEXTS = (
    "The quick brown fox jumps over 13 lazy dogs.",
    "how do I reset my password?",
    "Die Straßenbahn fährt alle zehn Minuten, außer sonntags.",
    "新しい列車は時速500キロで走る。",
    "SELECT name, COUNT(*) FROM users GROUP BY name;",
    "Bees talk by dancing: a waggle tells how far away the flowers are and where the sun stands.",
)

# Of the words that a model knows, where it knows only its own.
_OWN = 4


@dataclass(frozen=True)
class Answered:
    """Inputs with what the reference makes of them, and how near the artifact came."""

    golden: tuple[Golden, ...]
    cosine: float


def golden_texts(own: Sequence[str]) -> list[str]:
    """What is encoded, with some texts of a model's own words."""
    return [*TEXTS, *own[:_OWN]]


def golden_pairs() -> list[tuple[str, str]]:
    """What is scored: two queries with the same documents."""
    return [(query, document) for query in TEXTS[:2] for document in TEXTS[2:]]


@contextmanager
def on_one_thread() -> Iterator[None]:
    """Lets torch add up in one order, however many threads it may use: what is stored is the same bytes each time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def golden_of(inputs: Sequence[Sequence[str]], task: str | None, rows: Matrix, *, sparse: bool = False) -> list[Golden]:
    """One of each input of which all numbers are finite: of max pooling over nothing they are not."""
    found = []
    for texts, row in zip(inputs, rows, strict=True):
        values = np.asarray(row, np.float64).ravel()
        places = np.flatnonzero(values) if sparse else None
        kept: NDArray[np.float64] = values if places is None else values[places]
        if np.isfinite(kept).all():
            named = None if places is None else tuple(places.tolist())
            found.append(Golden(tuple(texts), task, tuple(rounded(value) for value in kept.tolist()), named))
    return found


def golden_picture(path: str, row: Matrix) -> list[Golden]:
    """One picture, as what `encode` takes."""
    content = base64.b64encode(Path(path).read_bytes()).decode("ascii")
    return golden_of([[f"data:image/png;base64,{content}"]], None, row[None])


def self_test_of(answered: Sequence[Answered], parity: ParityReport) -> SelfTest:
    """What an artifact's self-test holds: everything must be as near the reference as was allowed.

    Where it was not, as the scores of all pairs together may be, twice as far as it was is allowed.
    """
    reached = min((item.cosine for item in answered), default=1.0)
    return SelfTest(
        parity.reference,
        rounded(min(parity.tolerance.min_cosine, 2 * reached - 1)),
        tuple(golden for item in answered for golden in item.golden),
    )
