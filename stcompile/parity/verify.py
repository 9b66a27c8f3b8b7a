"""Parity: the shipped runtime, text to vector, against the torch stack."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcompile.arguments import checked_texts, is_number
from stcompile.artifact import Artifact, open_artifact
from stcompile.errors import InputError, ModelFolderError
from stcompile.manifest import NO_PADDING, SENTENCE, TOKENS, GraphSpec, Manifest, RoutingSpec
from stcompile.metrics import Distance, distance, neighbour_overlap, rounded
from stcompile.parity.padding import REFERENCE_INVARIANT
from stcompile.parity.probes import over_length_text, probe_texts, texts_sha256
from stcompile.parity.report import ParityReport, shortened
from stcompile.parity.runner import Run, run_shipped
from stcompile.runtime.encoder import Encoder
from stcompile.stack.distill import distilled
from stcompile.stack.load import load_stack
from stcompile.stack.module_stack import ModuleStack
from stcompile.stack.route import Route
from stcompile.target import Target, Tolerance

_BATCH = 32
_INVARIANCE_TEXTS = 48
_PROMPT_TEXTS = 8

# Texts of a batch where they have other mates than in `_BATCH`, and the runs that are only compared with each other.
_REGROUPED = 5
_SAME_AGAIN = ("alone", "together", "regrouped")

# A model distilled a second time: principal components move in the fourth decimal with the order of a sum.
AGAIN_DISTILLED = Tolerance(max_abs_error=None, min_cosine=0.999, mean_cosine=0.9999, batch_invariance=0.999999)

Matrix = NDArray[np.float32]


def verify_artifact(
    artifact: str | Path,
    against: Any,
    *,
    texts: Sequence[str] | None = None,
    min_cosine: float | None = None,
    device: str = "cpu",
    revision: str | None = None,
    cache_dir: str | None = None,
    trust_remote_code: bool = False,
) -> ParityReport:
    """Checks a published artifact against its model, as the export did.

    Args:
        artifact: the artifact's folder.
        against: the model: folder, hub id or SentenceTransformer.
        texts: what to encode; None takes the project's probe texts.
        min_cosine: replaces the target's smallest allowed cosine, and its largest absolute error.
        device: where the artifact runs: `cpu`, `cuda` or `cuda:1`.
        revision: hub revision of the model.
        cache_dir: where the hub's files are kept.
        trust_remote_code: let the model's network run code that comes with it.

    Returns:
        the report; `passed` is the verdict.

    Raises:
        ArtifactError: the artifact cannot be opened.
        ProviderError: it does not run on that device.
        ModelFolderError: the model cannot be read, or has another width.
        UnsupportedError: the model cannot be loaded as a module stack.
    """
    opened = open_artifact(artifact)
    # Before torch has worked for minutes: what cannot run there says so here.
    Encoder(opened, device=device)
    stack = load_stack(against, revision=revision, cache_dir=cache_dir, trust_remote_code=trust_remote_code)
    target = Target.parse(opened.manifest.target)
    if opened.manifest.distillation is not None:
        stack = distilled(stack, pca_dims=opened.manifest.distillation.pca_dims)
        target = dataclasses.replace(target, tolerance=AGAIN_DISTILLED)
    tolerance = tolerance_for(target, *_budget_of(opened.manifest, min_cosine))
    return check_parity(opened, stack, texts=texts, tolerance=tolerance, device=device)


def tolerance_for(target: Target, min_cosine: float | None, max_drop: float | None = None) -> Tolerance:
    """The target's tolerance, with the caller's own accuracy in place of it.

    Args:
        target: the target.
        min_cosine: replaces the smallest allowed cosine, and the largest absolute error.
        max_drop: 1 - the smallest allowed mean cosine.

    Raises:
        InputError: `min_cosine` is not between 0 and 1.
    """
    found = target.tolerance
    if max_drop is not None:
        found = dataclasses.replace(found, mean_cosine=1 - max_drop, min_cosine=min(found.min_cosine, 1 - max_drop))
    if min_cosine is None:
        return found
    if not is_number(min_cosine) or not 0 < min_cosine <= 1:
        raise InputError(f"min_cosine must lie between 0 and 1, got {min_cosine}")
    invariance = found.batch_invariance
    return dataclasses.replace(
        found,
        max_abs_error=None,
        min_cosine=min_cosine,
        mean_cosine=min_cosine,
        batch_invariance=None if invariance is None else min(invariance, min_cosine),
    )


def _budget_of(manifest: Manifest, min_cosine: float | None) -> tuple[float | None, float | None]:
    """What the artifact was published within: the caller's own limit, or the budget it was compiled to."""
    budget = None if manifest.quantization is None else manifest.quantization.budget
    if min_cosine is not None or budget is None:
        return min_cosine, None
    return (
        budget.limit if budget.measure == "min_cosine" else None,
        budget.limit if budget.measure == "mean_cosine_drop" else None,
    )


