"""How far are the vectors from sentence-transformers, and does the task notice?

Every target encodes the same texts as sentence-transformers on torch does: largest absolute error and cosine. Then the
tasks: Spearman correlation of the cosine similarity with the human scores of an STS file, in points, and NDCG@10 of a
retrieval task; and how much of each is lost against torch. Batch invariance is the smallest cosine between a text alone
and in one batch with all others, on 200 texts. The limits are promised for all-MiniLM-L6-v2; exits with 1 when one is
missed.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
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
    machine_facts,
    model_folder,
    parser,
    print_table,
    pyplot,
    require_file,
    run,
    save_plot,
    status,
    write_json,
)
from benchmarks._quality import (
    Material,
    Vectors,
    encoded,
    even_sample,
    joined_texts,
    ndcg,
    read_retrieval,
    torch_vectors,
)
from benchmarks.targets import EVERY_TARGET, add_targets_option, chosen_targets
from stcompile.artifact import Artifact
from stcompile.artifact.report import read_report
from stcompile.compiler.metrics import distance, rounded, spearman
from stcompile.compiler.scored_pairs import ScoredPair, read_scored_pairs
from stcompile.runtime.encoder import Encoder

TORCH = "sentence-transformers (torch)"

_INVARIANCE_TEXTS = 200


@dataclass(frozen=True)
class Limit:
    """One promise.

    Attributes:
        measure: the field of `Accuracy` it is about.
        bound: the smallest or largest value that keeps it.
        is_least: whether `bound` is the smallest.
    """

    measure: str
    bound: float
    is_least: bool

    def kept(self, value: float | None) -> bool | None:
        """Whether a value keeps it; None where nothing was measured."""
        if value is None:
            return None
        return value >= self.bound if self.is_least else value <= self.bound


# What the project promises of all-MiniLM-L6-v2 on real texts, by target; the others promise their tolerance alone.
_FLOAT32 = (Limit("max_abs_error", 2e-6, is_least=False),)
_INT8 = (
    Limit("mean_cosine", 0.997, is_least=True),
    Limit("min_cosine", 0.98, is_least=True),
    Limit("spearman_lost", 0.15, is_least=False),
    Limit("ndcg_lost_percent", 0.5, is_least=False),
    Limit("megabytes", 25.0, is_least=False),
    Limit("batch_invariance", 0.99999, is_least=True),
)
LIMITS: Mapping[str, Sequence[Limit]] = {
    "onnx-fp32": _FLOAT32,
    "openvino-fp32": _FLOAT32,
    "openvino-bf16": (Limit("mean_cosine", 0.9999, is_least=True),),
    "onnx-int8": _INT8,
    "openvino-int8": _INT8,
    "onnx-int8-dynamic": (Limit("mean_cosine", 0.985, is_least=True),),
}

# How each measure is called, and written.
_WRITTEN: Mapping[str, tuple[str, str]] = {
    "max_abs_error": ("max abs error", ".1e"),
    "mean_cosine": ("mean cosine", ".6f"),
    "first_percentile_cosine": ("1 % cosine", ".6f"),
    "min_cosine": ("min cosine", ".6f"),
    "batch_invariance": ("alone ~ batched", ".7f"),
    "spearman": ("Spearman", ".2f"),
    "spearman_lost": ("Spearman points lost", "+.2f"),
    "ndcg": ("NDCG@10", ".2f"),
    "ndcg_lost_percent": ("NDCG@10 lost, %", "+.2f"),
    "megabytes": ("MB", ".1f"),
}
_OF_VECTORS = (
    "megabytes",
    "max_abs_error",
    "mean_cosine",
    "first_percentile_cosine",
    "min_cosine",
    "batch_invariance",
)
_OF_TASKS = ("spearman", "spearman_lost", "ndcg", "ndcg_lost_percent")


@dataclass(frozen=True)
class Tasks:
    """What the vectors are good for, times 100; no NDCG@10 without a retrieval task."""

    spearman: float
    ndcg: float | None


@dataclass(frozen=True)
class Accuracy:
    """One target against torch. What is lost is torch's value minus this one: points, and percent of torch's."""

    who: str
    recipe: str
    megabytes: float
    max_abs_error: float
    mean_cosine: float
    first_percentile_cosine: float
    min_cosine: float
    batch_invariance: float
    spearman: float
    spearman_lost: float
    ndcg: float | None
    ndcg_lost_percent: float | None


@dataclass(frozen=True)
class Verdict:
    """What became of one promise; `kept` is None where it was not measured."""

    target: str
    measure: str
    promised: str
    measured: float | None
    kept: bool | None


def main() -> int:
    arguments = _arguments()
    if arguments.plot is not None:
        pyplot()
    names, refused = chosen_targets(arguments.targets, arguments.artifact)
    pairs = read_scored_pairs(str(require_file(arguments.sts, "the STS file")))
    texts = joined_texts(arguments.texts, arguments.limit)
    retrieval = None if arguments.retrieval is None else read_retrieval(arguments.retrieval)
    material = Material(list(dict.fromkeys((*texts, *(text for pair in pairs for text in pair[:2])))), retrieval)
    machine = machine_facts()
    model = model_folder(arguments.model)
    status(f"Encoding {_amount(material)} with torch")
    expected = torch_vectors(model, material, arguments.cache)
    reference = _tasks(expected, material, pairs)
    found = []
    with artifacts(arguments.artifact, model, names) as compiled:
        for artifact in compiled:
            status(f"Encoding {_amount(material)} with {artifact.manifest.target}")
            found.append(_measure(artifact, material, pairs, expected, reference))
    verdicts = [verdict for row in found for verdict in _verdicts(row)]
    size = sum(path.stat().st_size for path in model.rglob("*") if path.is_file())
    baseline = {"who": TORCH, "megabytes": round(size / 1e6, 1), **asdict(reference)}
    settings = {
        "model": model.name,
        "texts": [path.name for path in arguments.texts],
        "sts": arguments.sts.name,
        "pairs": len(pairs),
        "sentences": len(material.sentences),
        "retrieval": None if arguments.retrieval is None else arguments.retrieval.name,
        "queries": 0 if retrieval is None else len(retrieval.queries),
        "documents": 0 if retrieval is None else len(retrieval.documents),
        "invariance_texts": min(_INVARIANCE_TEXTS, len(material.sentences)),
        "batch_size": BATCH_SIZE,
        "refused": refused,
    }
    _print(baseline, found, verdicts, settings)
    rows = [_rounded(row) for row in (baseline, *map(asdict, found))]
    write_json(
        arguments.json,
        "accuracy",
        machine,
        settings,
        {"rows": rows, "limits": [_rounded(asdict(verdict)) for verdict in verdicts]},
    )
    if arguments.plot is not None:
        _plot(found, arguments.plot, f"{_amount(material)}, against torch; {machine['cpu']}")
    return 1 if any(verdict.kept is False for verdict in verdicts) else 0


def _arguments() -> argparse.Namespace:
    made = parser(
        __doc__,
        "python -m benchmarks.accuracy --sts stsb-en-test.csv --texts short.jsonl --texts long.jsonl "
        "--retrieval scifact --cache torch.npz --json result.json",
    )
    made.add_argument(
        "--sts",
        type=Path,
        required=True,
        metavar="FILE",
        help="scored pairs, .csv, .tsv or .jsonl: sentence1, sentence2, score; vectors are compared on their sentences",
    )
    made.add_argument(
        "--texts",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="more texts to compare vectors on: one a line, or .jsonl with a field text; may be repeated",
    )
    made.add_argument(
        "--limit", type=at_least_one, default=5000, help="take an even sample of N --texts (default: 5000)"
    )
    made.add_argument(
        "--retrieval",
        type=Path,
        metavar="DIR",
        help="BEIR layout: corpus.jsonl, queries.jsonl and qrels.tsv; vectors are compared on its documents too",
    )
    made.add_argument(
        "--cache",
        type=Path,
        metavar="FILE",
        help="keep torch's vectors in this .npz, and take them from it the next time",
    )
    made.add_argument("--plot", type=Path, metavar="FILE", help="also draw the distances; needs matplotlib")
    add_artifact_option(made, EVERY_TARGET)
    add_targets_option(made)
    add_model_option(made)
    return made.parse_args()


def _measure(
    artifact: Artifact, material: Material, pairs: Sequence[ScoredPair], expected: Vectors, reference: Tasks
) -> Accuracy:
    encoder = Encoder(artifact)
    vectors = encoded(encoder, material)
    apart = distance(_texts(expected), _texts(vectors))
    tasks = _tasks(vectors, material, pairs)
    lost = None
    if tasks.ndcg is not None and reference.ndcg:
        lost = 100 * (reference.ndcg - tasks.ndcg) / reference.ndcg
    return Accuracy(
        who=artifact.manifest.target,
        recipe=read_report(artifact).recipe,
        megabytes=artifact.size / 1e6,
        max_abs_error=float(apart.abs_error.max()),
        mean_cosine=float(apart.cosine.mean()),
        first_percentile_cosine=float(np.percentile(apart.cosine, 1)),
        min_cosine=float(apart.cosine.min()),
        batch_invariance=_invariance(encoder, even_sample(material.sentences, _INVARIANCE_TEXTS)),
        spearman=tasks.spearman,
        spearman_lost=reference.spearman - tasks.spearman,
        ndcg=tasks.ndcg,
        ndcg_lost_percent=lost,
    )


def _texts(vectors: Vectors) -> NDArray[np.float32]:
    """Sentences, and the documents where there are any."""
    found: NDArray[np.float32] = np.concatenate(
        [vectors[name] for name in ("sentences", "documents") if name in vectors]
    )
    return found


def _tasks(vectors: Vectors, material: Material, pairs: Sequence[ScoredPair]) -> Tasks:
    places = {text: place for place, text in enumerate(material.sentences)}
    left, right = (vectors["sentences"][[places[str(pair[side])] for pair in pairs]] for side in (0, 1))
    similarity: NDArray[np.float64] = distance(left, right).cosine
    return Tasks(
        spearman=100 * spearman(similarity, [pair[2] for pair in pairs]),
        ndcg=None if material.retrieval is None else ndcg(vectors, material.retrieval.grades),
    )


def _invariance(encoder: Encoder, texts: list[str]) -> float:
    alone, together = (encoder.encode(texts, batch_size=size, show_progress_bar=False) for size in (1, len(texts)))
    return float(distance(alone, together).cosine.min())


def _verdicts(row: Accuracy) -> list[Verdict]:
    verdicts = []
    for limit in LIMITS.get(row.who, ()):
        value = getattr(row, limit.measure)
        promised = f"{'>=' if limit.is_least else '<='} {limit.bound:g}"
        verdicts.append(Verdict(row.who, limit.measure, promised, value, limit.kept(value)))
    return verdicts


def _amount(material: Material) -> str:
    if material.retrieval is None:
        return f"{len(material.sentences)} sentences"
    return f"{len(material.sentences)} sentences and {len(material.retrieval.documents)} documents"


def _rounded(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: rounded(value) if isinstance(value, float) else value for name, value in row.items()}


def _written(measure: str, value: float | None) -> str:
    if value is None:
        return ""
    text = f"{value:{_WRITTEN[measure][1]}}"
    return text.replace("-", "+") if float(text) == 0 else text  # never -0.00


def _print(
    baseline: Mapping[str, Any], found: Sequence[Accuracy], verdicts: Sequence[Verdict], settings: Mapping[str, Any]
) -> None:
    rows = [baseline, *map(asdict, found)]
    refused = [f"{name} is refused here: {reason}" for name, reason in settings["refused"].items()]
    tasks = f"{settings['sts']}: {settings['pairs']} pairs"
    if settings["retrieval"] is not None:
        tasks += f"; {settings['retrieval']}: {settings['queries']} queries, {settings['documents']} documents"
    for title, measures, notes in (
        (f"Vectors against torch's: {settings['sentences'] + settings['documents']} texts", _OF_VECTORS, refused),
        (tasks, _OF_TASKS, []),
    ):
        print_table(
            title,
            ("who", *(_WRITTEN[measure][0] for measure in measures)),
            [[row["who"], *(_written(measure, row.get(measure)) for measure in measures)] for row in rows],
            notes,
        )
    print_table(
        "Promised limits",
        ("target", "measure", "promised", "measured", "verdict"),
        [
            (
                verdict.target,
                _WRITTEN[verdict.measure][0],
                verdict.promised,
                _written(verdict.measure, verdict.measured),
                {True: "kept", False: "MISSED", None: "not measured"}[verdict.kept],
            )
            for verdict in verdicts
        ],
    )


def _plot(found: Sequence[Accuracy], path: Path, subtitle: str) -> None:
    """How far the vectors are from torch's, and what the tasks lose, target by target."""
    plt = pyplot()
    figure, (vectors, tasks) = plt.subplots(1, 2, figsize=(10, 0.7 + 0.36 * len(found)), sharey=True)
    places = range(len(found))
    # Below 1e-8 the cosine itself is rounding.
    for values, marker, label in (
        ([row.mean_cosine for row in found], "o", "mean"),
        ([row.first_percentile_cosine for row in found], "|", "1 %"),
        ([row.min_cosine for row in found], "x", "worst"),
    ):
        vectors.plot([max(1 - value, 1e-8) for value in values], places, marker, label=label, color="#4878a8")
    vectors.set_xscale("log")
    vectors.set_xlabel("1 - cosine to torch")
    vectors.set_yticks(places, [row.who for row in found], fontsize=8)
    vectors.invert_yaxis()
    vectors.legend(frameon=False, fontsize=8)
    tasks.plot([row.spearman_lost for row in found], places, "o", label="Spearman, points", color="#2a9d6f")
    if all(row.ndcg_lost_percent is not None for row in found):
        tasks.plot([row.ndcg_lost_percent for row in found], places, "x", label="NDCG@10, %", color="#c98a3d")
    tasks.axvline(0, color="#9a9a9a", linewidth=0.8)
    tasks.set_xlabel("lost against torch")
    tasks.legend(frameon=False, fontsize=8)
    for axis in (vectors, tasks):
        axis.grid(axis="y", linewidth=0.3)
    save_plot(figure, (vectors, tasks), subtitle, path)


if __name__ == "__main__":
    run(main)
