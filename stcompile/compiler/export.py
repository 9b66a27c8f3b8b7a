"""The whole story: a model folder in, a verified artifact out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from stcompile.artifact import Artifact, Destination, claimed, open_artifact, write_manifest, written
from stcompile.artifact.manifest import IMAGE, MULTI_VECTOR, NO_PADDING, TOKENS, GraphSpec, TextSpec
from stcompile.artifact.report import Compilation, ParityReport, write_report
from stcompile.artifact.self_test import write_self_test
from stcompile.artifact.target import OPENVINO_LENGTH_MULTIPLE, Target
from stcompile.compiler.assembly import CompiledRoute, assembled, judged
from stcompile.compiler.layouts import Shape, with_outputs
from stcompile.compiler.modules import Pooling
from stcompile.compiler.parity.beside_weights import beside_weights
from stcompile.compiler.parity.front_ends import check_front_ends
from stcompile.compiler.parity.golden import self_test_of
from stcompile.compiler.parity.half import judge_half
from stcompile.compiler.parity.padding import ignores_side, padding_for
from stcompile.compiler.parity.quality import Quality
from stcompile.compiler.parity.reference import check_installed
from stcompile.compiler.parity.verify import PROOFS
from stcompile.compiler.passes import packs, run_pipeline, why_not_packed
from stcompile.compiler.quantize import RECIPES, SHORT_FLOATS, QuantizationJob
from stcompile.compiler.quantize.calibration import Calibration, ImageCalibration
from stcompile.compiler.request import ExportKeywords, ExportOptions, ExportRequest
from stcompile.compiler.stack.distill import distilled
from stcompile.compiler.stack.image_route import ImageRoute
from stcompile.compiler.stack.load import load_stack
from stcompile.compiler.stack.module_stack import ModuleStack
from stcompile.compiler.stack.route import Route, front_ends
from stcompile.compiler.stack.source import ModelSource, SourceOptions, check_options
from stcompile.compiler.steps import Step, silent_step
from stcompile.compiler.token_budget import token_budget
from stcompile.compiler.trace.onnx import trace
from stcompile.compiler.trace.openvino import write_openvino_graphs
from stcompile.compiler.trace.serialize import write_graphs
from stcompile.errors import ParityError, UnsupportedError, about
from stcompile.runtime.arguments import local_path

_READS_PADDING = "rows of padding become part of its output, and the operator makes none of them"


def export_model(
    model: Any,
    destination: str | Path,
    target: str = "onnx-int8",
    *,
    step: Step | None = None,
    **options: Unpack[ExportKeywords],
) -> Artifact:
    """Compiles a model, proves the result against sentence-transformers, and publishes it at `destination`.

    Args:
        model: a model folder, a hub id, or a live model of sentence-transformers.
        destination: the artifact's folder. An earlier artifact there is replaced, once the new one is proved;
            after a failure or an interruption it is still what it was.
        target: one of `stcompile targets`.
        step: told before each step that may take a while.
        options: the fields of `ExportOptions` (`provider`, `packed`, `outputs`, `texts`, `min_cosine`, `max_drop`,
            `calibration`, `evaluation`, `pca_dims`, `layout`) and of `ModelSource` (`revision`, `cache_dir`,
            `trust_remote_code`, `follow_links`, `sparse`, `modalities`, `file`).

    Returns:
        the published artifact.

    Raises:
        InputError, TargetError, ProviderError: an argument is wrong, or this machine cannot run the target.
        ModelFolderError: the model is missing, half-written or malformed.
        UnsupportedError: something in the stack cannot be compiled; names everything found.
        ArtifactError: the destination holds something else than an artifact, another export is writing to it, or it
            cannot be written.
        ParityError: the compiled graph is not within the target's tolerance of sentence-transformers; nothing was
            published.
        BudgetError: no plan is within the budget; nothing was published.
    """
    check_options(options, ExportKeywords.__annotations__)
    named: dict[str, Any] = {**options}
    source = ModelSource(model, **{name: named.pop(name) for name in SourceOptions.__annotations__ if name in named})
    return run_export(source, destination, ExportOptions(target, **named), step)


def run_export(
    source: ModelSource, destination: str | Path, options: ExportOptions, step: Step | None = None
) -> Artifact:
    """`export_model`, of a named model and with all options in one object."""
    request = options.checked()
    source = dataclasses.replace(source, adopt=request.target.adopts)
    check_installed()
    destination = local_path(destination)
    with claimed(destination) as place:
        _run_steps(source, place, request, step or silent_step)
        return open_artifact(destination, check_integrity=False)


def _run_steps(source: ModelSource, place: Destination, request: ExportRequest, step: Step) -> None:
    """The steps of an export whose request is checked and whose destination is claimed."""
    target, options = request.target, request.options
    with step("Reading the module stack"):
        stack = load_stack(source)
        request = request.fitting(stack)
        _check_makes(stack, request.outputs)
    distillation = None
    if target.distills:
        with step("Measuring the model"):
            quality = Quality(stack, options.evaluation)
        with step("Distilling it into static embeddings"):
            stack = distilled(stack, pca_dims=options.pca_dims)
            distillation = quality.compare(stack, None if options.pca_dims is None else stack.dim)
    with step("Preparing its routes"):
        padding = padding_for(stack)
        multiple = OPENVINO_LENGTH_MULTIPLE if target.is_openvino and padding != NO_PADDING else 1
        names = "{}" if request.layout is None else request.layout.TOKENIZER
        specs, tokenizers = front_ends(stack.routes, length_multiple=multiple, names=names)
        check_front_ends(stack.routes, specs, tokenizers, stack.prompts)
        if padding != NO_PADDING and not _shows_padding(stack, request):
            specs = _on_the_right(stack, specs)
        _check_padding(stack, request, specs)
        shape = _shape(stack, request, specs, padding)
        _check_layout(request, shape, source)
    compiled = [compiled_route(stack, name, request, step) for name in stack.graphs]
    _check_gains(stack, target, compiled)
    if options.packed:
        _check_packed(stack, compiled)
    with place.staged() as folder:
        with step("Writing the artifact"), written(place.path):
            for file, content in tokenizers.items():
                (folder / file).write_text(content, encoding="utf-8")
            graphs = _written(stack, request, compiled, folder, shape, source)
            manifest, done = assembled(stack, target, options, specs, graphs, compiled, padding, distillation)
            write_manifest(folder, manifest)
        with step("Proving it against sentence-transformers"):
            proof = PROOFS[stack.kind](open_artifact(folder), stack, source, texts=options.texts)
            name = stack.name
            # They would lie in memory beside the reference's own network.
            del stack, compiled
            parity = proof.judge(request.tolerance, request.device)
        if not parity.passed:
            raise ParityError(_verdict(name, target, parity))
        done = _beside_weights(source, request, folder, done, step)
        with written(place.path):
            manifest, report = judged(manifest, done, parity)
            write_report(folder, report)
            write_self_test(folder, self_test_of(proof.answered, parity))
            write_manifest(folder, manifest)


def _beside_weights(
    source: ModelSource, request: ExportRequest, folder: Path, done: Compilation, step: Step
) -> Compilation:
    """Notes of a graph that is kept how near it is to its model; of others their verdict tells that."""
    if not request.target.adopts:
        return done
    with step("Comparing it with the model's weights"):
        return dataclasses.replace(done, notes=(*done.notes, beside_weights(source, open_artifact(folder))))


def compiled_route(stack: ModuleStack, name: str, request: ExportRequest, step: Step) -> CompiledRoute:
    """One route, of texts or of images: traced, through the passes, in the target's precision."""
    if name == IMAGE and stack.image is not None:
        return _compiled_images(stack, stack.image, request, step)
    route, options = stack.routes[name], request.options
    label = f" of route {name}" if name else ""
    calibration = None
    if request.calibration is not None:
        calibration = Calibration(request.calibration, route, tuple(stack.prompts.values()))
    budget = None
    if request.budget is not None:
        budget = request.budget.on(route, calibration, stack.default_prompt, options.texts)
    unfused = _READS_PADDING if request.fuses and _reads_padding(stack, route, request) else ""
    fuses = request.fuses and not unfused
    job = QuantizationJob(name, calibration, budget, fuses=fuses, unfused=unfused, longest=route.longest)
    return _compiled(stack, route, job, request, step, label)


