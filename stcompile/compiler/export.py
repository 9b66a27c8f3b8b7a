"""The whole story: a model folder in, a verified artifact out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import onnx_ir as ir

from stcompile.artifact import Artifact, Destination, claimed, open_artifact, write_manifest, written
from stcompile.artifact.manifest import NO_PADDING, SENTENCE, TOKENS, GraphSpec, TextSpec
from stcompile.artifact.target import OPENVINO_LENGTH_MULTIPLE, PCA_DIMS, Target
from stcompile.compiler.assembly import CompiledRoute, assembled, judged
from stcompile.compiler.parity.front_ends import check_front_ends
from stcompile.compiler.parity.half import judge_half
from stcompile.compiler.parity.padding import padding_for
from stcompile.compiler.parity.quality import Quality
from stcompile.compiler.parity.reference import Origin, check_installed
from stcompile.compiler.parity.report import ParityReport
from stcompile.compiler.parity.verify import Proof
from stcompile.compiler.passes import final_passes, packs, run_pipeline, why_not_packed
from stcompile.compiler.quantize import RECIPES, QuantizationJob
from stcompile.compiler.quantize.calibration import Calibration, CalibrationSet
from stcompile.compiler.request import ExportRequest, checked_request
from stcompile.compiler.scored_pairs import ScoredPair
from stcompile.compiler.stack.distill import distilled
from stcompile.compiler.stack.front_ends import front_ends
from stcompile.compiler.stack.load import load_stack
from stcompile.compiler.stack.module_stack import ModuleStack
from stcompile.compiler.token_budget import token_budget
from stcompile.compiler.trace.onnx import trace
from stcompile.compiler.trace.openvino import write_openvino_graphs
from stcompile.compiler.trace.serialize import write_graphs
from stcompile.errors import ParityError, UnsupportedError, about
from stcompile.runtime.arguments import local_path

PARITY_FILE = "parity.json"

# Told of how far a step has come.
Tell = Callable[[str], None]

# Announces a step that may take a while; the command line shows a spinner while it runs.
Step = Callable[[str], AbstractContextManager[Tell]]


def export_model(
    model: Any,
    destination: str | Path,
    target: str = "onnx-int8",
    *,
    provider: str = "cpu",
    packed: bool = False,
    outputs: Sequence[str] = (SENTENCE,),
    texts: Sequence[str] | None = None,
    min_cosine: float | None = None,
    max_drop: float | None = None,
    calibration: Sequence[str] | CalibrationSet | None = None,
    revision: str | None = None,
    cache_dir: str | None = None,
    trust_remote_code: bool = False,
    follow_links: bool = False,
    evaluation: Sequence[ScoredPair] | None = None,
    pca_dims: int | None = PCA_DIMS,
    step: Step | None = None,
) -> Artifact:
    """Compiles a model, proves the result against sentence-transformers, and publishes it at `destination`.

    Args:
        model: a model folder, a hub id, or a live SentenceTransformer.
        destination: the artifact's folder. An earlier artifact there is replaced, once the new one is proved;
            after a failure or an interruption it is still what it was.
        target: one of `stcompile targets`.
        provider: the execution provider the graph is shaped for, `cpu` or `cuda`. Parity is judged on CPU.
        packed: for `cuda`, leave padding out between embeddings and pooling. Only a GPU has the operators, so parity is
            judged on one.
        outputs: `sentence_embedding`, and `token_embeddings` if they are wanted too.
        texts: what parity is judged on; None takes the project's probe texts.
        min_cosine: replaces the target's smallest allowed cosine, and its largest absolute error. For a target that
            calibrates it is also a budget: layers are kept in higher precision until it is reached.
        max_drop: a budget for a target that calibrates: the share of accuracy that may be lost, e.g. 0.003. Of the rank
            correlation on `evaluation`, or without it 1 - mean cosine to torch.
        calibration: texts to choose ranges and strengths on; None takes the project's own.
        revision: hub revision.
        cache_dir: where the hub's files are kept.
        trust_remote_code: run code that comes with the model: its network's, and modules of its own.
        follow_links: take a model folder whose links lead out of it: to a store of DVC, git-annex or a mounted one.
        evaluation: pairs of texts and their scores: for `max_drop`, or for the target `static`, to measure what
            distillation costs; None measures how far both models agree on each text's nearest.
        pca_dims: for the target `static`: dimensions to keep; None keeps the network's.
        step: told before each step that may take a while.

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
    step = step or (lambda _: nullcontext(_silent))
    request = checked_request(
        target,
        provider=provider,
        packed=packed,
        outputs=outputs,
        min_cosine=min_cosine,
        max_drop=max_drop,
        calibration=calibration,
        evaluation=evaluation,
        pca_dims=pca_dims,
    )
    check_installed()
    destination = local_path(destination)
    with claimed(destination) as place:
        _exported(
            model,
            place,
            request,
            texts=texts,
            revision=revision,
            cache_dir=cache_dir,
            trust_remote_code=trust_remote_code,
            follow_links=follow_links,
            evaluation=evaluation,
            pca_dims=pca_dims,
            step=step,
        )
        return open_artifact(destination, check_integrity=False)


