"""Two artifacts beside each other: whether this export still gives last week's vectors. Nothing needs torch."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from stcompile.artifact import Artifact, open_artifact
from stcompile.artifact.manifest import RERANKER
from stcompile.artifact.report import ParityReport, read_report
from stcompile.artifact.target import Tolerance
from stcompile.compiler.metrics import BROKEN, Distance, compared, is_ragged, neighbour_overlap, rounded
from stcompile.compiler.parity.bounds import failures_of_vectors, too_small
from stcompile.compiler.parity.evidence import Evidence, Scatter, Verification, judged_of, similarities
from stcompile.compiler.parity.probes import probe_texts, shortened, texts_sha256
from stcompile.compiler.parity.ranking import by_query, cosine_about_mean, spread_of, top_agreement
from stcompile.compiler.parity.runner import Run, run_shipped, task_of
from stcompile.compiler.parity.speed import measured, of_artifact
from stcompile.compiler.parity.thresholds import Thresholds
from stcompile.errors import ModelFolderError
from stcompile.runtime.arguments import checked_texts
from stcompile.runtime.hub import located
from stcompile.runtime.loading import load
from stcompile.runtime.text.base import Text

# What two exports of one model and target may differ by: other versions of what compiles them, another CPU. Two exports
# by the same versions are the same bytes.
UNCHANGED = Tolerance(max_abs_error=None, min_cosine=0.9999, mean_cosine=0.99999, batch_invariance=None)

# Every so many texts run alone too; of a reranker, queries and documents of each.
_ALONE, _QUERIES, _DOCUMENTS = 16, 4, 100


def drift(
    artifact: str | Path,
    baseline: str | Path,
    *,
    texts: Sequence[str] | None = None,
    thresholds: Thresholds | None = None,
    device: str = "cpu",
    speed: bool = False,
) -> Verification:
    """Compares an artifact with an earlier one, both by the shipped runtime.

    Args:
        artifact: the artifact's folder.
        baseline: the other's; it is what the first is compared with.
        texts: what to encode; None takes the project's probe texts.
        thresholds: bounds in the place of `UNCHANGED`'s.
        device: where both run.
        speed: whether to measure both, too.

    Raises:
        ArtifactError: one cannot be opened.
        ProviderError: one does not run on that device.
        ModelFolderError: they make different things of a text, so that nothing can be compared.
    """
    begun = time.monotonic()
    one, other = (open_artifact(located(path)) for path in (artifact, baseline))
    _check_alike(one, other)
    for opened in (one, other):
        load(opened.folder, device=device, check_integrity=False)
    chosen = checked_texts(
        probe_texts() if texts is None else texts,
        "the texts to compare on",
        "there is no text to compare on: pass at least one",
    )
    bounds = thresholds or Thresholds()
    tolerance = bounds.applied(UNCHANGED.accepting(bounds.min_cosine))
    judge = _scores if one.manifest.kind == RERANKER else _vectors
    parity, evidence = judge(one, other, chosen, tolerance, device)
    timed = None
    if speed:
        timed = measured(one, chosen, parity.reference, partial(of_artifact, other, device=device), device)
    return Verification(one.name, other.name, parity, evidence, read_report(one), time.monotonic() - begun, timed)


def _check_alike(one: Artifact, other: Artifact) -> None:
    def about(artifact: Artifact) -> dict[str, Any]:
        manifest = artifact.manifest
        return {
            "kind": manifest.kind,
            "routes": {graph.route: manifest.dim_of(graph) for graph in manifest.graphs},
            "prompts": manifest.prompts,
        }

    left, right = about(one), about(other)
    wrong = [f"{name} {left[name]} beside {right[name]}" for name in left if left[name] != right[name]]
    if wrong:
        raise ModelFolderError(
            f"{one.name} and {other.name} cannot be compared: {'; '.join(wrong)}. Name an artifact of the same model"
        )


def _vectors(
    one: Artifact, other: Artifact, texts: Sequence[str], tolerance: Tolerance, device: str
) -> tuple[ParityReport, Evidence]:
    manifest = one.manifest
    alone = range(0, len(texts), max(1, len(texts) // _ALONE))
    runs: dict[str, Run] = {}
    for place, graph in enumerate(manifest.graphs):
        options = {"task": task_of(manifest.routing, graph.route)}
        prompts = {"": "", **manifest.prompts}
        for index, prompt in enumerate(dict.fromkeys(prompts.values())):
            runs[f"{place}-{index}"] = Run(range(len(texts)), {**options, "prompt": prompt})
        runs[f"{place}-alone"] = Run(alone, {**options, "prompt": "", "batch_size": 1})
    found, known = (run_shipped(each.folder, texts, runs, device=device) for each in (one, other))
    apart = {name: compared(known[name], found[name]) for name in runs if not name.endswith("-alone")}
    first = "0-0"
    evidence = Evidence(
        tuple(
            judged
            for name, each in apart.items()
            for judged in judged_of(texts, _named(name, manifest), each.abs_error.tolist(), each.cosine.tolist())
        ),
        similarities("cosine similarity of two texts", known[first], found[first]),
    )
    invariances = [
        min(
            float(compared(rows[f"{place}-0"][[*alone]], rows[f"{place}-alone"]).cosine.min())
            for place in range(len(manifest.graphs))
        )
        for rows in (found, known)
    ]
    ragged = is_ragged(known[first])
    overlap = 1.0 if ragged else neighbour_overlap(known[first], found[first])
    return _report(one, other, evidence, apart.values(), overlap, invariances, texts, tolerance), evidence


def _named(run: str, manifest: Any) -> str:
    """A run by its route and prompt, as far as there are several."""
    place, _, index = run.partition("-")
    route = manifest.graphs[int(place)].route
    return " ".join(filter(None, (route, "batched" if index == "0" else f"prompt-{index}")))


def _scores(
    one: Artifact, other: Artifact, texts: Sequence[str], tolerance: Tolerance, device: str
) -> tuple[ParityReport, Evidence]:
    queries, documents = texts[:_QUERIES], texts[-_DOCUMENTS:]
    pairs: list[Text] = [(query, document) for query in queries for document in documents]
    few = range(0, len(pairs), max(1, len(pairs) // _ALONE))
    plain = {"prompt": "", "activation_fn": "identity"}
    runs = {"pairs": Run(range(len(pairs)), plain), "alone": Run(few, {**plain, "batch_size": 1})}
    found, known = (
        {
            name: rows.reshape(len(rows), -1)
            for name, rows in run_shipped(each.folder, pairs, runs, device=device).items()
        }
        for each in (one, other)
    )
    size = len(documents)
    errors = np.abs(found["pairs"] - known["pairs"]).max(axis=1) / spread_of(known["pairs"])
    errors = np.where(np.isfinite(errors), errors, BROKEN)
    theirs, ours = by_query(known["pairs"], size), by_query(found["pairs"], size)
    cosines = [cosine_about_mean(left, right) for left, right in zip(theirs, ours, strict=True)]
    shown = [f"{shortened(str(pair[0]))} | {shortened(str(pair[1]))}" for pair in pairs]
    evidence = Evidence(
        tuple(judged_of(shown, "pairs", errors.tolist(), [None] * len(errors))),
        (
            Scatter(
                "logit of a query with a document",
                known["pairs"][:, -1].astype(np.float64),
                found["pairs"][:, -1].astype(np.float64),
            ),
        ),
    )
    apart = [Distance(errors, np.repeat(cosines, size))]
    invariances = [cosine_about_mean(rows["pairs"][[*few]], rows["alone"]) for rows in (found, known)]
    overlap = top_agreement(theirs, ours)
    return _report(one, other, evidence, apart, overlap, invariances, shown, tolerance), evidence


def _report(
    one: Artifact,
    other: Artifact,
    evidence: Evidence,
    apart: Any,
    overlap: float,
    invariances: Sequence[float],
    texts: Sequence[str],
    tolerance: Tolerance,
) -> ParityReport:
    errors = np.concatenate([each.abs_error for each in apart])
    cosines = np.concatenate([each.cosine for each in apart])
    report = ParityReport(
        target=one.manifest.target,
        reference=f"the artifact {other.name} ({other.manifest.target})",
        num_texts=len(errors),
        max_abs_error=rounded(errors.max()),
        min_cosine=rounded(cosines.min()),
        mean_cosine=rounded(cosines.mean()),
        neighbour_overlap=rounded(overlap),
        batch_invariance=rounded(invariances[0]),
        reference_batch_invariance=rounded(invariances[1]),
        worst_text=evidence.worst(1)[0].text,
        tolerance=tolerance,
        failures=(),
        texts_sha256=texts_sha256(texts),
    )
    alone = too_small("batch invariance", report.batch_invariance, tolerance.batch_invariance)
    return dataclasses.replace(report, failures=(*failures_of_vectors(report), *alone))
