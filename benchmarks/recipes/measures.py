"""What is measured of every recipe: nearness to torch, batch mates, a search, speed. What was measured once stays."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._common import BATCH_SIZE, status
from benchmarks._quality import Matrix, Retrieval, ndcg
from benchmarks._speeds import speed_rows
from benchmarks.peers.measures import written
from benchmarks.peers.preparation import Ready, started
from benchmarks.peers.processes import Process, timed_turns
from benchmarks.recipes.making import Made, digest, who
from benchmarks.recipes.table import RECIPES, REFERENCE
from stcompile.compiler.metrics import distance, rounded


@dataclass(frozen=True)
class Judged:
    """The texts that vectors are judged on.

    Attributes:
        sentences: compared with torch's.
        mates: of differing lengths, each alone and in batches in this order.
        retrieval: searched in; None leaves it out.
    """

    sentences: list[str]
    mates: list[str]
    retrieval: Retrieval | None


class Judge:
    """Measures recipes one by one.

    Args:
        judged: the texts.
        folder: where results are kept.
    """

    def __init__(self, judged: Judged, folder: Path) -> None:
        self._judged = judged
        self._folder = folder

    def expected(self, ready: Ready, made: Made) -> Matrix:
        """The reference's vectors of the sentences. Errors as `of`."""
        file = self._folder / f"torch-{digest(_key(REFERENCE, made), self._judged.sentences)[:16]}.npy"
        if not file.is_file():
            with _Vectors(REFERENCE, ready) as vectors:
                np.save(file, vectors(self._judged.sentences))
        found: Matrix = np.load(file)
        return found

    def of(self, name: str, ready: Ready, made: Made, expected: Matrix) -> dict[str, float]:
        """Everything but speed.

        Raises:
            InputError: its process ended; the sentence says why.
        """
        key, task = _key(name, made), self._judged.retrieval
        with _Vectors(name, ready) as vectors:
            found = {
                **self._kept("near", (key, expected.tolist()), lambda: _nearness(vectors, self._judged, expected)),
                **self._kept("mates", (key, self._judged.mates), lambda: _mates(vectors, self._judged.mates)),
            }
            if task is not None:
                found |= self._kept("ndcg", (key, asdict(task)), lambda: _search(vectors, task))
        return found

    def _kept(self, what: str, key: Any, measured: Callable[[], dict[str, float]]) -> dict[str, float]:
        """What an earlier run has measured of the same on the same texts, or what is measured now."""
        file = self._folder / f"{what}-{digest(key)[:16]}.json"
        if not file.is_file():
            file.write_text(json.dumps(measured()), encoding="utf-8")
        found: dict[str, float] = json.loads(file.read_text(encoding="utf-8"))
        return found


def _key(name: str, made: Made) -> str:
    recipe = RECIPES[name]
    return digest(made.key, who(recipe.environment, recipe.adapter), recipe.options)


class _Vectors:
    """Texts to vectors by a process that is started for the first of them."""

    def __init__(self, name: str, ready: Ready) -> None:
        self._name = name
        # So many texts together as everybody else: left to itself, ours would pad less. On any core: nothing is timed.
        options = {**ready.settings["options"], "batch_size": BATCH_SIZE}
        self._python, self._settings = ready.python, {**ready.settings, "options": options, "threads": 1}
        self._process: Process | None = None

    def __enter__(self) -> _Vectors:
        self._files = tempfile.TemporaryDirectory(prefix="stcompile-recipes-")
        return self

    def __exit__(self, *error: object) -> None:
        if self._process is not None:
            self._process.close()
        self._files.cleanup()

    def __call__(self, texts: Sequence[str], **options: int) -> Matrix:
        if self._process is None:
            self._process = Process(self._name, self._python, self._settings)
        file, save = written(Path(self._files.name) / "texts.json", texts), Path(self._files.name) / "vectors.npy"
        self._process.ask("vectors", file, save=str(save), **options)
        found: Matrix = np.load(save)
        return found


def _nearness(vectors: _Vectors, judged: Judged, expected: Matrix) -> dict[str, float]:
    cosines = distance(expected, vectors(judged.sentences)).cosine
    return {"mean_cosine": rounded(cosines.mean()), "min_cosine": rounded(cosines.min())}


def _mates(vectors: _Vectors, texts: list[str]) -> dict[str, float]:
    alone, beside = (vectors(texts, together=size) for size in (1, BATCH_SIZE))
    cosines = distance(alone, beside).cosine
    return {"mean_invariance": rounded(cosines.mean()), "min_invariance": rounded(cosines.min())}


def _search(vectors: _Vectors, task: Retrieval) -> dict[str, float]:
    found = {"queries": vectors(task.queries), "documents": vectors(task.documents)}
    return {"ndcg": round(ndcg(found, task.grades), 3)}


def speeds(ready: Mapping[str, Ready], sets: Mapping[str, list[str]], rounds: int) -> list[dict[str, Any]]:
    """Texts a second on one core, all recipes in turns: a row for each and each set of texts."""
    rows = []
    with started(ready, 1) as processes, tempfile.TemporaryDirectory(prefix="stcompile-recipes-") as folder:
        for name, texts in sets.items():
            status(f"Timing {len(texts)} {name} texts, {rounds} rounds")
            timings = timed_turns(processes, written(Path(folder) / f"{name}.json", texts), rounds)
            rows += speed_rows(name, texts, timings, REFERENCE)
    return rows