def _exported(
    model: Any,
    place: Destination,
    request: ExportRequest,
    *,
    texts: Sequence[str] | None,
    revision: str | None,
    cache_dir: str | None,
    trust_remote_code: bool,
    follow_links: bool,
    evaluation: Sequence[ScoredPair] | None,
    pca_dims: int | None,
    step: Step,
) -> None:
    """The steps of an export whose request is checked and whose destination is claimed."""
    chosen, provider, packed = request.target, request.provider, request.packed
    with step("Reading the module stack"):
        stack = load_stack(
            model,
            revision=revision,
            cache_dir=cache_dir,
            trust_remote_code=trust_remote_code,
            follow_links=follow_links,
        )
        _check_makes(stack, request.outputs)
    distillation = None
    if chosen.distills:
        with step("Measuring the model"):
            quality = Quality(stack, evaluation)
        with step("Distilling it into static embeddings"):
            stack = distilled(stack, pca_dims=pca_dims)
            distillation = quality.compare(stack, None if pca_dims is None else stack.dim)
    with step("Preparing its routes"):
        padding = padding_for(stack)
        specs, tokenizers = front_ends(stack.routes, length_multiple=_length_multiple(chosen, padding))
        check_front_ends(stack.routes, specs, tokenizers, stack.prompts)
        _check_padding(stack, request, specs)
    compiled = [_compiled(stack, name, request, texts, step) for name in stack.routes]
    _check_gains(stack, chosen, compiled)
    if packed:
        _check_packed(stack, compiled)
    with place.staged() as folder:
        with step("Writing the artifact"), written(place.path):
            for file, content in tokenizers.items():
                (folder / file).write_text(content, encoding="utf-8")
            graphs = _write(chosen, {item.route: item.graph for item in compiled}, folder, stack.name)
            manifest = assembled(stack, chosen, provider, specs, graphs, compiled, padding, distillation)
            write_manifest(folder, manifest)
        with step("Proving it against sentence-transformers"):
            proof = Proof(
                open_artifact(folder),
                stack,
                Origin(model, revision, cache_dir, trust_remote_code, follow_links),
                texts=texts,
            )
            name = stack.name
            # They would lie in memory beside the reference's own network.
            del stack, compiled
            report = proof.judge(request.tolerance, request.device)
        if not report.passed:
            raise ParityError(_verdict(name, chosen, report))
        with written(place.path):
            (folder / PARITY_FILE).write_text(report.to_json(), encoding="utf-8")
            write_manifest(folder, judged(manifest, report))


