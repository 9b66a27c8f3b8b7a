"""Parity: the shipped runtime, text to vector, against sentence-transformers."""

from __future__ import annotations

import dataclasses
import gc
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from stcompile.artifact import Artifact, open_artifact
from stcompile.artifact.manifest import (
    ANSWERS,
    ENCODER,
    HYBRID,
    MULTI_VECTOR,
    RERANKER,
    SPARSE,
    TEXT,
    Manifest,
    RoutingSpec,
)
from stcompile.artifact.report import ParityReport, PathReport, Report, read_report
from stcompile.artifact.target import Target, Tolerance
from stcompile.artifact.writing import in_scratch
from stcompile.compiler.metrics import Distance, Matrix, neighbour_overlap, rounded
from stcompile.compiler.parity.active import active_overlap, sparse_tolerance
from stcompile.compiler.parity.bounds import failures_of_invariance, failures_of_paths, failures_of_vectors
from stcompile.compiler.parity.evidence import Evidence, Verification
from stcompile.compiler.parity.golden import Answered
from stcompile.compiler.parity.heads import HeadProof, failures_of
from stcompile.compiler.parity.images import ImagePlan, image_failures
from stcompile.compiler.parity.late_interaction import AGREEMENT as TOKEN_AGREEMENT
from stcompile.compiler.parity.late_interaction import rank_overlap, token_tolerance
from stcompile.compiler.parity.plan import Answers, Plan
from stcompile.compiler.parity.probes import probe_texts, probe_texts_for, shortened, texts_sha256
from stcompile.compiler.parity.reference import check_installed, open_reference
from stcompile.compiler.parity.runner import run_shipped
from stcompile.compiler.parity.scores import ScoreProof, score_tolerance
from stcompile.compiler.parity.speed import measured, of_reference
from stcompile.compiler.parity.thresholds import Thresholds
from stcompile.compiler.stack.distill import distilled
from stcompile.compiler.stack.load import load_stack
from stcompile.compiler.stack.module_stack import ModuleStack
from stcompile.compiler.stack.save import save_stack
from stcompile.compiler.stack.source import ModelSource, SourceOptions
from stcompile.errors import InputError, ModelFolderError
from stcompile.kernels.native import BODY, generation
from stcompile.runtime.arguments import checked_texts, is_number
from stcompile.runtime.device import CPU
from stcompile.runtime.hub import located
from stcompile.runtime.loaded import ARTICLES
from stcompile.runtime.loading import load

# Two computations of one model in float32 differ by 1.5e-6 at most, on rows scaled to the length of the row; a module,
# a prompt or a token that is read otherwise moves them by 1e-3 and more.
_SAME_READING = 1e-4

# Smallest cosine between a text's vectors by kernels and by the standard operators in their place. Measured on
# all-MiniLM-L6-v2: 1 - 1e-7, 0.99998 and 0.9964; over tiny networks of random weights 0.99989 in bfloat16. In 8 bits
# what is rounded moves by 4e-5, as the kernels' attention in bfloat16 and their GELU do: some levels tip over, and both
# are as far from each other as from the model.
AGREEMENT = {"onnx-fp32": 0.9999995, "onnx-bf16": 0.9998, "onnx-int8": 0.99}

# Of so many texts one is judged on every further route of a graph, and all shorter ones: what texts are filled up with
# counts most there.
_OF_SHARED, _SHORT = 4, 4

# A model distilled a second time: principal components move in the fourth decimal with the order of a sum.
AGAIN_DISTILLED = Tolerance(max_abs_error=None, min_cosine=0.999, mean_cosine=0.9999, batch_invariance=0.999999)


def verify_artifact(
    artifact: str | Path,
    against: Any,
    *,
    texts: Sequence[str] | None = None,
    min_cosine: float | None = None,
    thresholds: Thresholds | None = None,
    device: str = "cpu",
    **options: Unpack[SourceOptions],
) -> ParityReport:
    """Checks a published artifact against its model in sentence-transformers, as the export did.

    Args:
        artifact: the artifact's folder.
        against: the model: folder, hub id, SentenceTransformer, or a `ModelSource` of one.
        texts: what to encode; None takes the project's probe texts.
        min_cosine: replaces the target's smallest allowed cosine, and its largest absolute error.
        thresholds: further bounds in the place of the target's; the `min_cosine` among them unless it is passed itself.
        device: where the artifact runs: `cpu`, `cuda` or `cuda:1`.
        options: `revision`, `cache_dir`, `trust_remote_code`, `follow_links`, `sparse`, `modalities` of the
            model, see `ModelSource`.

    Returns:
        the report; `passed` is the verdict.

    Raises:
        ArtifactError: the artifact cannot be opened.
        ProviderError: it does not run on that device.
        ModelFolderError: the model cannot be read, or has another width.
        UnsupportedError: the model cannot be loaded as a module stack.
        MissingExtraError: sentence-transformers is not installed.
    """
    return verification(
        artifact, against, texts=texts, min_cosine=min_cosine, thresholds=thresholds, device=device, **options
    ).parity


