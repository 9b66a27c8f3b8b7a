"""How far are the vectors from sentence-transformers, and does the task notice?

Every artifact encodes the same sentences as sentence-transformers on torch does: largest absolute error, mean and
smallest cosine. Then the task: Spearman correlation of the cosine similarity with the human scores of an STS file,
in points, and how many points are lost against torch. Exits with 1 when a limit is missed.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._common import (
    BATCH_SIZE,
    add_artifact_option,
    add_model_option,
    artifacts,
    at_least_one,
    encode_of,
    machine_facts,
    model_folder,
    parser,
    print_table,
    require_file,
    run,
    sentence_transformer,
    some_texts,
    status,
    write_json,
)
from stcompile.artifact import Artifact
from stcompile.errors import InputError
from stcompile.parity.metrics import distance, spearman
from stcompile.runtime.encoder import Encoder

TARGETS = ("onnx-fp32", "onnx-fp16", "onnx-int8")
TORCH = "sentence-transformers (torch)"

# The project's promises on real sentences, by the artifact's recipe.
LARGEST_ABS_ERROR = {"float32": 2e-6}
SMALLEST_MEAN_COSINE = {"dynamic": 0.992}
LARGEST_SPEARMAN_DROP = 0.5

Vectors = NDArray[np.float32]
Encode = Callable[[list[str]], Vectors]


@dataclass(frozen=True)
class Pairs:
    """The sentence pairs of an STS file and their human scores."""

    left: list[str]
    right: list[str]
    scores: list[float]


@dataclass(frozen=True)
class Accuracy:
    """One row of the table; `missed` names every limit that was not kept."""

    who: str
    recipe: str
    megabytes: float
    max_abs_error: float
    mean_cosine: float
    min_cosine: float
    spearman: float
    spearman_drop: float
    missed: list[str]


def main() -> int:
    arguments = _arguments()
    pairs = _read_pairs(require_file(arguments.sts, "the STS file"))
    texts = _sentences(arguments.texts, pairs, arguments.limit)
    machine = machine_facts()
    model = model_folder(arguments.model)
    with artifacts(arguments.artifact, model, TARGETS) as compiled:
        reference = encode_of(sentence_transformer(model))
        status(f"Encoding {len(texts)} sentences and {len(pairs.scores)} pairs with torch")
        expected, torch_spearman = reference(texts), _spearman(reference, pairs)
        found = []
        for artifact in compiled:
            status(f"Encoding them with {artifact.manifest.target}")
            found.append(_measure(artifact, texts, expected, pairs, torch_spearman))
    size = sum(path.stat().st_size for path in model.rglob("*") if path.is_file())
    baseline = {"who": TORCH, "megabytes": round(size / 1e6, 1), "spearman": round(torch_spearman, 2)}
    settings = {
        "model": model.name,
        "sts": arguments.sts.name,
        "pairs": len(pairs.scores),
        "sentences": len(texts),
        "batch_size": BATCH_SIZE,
        "limits": {
            "largest_abs_error": LARGEST_ABS_ERROR,
            "smallest_mean_cosine": SMALLEST_MEAN_COSINE,
            "largest_spearman_drop": LARGEST_SPEARMAN_DROP,
        },
    }
    _print(baseline, found, settings)
    write_json(arguments.json, "accuracy", machine, settings, [baseline, *map(asdict, found)])
    return 1 if any(row.missed for row in found) else 0


def _arguments() -> argparse.Namespace:
    made = parser(__doc__, "python -m benchmarks.accuracy --sts stsb-en-test.csv --json result.json")
    made.add_argument(
        "--sts",
        type=Path,
        required=True,
        metavar="FILE",
        help="STS Benchmark as CSV without a header: sentence 1, sentence 2, score 0-5",
    )
    made.add_argument(
        "--texts",
        type=Path,
        metavar="FILE",
        help="sentences to compare vectors on: one a line, or .jsonl with a field text "
        "(default: the different sentences of the STS file)",
    )
    made.add_argument("--limit", type=at_least_one, default=2000, help="compare vectors of N sentences (default: 2000)")
    add_artifact_option(made, TARGETS)
    add_model_option(made)
    return made.parse_args()


def _read_pairs(path: Path) -> Pairs:
    pairs = Pairs([], [], [])
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            for number, row in enumerate(csv.reader(stream), start=1):
                if len(row) != 3:
                    raise InputError(
                        f"row {number} of {path} has {len(row)} columns: expected sentence, sentence, score"
                    )
                pairs.left.append(row[0])
                pairs.right.append(row[1])
                pairs.scores.append(float(row[2]))
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: convert it first") from error
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"a score in {path} is not a number: the file must have no header ({error})") from error
    if len(pairs.scores) < 2:
        raise InputError(f"{path} has fewer than two pairs: a correlation needs more")
    return pairs


def _sentences(path: Path | None, pairs: Pairs, limit: int) -> list[str]:
    if path is not None:
        return some_texts(path, limit)
    both = [sentence for pair in zip(pairs.left, pairs.right, strict=True) for sentence in pair]
    return list(dict.fromkeys(both))[:limit]


def _measure(artifact: Artifact, texts: list[str], expected: Vectors, pairs: Pairs, torch_spearman: float) -> Accuracy:
    encode = encode_of(Encoder(artifact))
    apart = distance(expected, encode(texts))
    correlation = _spearman(encode, pairs)
    recipe = artifact.manifest.recipe
    error, mean, drop = float(apart.abs_error.max()), float(apart.cosine.mean()), torch_spearman - correlation
    return Accuracy(
        who=artifact.manifest.target,
        recipe=recipe,
        megabytes=round(artifact.size / 1e6, 1),
        max_abs_error=error,
        mean_cosine=round(mean, 8),
        min_cosine=round(float(apart.cosine.min()), 8),
        spearman=round(correlation, 2),
        spearman_drop=round(drop, 2) + 0.0,  # never -0.0
        missed=_missed(recipe, error, mean, drop),
    )


def _missed(recipe: str, error: float, mean: float, drop: float) -> list[str]:
    missed = []
    if error > LARGEST_ABS_ERROR.get(recipe, float("inf")):
        missed.append(f"max abs error {error:.2e} > {LARGEST_ABS_ERROR[recipe]:g}")
    if mean < SMALLEST_MEAN_COSINE.get(recipe, -1.0):
        missed.append(f"mean cosine {mean:.5f} < {SMALLEST_MEAN_COSINE[recipe]:g}")
    if drop > LARGEST_SPEARMAN_DROP:
        missed.append(f"Spearman drop {drop:.2f} > {LARGEST_SPEARMAN_DROP:g} points")
    return missed


def _spearman(encode: Encode, pairs: Pairs) -> float:
    """Spearman correlation of cosine similarity with the human scores, times 100."""
    vectors = encode(pairs.left + pairs.right).astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    middle = len(pairs.left)
    similarity = (vectors[:middle] * vectors[middle:]).sum(axis=1)
    return 100 * spearman(similarity, pairs.scores)


def _print(baseline: dict[str, Any], found: Sequence[Accuracy], settings: dict[str, Any]) -> None:
    rows = [[baseline["who"], f"{baseline['megabytes']:.1f}", "", "", "", f"{baseline['spearman']:.2f}", "", ""]]
    rows += [
        [
            row.who,
            f"{row.megabytes:.1f}",
            f"{row.max_abs_error:.1e}",
            f"{row.mean_cosine:.6f}",
            f"{row.min_cosine:.6f}",
            f"{row.spearman:.2f}",
            f"{row.spearman_drop:+.2f}",
            "MISSED" if row.missed else "kept",
        ]
        for row in found
    ]
    print_table(
        f"Against torch: {settings['sentences']} sentences; {settings['sts']}: {settings['pairs']} pairs",
        ("who", "MB", "max abs error", "mean cosine", "min cosine", "Spearman", "points lost", "limits"),
        rows,
        [f"{row.who} MISSED: {'; '.join(row.missed)}" for row in found if row.missed],
    )


if __name__ == "__main__":
    run(main)