def _compiled_images(stack: ModuleStack, route: ImageRoute, request: ExportRequest, step: Step) -> CompiledRoute:
    calibration, budget = None, None
    if request.calibration is not None:
        calibration = ImageCalibration(route)
        budget = None if request.budget is None else request.budget.on_images(route, calibration)
    # What is drawn covers no range that photographs have: on pictures unlike those it was calibrated on, fixed ranges
    # took the smallest cosine of a golden model from 0.9993 to 0.9954 (docs/images.md).
    job = QuantizationJob(
        IMAGE, calibration, budget, fuses=request.fuses, longest=route.tower.positions, fixes_ranges=False
    )
    return _compiled(stack, route, job, request, step, " of images")


def _compiled(
    stack: ModuleStack, route: Route, job: QuantizationJob, request: ExportRequest, step: Step, label: str
) -> CompiledRoute:
    options = request.options
    with step(f"Tracing it into one graph{label}"):
        graph = trace(route, request.traced, stack.name)
    notes: tuple[str, ...] = ()
    short = SHORT_FLOATS.get(request.recipe)
    if short is not None:
        with step(f"Judging {short.name}{label}"):
            notes = (judge_half(graph.clone(), route, request.tolerance, stack.name, short),)
    with step(f"Passes for {options.provider}, then {request.recipe}{label}") as tell:
        graph, records = run_pipeline(graph, request.passes)
        if request.layout is not None:
            # Behind passes, which would make one of two names, and before a recipe that writes networks by itself.
            with_outputs(graph.graph, request.layout.ADDS, request.outputs)
        positions = token_budget(graph)
        job = dataclasses.replace(job, tell=tell)
        with about(stack.name):
            summary = RECIPES[request.recipe](graph, job)
        graph, last = run_pipeline(graph, request.finals(job.longest))
    return CompiledRoute(job.route, graph, [*records, *job.records, *last], positions, summary, notes, *job.networks)