def verification(
    artifact: str | Path,
    against: Any,
    *,
    texts: Sequence[str] | None = None,
    min_cosine: float | None = None,
    thresholds: Thresholds | None = None,
    device: str = "cpu",
    speed: bool = False,
    **options: Unpack[SourceOptions],
) -> Verification:
    """The same with what the verdict rests on, text by text, and if asked for, the speed of both.

    Arguments and errors as of `verify_artifact`.
    """
    begun = time.monotonic()
    check_installed()
    bounds = thresholds or Thresholds()
    min_cosine = bounds.min_cosine if min_cosine is None else min_cosine
    opened = open_artifact(located(artifact))
    report = read_report(opened)
    # Before torch has worked for minutes: what cannot run there says so here.
    load(opened.folder, device=device, check_integrity=False)
    source = dataclasses.replace(ModelSource.of(against, options), adopt=Target.parse(opened.manifest.target).adopts)
    if opened.manifest.image is None:
        source = dataclasses.replace(source, modalities=(TEXT,))
    stack = load_stack(source)
    named = Path(source.model).name if isinstance(source.model, (str, Path)) else type(source.model).__name__
    target = Target.parse(opened.manifest.target)
    if report.distillation is not None:
        stack = distilled(stack, pca_dims=report.distillation.pca_dims)
        target = dataclasses.replace(target, tolerance=AGAIN_DISTILLED)
    accepted = _budget_of(report, min_cosine)
    scored = stack.kind == RERANKER
    tolerance = score_tolerance(target, accepted[0]) if scored else tolerance_for(target, *accepted)
    if stack.kind == MULTI_VECTOR:
        tolerance = token_tolerance(target, accepted[0])
    if stack.kind == SPARSE:
        tolerance = sparse_tolerance(target, tolerance, accepted[0])
    _check_same_model(opened.manifest, stack)
    proof = PROOFS[stack.kind](opened, stack, source, texts=texts)
    kind = stack.kind
    # Its network would lie in memory beside the reference's.
    del stack
    parity = proof.judge(bounds.applied(tolerance), device)
    timed = None
    if speed:
        reference = open_reference(source, kind)
        other = partial(of_reference, opened, reference)
        timed = measured(opened, texts or probe_texts(), reference.about, other, device)
    seconds = time.monotonic() - begun
    return Verification(opened.name, named, parity, proof.evidence, report, seconds, timed)


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
    if min_cosine is not None and (not is_number(min_cosine) or not 0 < min_cosine <= 1):
        raise InputError(f"min_cosine must lie between 0 and 1, got {min_cosine}")
    return found.accepting(min_cosine)


def _budget_of(report: Report, min_cosine: float | None) -> tuple[float | None, float | None]:
    """What the artifact was published within: the caller's own limit, or the budget it was compiled to."""
    budget = None if report.quantization is None else report.quantization.budget
    if min_cosine is not None or budget is None:
        return min_cosine, None
    return (
        budget.limit if budget.measure == "min_cosine" else None,
        budget.limit if budget.measure == "mean_cosine_drop" else None,
    )