def _compiled(
    stack: ModuleStack, name: str, request: ExportRequest, texts: Sequence[str] | None, step: Step
) -> CompiledRoute:
    """One route: traced, through the passes, in the target's precision."""
    route, target = stack.routes[name], request.target
    label = f" of route {name}" if name else ""
    with step(f"Tracing it into one graph{label}"):
        graph = trace(route, request.outputs, stack.name)
    notes: tuple[str, ...] = ()
    if target.recipe == "float16":
        with step(f"Judging float16{label}"):
            notes = (judge_half(graph.clone(), route, request.tolerance, stack.name),)
    with step(f"Passes for {request.provider}, then {target.recipe}{label}") as tell:
        graph, records = run_pipeline(graph, request.passes)
        positions = token_budget(graph)
        calibration = None
        if request.calibration is not None:
            calibration = Calibration(request.calibration, route, tuple(stack.prompts.values()))
        budget = None
        if request.budget is not None:
            budget = request.budget.on(route, calibration, stack.default_prompt, texts)
        with about(stack.name):
            summary = RECIPES[target.recipe](graph, QuantizationJob(name, calibration, budget, tell))
        finals = final_passes(request.provider, route.front.max_seq_length, openvino=target.is_openvino)
        graph, last = run_pipeline(graph, finals)
    return CompiledRoute(name, graph, [*records, *last], positions, summary, notes)


def _silent(_: str) -> None:
    return


def _length_multiple(target: Target, padding: str) -> int:
    return OPENVINO_LENGTH_MULTIPLE if target.is_openvino and padding != NO_PADDING else 1


def _write(target: Target, graphs: dict[str, ir.Model], folder: Path, name: str) -> tuple[GraphSpec, ...]:
    if target.is_openvino:
        return write_openvino_graphs(graphs, folder, half_weights=target.half_weights, name=name)
    return write_graphs(graphs, folder)


def _check_padding(stack: ModuleStack, request: ExportRequest, specs: Mapping[str, TextSpec]) -> None:
    on_the_left = any(spec.padding_side == "left" for spec in specs.values())
    if request.target.is_fused and TOKENS in request.outputs and on_the_left:
        raise UnsupportedError(
            stack.name,
            [
                f"its texts are padded on the left, where {TOKENS} have rows that fused layers do not make: leave them "
                "out of --outputs, or use a target that is not fused"
            ],
        )
    if request.packed and on_the_left:
        raise UnsupportedError(
            stack.name,
            ["its texts are padded on the left, where packed graphs want padding on the right: leave packed out"],
        )


def _check_makes(stack: ModuleStack, outputs: tuple[str, ...]) -> None:
    without = [type(route.front).__name__ for route in stack.routes.values() if not route.makes_tokens]
    if TOKENS in outputs and without:
        raise UnsupportedError(
            stack.name, [f"its {without[0]} makes no {TOKENS}, one vector a token: leave them out of --outputs"]
        )


def _check_gains(stack: ModuleStack, target: Target, compiled: Sequence[CompiledRoute]) -> None:
    """A target that changed nothing would only be a name."""
    done = [item.quantization for item in compiled if item.quantization is not None]
    if done and not any(item.matmuls or item.embeddings for item in done):
        raise UnsupportedError(
            stack.name,
            [
                f"it has nothing that {target.name} makes smaller, no matrix multiplication over tokens and no large "
                f"table of embeddings: use target {target.runtime}-fp32"
            ],
        )


def _check_packed(stack: ModuleStack, compiled: Sequence[CompiledRoute]) -> None:
    """All attentions are packed, or the name would promise too much; a route without any has nothing to pack."""
    reasons = list(dict.fromkeys(reason for item in compiled for reason in why_not_packed(item.passes)))
    if not reasons and not any(packs(item.passes) for item in compiled):
        reasons = ["it has no attention"]
    if reasons:
        raise UnsupportedError(stack.name, [f"it cannot be packed, {reason}: leave packed out" for reason in reasons])


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