def _shows_padding(stack: ModuleStack, request: ExportRequest) -> bool:
    """Whether an output has rows of padding on the left, as sentence-transformers leaves them there.

    Of a multi-vector encoder it does not.
    """
    return TOKENS in request.outputs and stack.kind != MULTI_VECTOR


def _reads_padding(stack: ModuleStack, route: Route, request: ExportRequest) -> bool:
    """Whether rows of padding become part of an output, which operators make none of."""
    if _shows_padding(stack, request) and route.front.pads_left:
        return True
    takes_first = any(isinstance(block, Pooling) and "cls" in block.modes for block in route.blocks)
    # A text without any token: its first row is padding.
    return takes_first and "attention_mask" in route.input_names and not route.feeds([""], "")["attention_mask"].any()


def _on_the_right(stack: ModuleStack, specs: Mapping[str, TextSpec]) -> dict[str, TextSpec]:
    """Specs that pad on the right what its tokenizer pads on the left, where that is the same."""
    return {
        name: dataclasses.replace(spec, padding_side="right")
        if spec.padding_side == "left" and ignores_side(stack.routes[name])
        else spec
        for name, spec in specs.items()
    }


def _check_padding(stack: ModuleStack, request: ExportRequest, specs: Mapping[str, TextSpec]) -> None:
    on_the_left = any(spec.padding_side == "left" for spec in specs.values())
    if request.needs_operators and _shows_padding(stack, request) and on_the_left:
        raise UnsupportedError(
            stack.name,
            f"its texts are padded on the left, where {TOKENS} have rows that {request.target.name}'s layers do not "
            "make: leave them out of --outputs, or use onnx-fp32",
        )
    if request.options.packed and on_the_left:
        raise UnsupportedError(
            stack.name,
            "its texts are padded on the left, where packed graphs want padding on the right: leave packed out",
        )