class Proof:
    """An artifact beside the model it was compiled from; the stack is no longer needed once this is made.

    It is judged on some texts; None takes the project's probe texts.

    Attributes:
        evidence: what the verdict rests on, once there is one.
        answered: what the artifact is to be checked by later, once there is a verdict.

    Raises:
        InputError: there is no text.
    """

    def __init__(
        self, artifact: Artifact, stack: ModuleStack, source: ModelSource, *, texts: Sequence[str] | None
    ) -> None:
        manifest = artifact.manifest
        self._artifact = artifact
        self._source = source
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._images: ImagePlan | None = None
        if manifest.image is not None and stack.image is not None:
            self._files = tempfile.TemporaryDirectory(prefix="stcompile-images-")
            with in_scratch(Path(self._files.name)):
                self._images = ImagePlan(manifest, stack.image, Path(self._files.name))
        if Target.parse(manifest.target).distills:
            # What was distilled is in no folder yet.
            self._scratch = tempfile.TemporaryDirectory(prefix="stcompile-distilled-")
            with in_scratch(Path(self._scratch.name)):
                save_stack(stack, self._scratch.name)
            self._source = ModelSource(self._scratch.name)
        self._plans = []
        self._own = []
        self.evidence = Evidence()
        self.answered: list[Answered] = []
        self._heads: list[HeadProof] = []
        self._chosen_of: int | None = None
        for index, graph in enumerate(manifest.graphs):
            route = stack.routes[graph.route]
            own = probe_texts_for(route.weights_computed)
            if texts is None and len(own) < len(probe_texts()):
                self._chosen_of = len(probe_texts())
            chosen = checked_texts(
                [*own, *route.front.probe_texts()] if texts is None else texts,
                "the texts to judge parity on",
                "there is no text to judge parity on: pass at least one",
            )
            # Of a graph that another route has, too, few texts show whether its own are read and counted rightly.
            if route.shares:
                chosen = [text for place, text in enumerate(chosen) if not place % _OF_SHARED or len(text) < _SHORT]
            plan = Plan(artifact, graph, chosen, f"route-{index}", route.front.probe_texts())
            self._plans.append(plan)
            self._own.append(plan.own_answers(route))
            if manifest.kind == HYBRID:
                self._heads.append(HeadProof(artifact, graph, route, chosen))

    def judge(self, tolerance: Tolerance, device: str) -> ParityReport:
        """Encodes with both, the artifact on a device, and compares by what is allowed."""
        # The network that was traced is part of circles: without this it lies beside the reference's own.
        gc.collect()
        reference = open_reference(self._source, self._artifact.manifest.kind, distilled=self._scratch is not None)
        answers = [plan.answers(reference) for plan in self._plans]
        pictures = None if self._images is None else self._images.answers(reference)
        about = reference.about
        # Its network would lie in memory beside the engine's.
        del reference
        if self._scratch is not None:
            self._scratch.cleanup()
        report = self._report([found for found, _ in answers], min(own for _, own in answers), about, tolerance, device)
        return report if pictures is None else self._with_images(report, pictures, device)

    def _with_images(self, report: ParityReport, reference: Matrix, device: str) -> ParityReport:
        """The report with the image tower's part of the verdict."""
        assert self._images is not None
        (found,) = _shipped(self._artifact, [self._images], device)
        images = self._images.report(reference, found)
        self.answered.append(self._images.golden(found))
        own = self._images.misread(reference)
        misread = (
            (
                f"stcompile reads images otherwise than {report.reference}: before anything was compiled, its own "
                f"modules in torch already give one another vector (cosine {own.cosine.min():.6f})",
            )
            if own.abs_error.max() > _SAME_READING
            else ()
        )
        failures = image_failures(images, report.tolerance, AGREEMENT.get(report.target, 0))
        return dataclasses.replace(
            report,
            images=images,
            misread=report.misread or bool(misread),
            failures=(*report.failures, *failures, *misread),
        )

    def _report(
        self, references: list[Answers], invariance: float, about: str, tolerance: Tolerance, device: str
    ) -> ParityReport:
        manifest = self._artifact.manifest
        compiled = _shipped(self._artifact, self._plans, device)
        pairs = list(zip(self._plans, references, compiled, strict=True))
        distances = [plan.distances(reference, found) for plan, reference, found in pairs]
        everything = Distance(
            np.concatenate([item.abs_error for found in distances for item in found.values()]),
            np.concatenate([item.cosine for found in distances for item in found.values()]),
        )
        parts = [
            plan.evidence(apart, reference, found)
            for apart, (plan, reference, found) in zip(distances, pairs, strict=True)
        ]
        self.evidence = Evidence(
            tuple(one for part in parts for one in part.judged), tuple(one for part in parts for one in part.scatters)
        )
        self.answered = [plan.golden(reference, found) for plan, reference, found in pairs]
        overlap = rank_overlap if manifest.kind == MULTI_VECTOR else neighbour_overlap
        overlaps = [overlap(reference["batched"], found["batched"]) for _, reference, found in pairs]
        report = ParityReport(
            target=manifest.target,
            reference=about,
            num_texts=len(everything.cosine),
            max_abs_error=rounded(everything.abs_error.max()),
            min_cosine=rounded(everything.cosine.min()),
            mean_cosine=rounded(everything.cosine.mean()),
            neighbour_overlap=rounded(min(overlaps)),
            batch_invariance=rounded(min(plan.invariance(found) for plan, _, found in pairs)),
            reference_batch_invariance=rounded(invariance),
            worst_text=max(plan.worst(found) for plan, found in zip(self._plans, distances, strict=True))[2],
            tolerance=tolerance,
            failures=(),
            texts_sha256=texts_sha256([text for plan in self._plans for text in plan.texts]),
            active_overlap=rounded(
                min(active_overlap(reference["batched"], found["batched"]) for _, reference, found in pairs)
            )
            if manifest.kind == SPARSE
            else None,
            chosen_of=self._chosen_of,
        )
        paths = _paths(manifest, pairs, device)
        misread = self._misread(references, about)
        least = (TOKEN_AGREEMENT if manifest.kind == MULTI_VECTOR else AGREEMENT).get(manifest.target, 0)
        target = Target.parse(manifest.target)
        outputs = tuple(item for heads in self._heads for item in heads.judge(target, tolerance, device))
        failures = (
            *_failures(report, manifest.padding),
            *failures_of_paths(paths, tolerance, least),
            *failures_of(outputs),
        )
        return dataclasses.replace(
            report, misread=bool(misread), failures=(*failures, *misread), paths=paths, outputs=outputs
        )

    def _misread(self, references: list[Answers], about: str) -> tuple[str, ...]:
        """Whether our own modules, which were traced, already give other vectors than the reference."""
        found = [
            (error, cosine, plan.texts[index])
            for plan, reference, own in zip(self._plans, references, self._own, strict=True)
            for places, apart in plan.own_distances(reference, own).values()
            for index, error, cosine in zip(places, apart.abs_error, apart.cosine, strict=True)
        ]
        error, cosine, text = max(found)
        if error <= _SAME_READING:
            return ()
        return (
            f"stcompile reads the model otherwise than {about}: before anything was compiled, its own modules in torch "
            f"already give {shortened(text)!r} another vector (cosine {cosine:.6f})",
        )