def check_parity(
    artifact: Artifact, stack: ModuleStack, *, texts: Sequence[str] | None, tolerance: Tolerance, device: str
) -> ParityReport:
    """Encodes with both and compares. Arguments and errors as `verify_artifact`."""
    manifest = artifact.manifest
    if {graph.route: manifest.dim_of(graph) for graph in manifest.graphs} != {
        name: route.dim for name, route in stack.routes.items()
    }:
        raise ModelFolderError(
            f"the artifact has {manifest.dim} dimensions and the model {stack.dim}, or they have other routes: it was "
            "compiled from another model"
        )
    if manifest.routing != stack.routing:
        raise ModelFolderError(
            f"the artifact was compiled with other tasks than the model now has ({_tasks(manifest.routing)} instead of "
            f"{_tasks(stack.routing)}): export it again"
        )
    plans, references = [], []
    for index, graph in enumerate(manifest.graphs):
        route = stack.routes[graph.route]
        chosen = checked_texts(
            [*probe_texts(), *route.front.probe_texts()] if texts is None else texts,
            "the texts to judge parity on",
            "there is no text to judge parity on: pass at least one",
        )
        plan, reference = _planned(manifest, graph, route, chosen, f"route-{index}")
        plans.append(plan)
        references.append(reference)
    compiled = _shipped(artifact, plans, device)
    pairs = list(zip(plans, references, compiled, strict=True))
    distances = [plan.distances(reference, found) for plan, reference, found in pairs]
    everything = Distance(
        np.concatenate([item.abs_error for found in distances for item in found.values()]),
        np.concatenate([item.cosine for found in distances for item in found.values()]),
    )
    overlap = min(neighbour_overlap(reference["batched"], found["batched"]) for _, reference, found in pairs)
    report = ParityReport(
        target=manifest.target,
        num_texts=len(everything.cosine),
        max_abs_error=rounded(everything.abs_error.max()),
        min_cosine=rounded(everything.cosine.min()),
        mean_cosine=rounded(everything.cosine.mean()),
        neighbour_overlap=rounded(overlap),
        batch_invariance=rounded(min(plan.invariance(found) for plan, _, found in pairs)),
        reference_batch_invariance=rounded(min(plan.invariance(reference) for plan, reference, _ in pairs)),
        worst_text=max(_worst(plan, found) for plan, found in zip(plans, distances, strict=True))[2],
        tolerance=tolerance,
        failures=(),
        texts_sha256=texts_sha256([text for plan in plans for text in plan.texts]),
    )
    return dataclasses.replace(report, failures=_failures(report, manifest.padding))


def _tasks(routing: RoutingSpec | None) -> str:
    if routing is None:
        return "no Router"
    pairs = [*routing.tasks.items(), ("no task", routing.default), ("any other", routing.otherwise)]
    return ", ".join(f"{task} -> {route or 'refused'}" for task, route in pairs)


def _planned(
    manifest: Manifest, graph: GraphSpec, route: Route, texts: list[str], label: str
) -> tuple[_Plan, dict[str, Matrix]]:
    """What to run for one route, and torch's answers."""
    if manifest.padding != NO_PADDING:
        plan = _Plan(manifest, graph, texts, _BATCH, label)
        reference = plan.reference(route)
        if plan.invariance(reference) >= REFERENCE_INVARIANT:
            return plan, reference
    # Torch itself gives these texts other vectors in other batches: only one by one is there a right answer.
    plan = _Plan(manifest, graph, texts, 1, label)
    return plan, plan.reference(route)


def _shipped(artifact: Artifact, plans: Sequence[_Plan], device: str) -> list[dict[str, Matrix]]:
    """The same runs of all routes by the runtime, in one process."""
    texts: list[str] = []
    runs = {}
    for plan in plans:
        for name, run in plan.runs.items():
            runs[f"{plan.label}-{name}"] = Run([len(texts) + index for index in run.order], run.options)
        texts += plan.texts
    found = run_shipped(artifact.folder, texts, runs, device=device)
    return [{name: found[f"{plan.label}-{name}"] for name in plan.runs} for plan in plans]


