"""Parity of what a hybrid encoder makes beside its dense vectors: a sparse vector of a text, and one of each token.

Our own modules in torch are what it is compared with: sentence-transformers does not read the files of these heads.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from stcompile.artifact import Artifact
from stcompile.artifact.manifest import VECTORS, WEIGHTS, GraphSpec, TokenWeights
from stcompile.artifact.report import OutputReport
from stcompile.artifact.target import Target, Tolerance
from stcompile.compiler.metrics import Matrix, distance, rounded, together
from stcompile.compiler.parity.active import active_overlap, sparse_tolerance
from stcompile.compiler.parity.bounds import too_few_alike, too_large, too_small
from stcompile.compiler.parity.late_interaction import token_tolerance
from stcompile.compiler.parity.runner import Run, run_shipped
from stcompile.compiler.stack.route import Route
from stcompile.runtime.hybrid_embeddings import MULTI_VECTOR, OUTPUTS, SPARSE

# Texts that are compared: a sparse vector is as wide as the vocabulary, and is compared in full.
_MOST_TEXTS = 32

_BATCH = 8

# Of a text whose weights are next to nothing beside those of others, rounding makes another direction: what is shorter
# than this share of the longest is compared by errors alone.
_TELLS = 0.1


class HeadProof:
    """What our own modules make of some texts, one by one; the route is no longer needed once this is made."""

    def __init__(self, artifact: Artifact, graph: GraphSpec, route: Route, texts: Sequence[str]) -> None:
        self._artifact = artifact
        made = {output.name for output in graph.outputs}
        self._texts = list(texts[:: max(1, len(texts) // _MOST_TEXTS)])[:_MOST_TEXTS]
        self._names = [name for name, output in OUTPUTS.items() if name in (SPARSE, MULTI_VECTOR) and output in made]
        own = [_of_text(route, text, graph) for text in self._texts]
        self._own = {name: together([found[name] for found in own]) for name in self._names}

    def judge(self, target: Target, tolerance: Tolerance, device: str) -> tuple[OutputReport, ...]:
        """Encodes with the artifact, and compares by the target's own tolerances of such vectors.

        `tolerance` is that of dense vectors: where a caller accepts less of those, so do these.
        """
        least = tolerance.min_cosine
        min_cosine = least if least < target.tolerance.min_cosine else None
        runs = {
            f"{name}-{size}": Run(range(len(self._texts)), {"prompt": "", "batch_size": size}, part=name)
            for name in self._names
            for size in (1, _BATCH)
        }
        found = run_shipped(self._artifact.folder, self._texts, runs, device=device)
        allowed = {
            SPARSE: sparse_tolerance(target, tolerance, min_cosine),
            MULTI_VECTOR: token_tolerance(target, min_cosine),
        }
        return tuple(
            _report(name, self._own[name], found[f"{name}-1"], found[f"{name}-{_BATCH}"], allowed[name])
            for name in self._names
        )


def failures_of(outputs: Sequence[OutputReport]) -> tuple[str, ...]:
    """What was not within tolerance, one sentence each."""
    failures: list[str] = []
    for item in outputs:
        allowed, where = item.tolerance, f" ({item.output})"
        failures += (
            *too_large("max abs error", item.max_abs_error, allowed.max_abs_error, where),
            *too_small("min cosine", item.min_cosine, allowed.min_cosine, where),
            *too_small("mean cosine", item.mean_cosine, allowed.mean_cosine, where),
            *too_small("batch invariance", item.batch_invariance, allowed.batch_invariance, where),
            *too_few_alike(item.active_overlap, allowed.active_overlap, where),
        )
    return tuple(failures)


def _report(name: str, own: Matrix, alone: Matrix, batched: Matrix, allowed: Tolerance) -> OutputReport:
    apart, regrouped = distance(own, alone), distance(alone, batched).cosine
    errors, cosines = apart.abs_error, apart.cosine
    if name == SPARSE:
        lengths = np.linalg.norm(own, axis=1) / max(1e-12, np.linalg.norm(own, axis=1).max())
        errors = errors * np.where(lengths > 0, lengths, 1)
        tells = lengths >= _TELLS
        cosines, regrouped = (np.append(found[tells], 1.0) for found in (cosines, regrouped))
    return OutputReport(
        output=name,
        texts=len(own),
        max_abs_error=rounded(errors.max()),
        min_cosine=rounded(cosines.min()),
        mean_cosine=rounded(cosines.mean()),
        batch_invariance=rounded(regrouped.min()),
        tolerance=allowed,
        active_overlap=rounded(active_overlap(own, alone)) if name == SPARSE else None,
    )


@torch.inference_mode()
def _of_text(route: Route, text: str, graph: GraphSpec) -> dict[str, Matrix]:
    """A text by itself: as FlagEmbedding's `encode` makes a sparse vector and vectors of tokens of it."""
    made = route(route.features([text], ""))
    here = made["attention_mask"][0] > 0
    found = {}
    if graph.weights is not None:
        found[SPARSE] = _weights(made["input_ids"][0][here], made[WEIGHTS][0, :, 0][here], graph.weights)
    if graph.rows is not None:
        found[MULTI_VECTOR] = made[VECTORS][0][here][graph.rows.leading :].float().numpy()
    return found


def _weights(ids: torch.Tensor, weights: torch.Tensor, spec: TokenWeights) -> Matrix:
    row = torch.zeros(spec.dim).scatter_reduce(0, ids, weights.float(), "amax")
    row[list(spec.skipped_ids)] = 0
    return np.asarray(row.clamp(min=0).numpy(), np.float32)