def _check_same_model(manifest: Manifest, stack: ModuleStack) -> None:
    if manifest.kind != stack.kind and (manifest.kind, stack.kind) != (HYBRID, ENCODER):
        raise ModelFolderError(
            f"the artifact is {ARTICLES[manifest.kind]} {manifest.kind}, and the model {ARTICLES[stack.kind]} "
            f"{stack.kind}: compare like with like"
            + ("; what was exported with --sparse is verified with it" if manifest.kind == SPARSE else "")
        )
    if {graph.route: manifest.dim_of(graph) for graph in manifest.graphs} != {
        name: route.dim for name, route in stack.routes.items()
    }:
        raise ModelFolderError(
            f"the artifact has {manifest.dim} dimensions and the model {stack.dim}, or they have other routes: it was "
            "compiled from another model"
        )
    if manifest.image is not None and (stack.image is None or manifest.image.processing != stack.image.processing):
        raise ModelFolderError(
            "the artifact has an image tower, and the model has none or another image processor: it was compiled from "
            "another model"
        )
    if manifest.routing != stack.routing:
        raise ModelFolderError(
            f"the artifact was compiled with other tasks than the model now has ({_tasks(manifest.routing)} instead of "
            f"{_tasks(stack.routing)}): export it again"
        )


def _tasks(routing: RoutingSpec | None) -> str:
    if routing is None:
        return "no Router"
    pairs = [*routing.tasks.items(), ("no task", routing.default), ("any other", routing.otherwise)]
    return ", ".join(f"{task} -> {route or 'refused'}" for task, route in pairs)


def _shipped(artifact: Artifact, plans: Sequence[Plan | ImagePlan], device: str) -> list[Answers]:
    """All runs of all routes by the runtime, in one process."""
    texts: list[str] = []
    runs = {}
    for plan in plans:
        for name, run in plan.runs.items():
            order = [len(texts) + index for index in run.order]
            runs[f"{plan.label}-{name}"] = dataclasses.replace(run, order=order)
        texts += plan.all_texts
    found = run_shipped(artifact.folder, texts, runs, device=device)
    return [{name: found[f"{plan.label}-{name}"] for name in plan.runs} for plan in plans]


def _paths(manifest: Manifest, pairs: Sequence[tuple[Plan, Answers, Answers]], device: str) -> tuple[PathReport, ...]:
    """Each way in which a device of this machine computes an artifact's own operators."""
    if not manifest.engine.native:
        return ()
    found = [plan.paths(reference, rows) for plan, reference, rows in pairs]
    # No GPU has a kernel: there all runs are of the body.
    kernel, ways = (generation() or BODY, [*found[0]]) if device == CPU else (BODY, ["alone"])
    return tuple(
        PathReport(
            kernel if name == "alone" else name,
            sum(len(away.cosine) for away, _ in parts),
            rounded(max(away.abs_error.max() for away, _ in parts)),
            rounded(min(away.cosine.min() for away, _ in parts)),
            rounded(min(same.cosine.min() for _, same in parts)),
        )
        for name, parts in ((name, [apart[name] for apart in found]) for name in ways)
    )


def _failures(report: ParityReport, padding: str) -> tuple[str, ...]:
    return (*failures_of_vectors(report), *failures_of_invariance(report, padding))


# What proves each kind of artifact.
PROOFS: dict[str, type[Proof] | type[ScoreProof]] = {**dict.fromkeys(ANSWERS, Proof), RERANKER: ScoreProof}