class _Plan:
    """Which texts run how: all batched, some alone and together in one batch, some with each prompt."""

    def __init__(self, manifest: Manifest, graph: GraphSpec, texts: list[str], batch_size: int, label: str) -> None:
        longest = over_length_text(texts, manifest.text_of(graph).max_seq_length)
        self.label = label
        self.texts = texts + longest
        # Spread over the list, so that the probe set's odd texts and its longest are all in.
        step = max(1, len(texts) // _INVARIANCE_TEXTS)
        some = [*range(0, len(texts), step)]
        # What all others of its batch are padded to
        widest = max(range(len(texts)), key=lambda index: len(texts[index]))
        few = some[:: max(1, len(some) // _PROMPT_TEXTS)][:_PROMPT_TEXTS]
        task = _task_of(manifest.routing, graph.route)
        dim = manifest.dim_of(graph)
        plain: dict[str, Any] = {"prompt": "", "truncate_dim": dim, "batch_size": batch_size, "task": task}
        self.runs = {
            "batched": Run(range(len(texts)), plain),
            "alone": Run(some, {**plain, "batch_size": 1}),
            "together": Run([*some[::-1], widest], {**plain, "batch_size": len(some) + 1}),
            "regrouped": Run(some[::-1], {**plain, "batch_size": _REGROUPED}),
        }
        if longest:
            # Alone: a batch padded to it would cost torch gigabytes of attention scores.
            self.runs["over-length"] = Run(range(len(texts), len(self.texts)), {**plain, "batch_size": 1})
        prompts = sorted({text for text in manifest.prompts.values() if text})
        for index, prompt in enumerate(prompts):
            self.runs[f"prompt-{index}"] = Run(few, {**plain, "prompt": prompt})
        self.compared = [name for name in self.runs if name not in _SAME_AGAIN]
        if any(spec.name == TOKENS for spec in graph.outputs):
            self.runs["tokens"] = Run(few, {"prompt": "", "batch_size": 1, "output_value": TOKENS, "task": task})
            self.compared.append("tokens")

    def reference(self, route: Route) -> dict[str, Matrix]:
        """The same runs in torch."""
        results = {}
        for name, run in self.runs.items():
            texts = [self.texts[index] for index in run.order]
            prompt, size = run.options["prompt"], run.options["batch_size"]
            if name == "tokens":
                rows = [route.encode([text], prompt, 1, TOKENS)[0] for text in texts]
                results[name] = np.concatenate(rows)
            else:
                results[name] = route.encode(texts, prompt, size, SENTENCE)
        return results

    def distances(self, reference: dict[str, Matrix], compiled: dict[str, Matrix]) -> dict[str, Distance]:
        """How far the compiled rows are from torch's, run by run."""
        return {name: distance(reference[name], compiled[name]) for name in self.compared}

    def invariance(self, vectors: dict[str, Matrix]) -> float:
        """Smallest cosine of a text alone to itself batched, reordered with other mates, and beside the longest."""
        alone = vectors["alone"]
        others = (
            vectors["together"][:-1][::-1],
            vectors["regrouped"][::-1],
            vectors["batched"][list(self.runs["alone"].order)],
        )
        return float(min(distance(alone, other).cosine.min() for other in others))


def _task_of(routing: RoutingSpec | None, route: str) -> str | None:
    """A task that takes the route; None where no task does."""
    if routing is None or routing.default == route:
        return None
    # A task nobody named takes `otherwise`.
    return next((task for task, taken in routing.tasks.items() if taken == route), "any other task")


def _worst(plan: _Plan, distances: dict[str, Distance]) -> tuple[float, float, str]:
    """The text with the smallest cosine; of those, the one with the largest error; and what to compare it by."""
    ranked = [
        (-cosine, error, plan.texts[index])
        for name, found in distances.items()
        if name != "tokens"
        for index, cosine, error in zip(plan.runs[name].order, found.cosine, found.abs_error, strict=True)
    ]
    return max(ranked)


def _failures(report: ParityReport, padding: str) -> tuple[str, ...]:
    allowed, worst = report.tolerance, shortened(report.worst_text)
    failures = []
    if allowed.max_abs_error is not None and not report.max_abs_error <= allowed.max_abs_error:
        failures.append(f"max abs error {report.max_abs_error:.2e} is above {allowed.max_abs_error:.1e} ({worst!r})")
    if not report.min_cosine >= allowed.min_cosine:
        failures.append(f"min cosine {report.min_cosine:.6f} is below {allowed.min_cosine:g} ({worst!r})")
    if not report.mean_cosine >= allowed.mean_cosine:
        failures.append(f"mean cosine {report.mean_cosine:.6f} is below {allowed.mean_cosine:g}")
    never_pads = padding == NO_PADDING
    if allowed.batch_invariance is not None and (
        never_pads or report.reference_batch_invariance >= REFERENCE_INVARIANT
    ):
        # As far from 1 as torch itself is, and the tolerance on top.
        torch_itself = 1.0 if never_pads else report.reference_batch_invariance
        least = torch_itself - (1 - allowed.batch_invariance)
        if not report.batch_invariance >= least:
            failures.append(f"batch invariance {report.batch_invariance:.7f} is below {least:.7f}")
    return tuple(failures)