def _shape(stack: ModuleStack, request: ExportRequest, specs: Mapping[str, TextSpec], padding: str) -> Shape:
    first = next(iter(stack.graphs))
    inputs = stack.routes[first].input_names if first in stack.routes else ()
    return Shape(
        stack.name,
        request.target,
        stack.kind,
        next(iter(specs.values())),
        tuple(inputs),
        graphs=len(stack.graphs),
        routes=len(stack.routes) + (stack.image is not None),
        outputs=request.outputs,
        padding=padding,
        truncates=stack.truncate_dim is not None,
        has_default_prompt=bool(stack.default_prompt),
        packed=request.options.packed,
        pools_hidden=all(route.pools_hidden for route in stack.routes.values()),
    )


def _check_layout(request: ExportRequest, shape: Shape, source: ModelSource) -> None:
    """Before anything is traced."""
    reasons = [] if request.layout is None else request.layout.reasons_against(shape, source)
    if reasons:
        raise UnsupportedError(shape.name, *reasons)


def _written(
    stack: ModuleStack,
    request: ExportRequest,
    compiled: Sequence[CompiledRoute],
    folder: Path,
    shape: Shape,
    source: ModelSource,
) -> tuple[GraphSpec, ...]:
    """The graphs' files, in the format of the target and the layout that is asked for."""
    target, layout = request.target, request.layout
    models = {item.route: item.graph for item in compiled}
    if target.is_openvino:
        networks = {item.route: item.network for item in compiled if item.network is not None}
        graphs = write_openvino_graphs(
            models, folder, half_weights=target.half_weights, name=stack.name, networks=networks
        )
    else:
        graphs = write_graphs(models, folder)
    if layout is None:
        return graphs
    made = layout.arrange(folder, graphs[0], shape, source)
    return (dataclasses.replace(made, outputs=tuple(one for one in made.outputs if one.name in request.outputs)),)


def _check_makes(stack: ModuleStack, outputs: tuple[str, ...]) -> None:
    without = [type(route.front).__name__ for route in stack.routes.values() if not route.makes_tokens]
    if TOKENS in outputs and without:
        raise UnsupportedError(
            stack.name, f"its {without[0]} makes no {TOKENS}, one vector a token: leave them out of --outputs"
        )


def _check_gains(stack: ModuleStack, target: Target, compiled: Sequence[CompiledRoute]) -> None:
    """A target that changed nothing would only be a name."""
    done = [item.quantization for item in compiled if item.quantization is not None]
    if done and not any(item.matmuls or item.embeddings for item in done):
        raise UnsupportedError(
            stack.name,
            f"it has nothing that {target.name} makes smaller, no matrix multiplication over tokens and no large "
            f"table of embeddings: use target {target.runtime}-fp32",
        )


def _check_packed(stack: ModuleStack, compiled: Sequence[CompiledRoute]) -> None:
    """All attentions are packed, or the name would promise too much; a route without any has nothing to pack."""
    reasons = list(dict.fromkeys(reason for item in compiled for reason in why_not_packed(item.passes)))
    if not reasons and not any(packs(item.passes) for item in compiled):
        reasons = ["it has no attention"]
    if reasons:
        raise UnsupportedError(stack.name, *(f"it cannot be packed, {reason}: leave packed out" for reason in reasons))


def _verdict(name: str, target: Target, report: ParityReport) -> str:
    advice = (
        "No tolerance mends that: please report it, with the model's name"
        if report.misread
        else "Choose a target of higher precision, or accept it with --min-cosine"
    )
    return (
        f"{name} as {target.name} is not within tolerance of {report.reference}: {'; '.join(report.failures)}. Nothing "
        f"was published. {advice}"
    )
