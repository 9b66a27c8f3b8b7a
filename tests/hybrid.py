"""What FlagEmbedding made of a golden folder, text by text (golden/flag_embedding.py)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[Any]

CASE = "bge_m3"
ALL = ("dense", "sparse", "multi_vector")


@dataclass(frozen=True)
class Recorded:
    """Dense vectors, of each text its tokens with their weights, vectors of tokens, and scores of the longest text."""

    dense: Matrix
    sparse: list[dict[int, float]]
    multi_vector: list[Matrix]
    scores: dict[str, Matrix]


def recorded() -> Recorded:
    with np.load(Path(__file__).parents[1] / "golden" / "hybrid" / f"{CASE}.npz") as file:
        ends = np.cumsum(file["counts"])[:-1]
        pairs = zip(np.split(file["tokens"], ends), np.split(file["weights"], ends), strict=True)
        return Recorded(
            file["dense"],
            [dict(zip(tokens.tolist(), weights.tolist(), strict=True)) for tokens, weights in pairs],
            np.split(file["vectors"], np.cumsum(file["lengths"])[:-1]),
            {name.removeprefix("score_"): file[name] for name in file.files if name.startswith("score_")},
        )
