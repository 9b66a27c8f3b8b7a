"""The whole story: a model folder in, a verified artifact out."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import onnx_ir as ir

from stcompile import __version__
from stcompile.artifact import Artifact, check_destination, open_artifact, staged, write_manifest
from stcompile.errors import InputError, ParityError, UnsupportedError
from stcompile.manifest import (
    NO_PADDING,
    SCHEMA_VERSION,
    SENTENCE,
    TOKENS,
    GraphSpec,
    Manifest,
    PassSummary,
    QuantizationSummary,
    Source,
    TextSpec,
)
from stcompile.parity.padding import REFERENCE_INVARIANT, padding_for
from stcompile.parity.quality import Quality
from stcompile.parity.report import ParityReport
from stcompile.parity.verify import check_parity, tolerance_for
from stcompile.passes import PassRecord, pipeline_for, run_pipeline
from stcompile.quantize import RECIPES
from stcompile.scored_pairs import ScoredPair
from stcompile.stack.distill import distilled
from stcompile.stack.front_ends import front_ends
from stcompile.stack.load import load_stack
from stcompile.stack.module_stack import ModuleStack
from stcompile.target import PCA_DIMS, Target
from stcompile.trace.onnx import trace
from stcompile.trace.serialize import write_graphs

PARITY_FILE = "parity.json"
OUTPUTS = (SENTENCE, TOKENS)

_UNPADDED = (
    "the model's own torch vectors depend on how much padding a text gets in its batch: this artifact never pads, so "
    "every text has the vector that torch gives it alone"
)

_VERSIONS = (
    "torch",
    "transformers",
    "onnx",
    "onnx-ir",
    "onnxscript",
    "onnxruntime",
    "tokenizers",
    "numpy",
    "model2vec",
    "nltk",
)

# Announces a step that may take a while; the command line shows a spinner while it runs.
Step = Callable[[str], AbstractContextManager[object]]


def export_model(
    model: Any,
    destination: str | Path,
    target: str = "onnx-int8",
    *,
    provider: str = "cpu",
    outputs: Sequence[str] = (SENTENCE,),
    texts: Sequence[str] | None = None,
    min_cosine: float | None = None,
    revision: str | None = None,
    cache_dir: str | None = None,
    trust_remote_code: bool = False,
    evaluation: Sequence[ScoredPair] | None = None,
    pca_dims: int | None = PCA_DIMS,
    step: Step | None = None,
) -> Artifact:
    """Compiles a model, proves the result against torch, and publishes it at `destination`.

    Args:
        model: a model folder, a hub id, or a live SentenceTransformer.
        destination: the artifact's folder. An earlier artifact there is replaced, once the new one is proved;
            after a failure or an interruption it is still what it was.
        target: one of `stcompile targets`.
        provider: the execution provider the graph is shaped for, `cpu` or `cuda`. Parity is judged on CPU.
        outputs: `sentence_embedding`, and `token_embeddings` if they are wanted too.
        texts: what parity is judged on; None takes the project's probe texts.
        min_cosine: replaces the target's smallest allowed cosine, and its largest absolute error.
        revision: hub revision.
        cache_dir: where the hub's files are kept.
        trust_remote_code: run code that comes with the model: its network's, and modules of its own.
        evaluation: for the target `static`: pairs of texts and their scores, to measure what distillation costs;
            None measures how far both models agree on each text's nearest.
        pca_dims: for the target `static`: dimensions to keep; None keeps the network's.
        step: told before each step that may take a while.

    Returns:
        the published artifact.

    Raises:
        InputError, TargetError: an argument is wrong.
        ModelFolderError: the model is missing, half-written or malformed.
        UnsupportedError: something in the stack cannot be compiled; names everything found.
        ArtifactError: the destination cannot be written.
        ParityError: the compiled graph is not within the target's tolerance of torch; nothing was published.
    """
    step = step or (lambda _: nullcontext())
    chosen = Target.parse(target)
    tolerance = tolerance_for(chosen, min_cosine)
    passes = pipeline_for(provider)
    wanted = _checked_outputs(outputs)
    if not chosen.distills and (evaluation is not None or pca_dims != PCA_DIMS):
        raise InputError("scored pairs and pca_dims are about distillation: they go with target static alone")
    if chosen.distills and TOKENS in wanted:
        raise InputError(f"target static has no {TOKENS} of its own: leave them out of the outputs")
    check_destination(Path(destination))
    with step("Reading the module stack"):
        stack = load_stack(model, revision=revision, cache_dir=cache_dir, trust_remote_code=trust_remote_code)
        _check_makes(stack, wanted)
    distillation = None
    if chosen.distills:
        with step("Measuring the model"):
            quality = Quality(stack, evaluation)
        with step("Distilling it into static embeddings"):
            stack = distilled(stack, pca_dims=pca_dims)
            distillation = quality.compare(stack, None if pca_dims is None else stack.dim)
    with step("Preparing its routes"):
        specs, tokenizers = front_ends(stack.routes)
        padding = padding_for(stack)
    compiled = []
    for name, route in stack.routes.items():
        label = f" of route {name}" if name else ""
        with step(f"Tracing it into one graph{label}"):
            graph = trace(route, wanted, stack.name)
        with step(f"Passes for {provider}, then {chosen.recipe}{label}"):
            graph, records = run_pipeline(graph, passes)
            compiled.append(CompiledRoute(name, graph, records, RECIPES[chosen.recipe](graph)))
    _check_gains(stack, chosen, compiled)
    with staged(Path(destination)) as folder:
        with step("Writing the artifact"):
            for file, content in tokenizers.items():
                (folder / file).write_text(content, encoding="utf-8")
            graphs = write_graphs({item.route: item.graph for item in compiled}, folder)
            manifest = _manifest(stack, chosen, provider, specs, graphs, compiled, padding)
            manifest = dataclasses.replace(manifest, distillation=distillation)
            write_manifest(folder, manifest)
        with step("Proving it against torch"):
            report = check_parity(open_artifact(folder), stack, texts=texts, tolerance=tolerance, provider="cpu")
        if not report.passed:
            raise ParityError(_verdict(stack.name, chosen, report))
        (folder / PARITY_FILE).write_text(report.to_json(), encoding="utf-8")
        write_manifest(folder, _with_parity(manifest, report))
    return open_artifact(destination, check_integrity=False)


@dataclass(frozen=True)
class CompiledRoute:
    """The finished graph of one route, and what was done to it."""

    route: str
    graph: ir.Model
    passes: list[PassRecord]
    quantization: QuantizationSummary | None


def _checked_outputs(outputs: Sequence[str]) -> tuple[str, ...]:
    unknown = [name for name in outputs if name not in OUTPUTS]
    if unknown or SENTENCE not in outputs:
        raise InputError(f"outputs must be {SENTENCE}, or {SENTENCE},{TOKENS}; got {','.join(outputs)}")
    return tuple(name for name in OUTPUTS if name in outputs)


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
                "table of embeddings: use target onnx-fp32"
            ],
        )


def _manifest(
    stack: ModuleStack,
    target: Target,
    provider: str,
    texts: dict[str, TextSpec],
    graphs: tuple[GraphSpec, ...],
    compiled: Sequence[CompiledRoute],
    padding: str,
) -> Manifest:
    if len(graphs) > 1:
        graphs = tuple(
            dataclasses.replace(graph, text=texts[graph.route], dim=stack.routes[graph.route].dim) for graph in graphs
        )
    return Manifest(
        schema_version=SCHEMA_VERSION,
        target=target.name,
        recipe=target.recipe,
        provider=provider,
        batch_invariant=target.batch_invariant,
        optimization_level="basic",
        dim=stack.dim,
        truncate_dim=stack.truncate_dim,
        similarity=stack.similarity,
        prompts=stack.prompts,
        default_prompt_name=stack.default_prompt_name,
        source=Source(stack.name, stack.fingerprint(), stack.summaries()),
        text=next(iter(texts.values())),
        graphs=graphs,
        passes=_all_passes(compiled),
        quantization=_all_quantization(compiled),
        parity=None,
        notes=(*stack.notes(), *((_UNPADDED,) if padding == NO_PADDING else ())),
        versions=_versions(),
        padding=padding,
        routing=stack.routing,
    )


def _all_passes(compiled: Sequence[CompiledRoute]) -> tuple[PassSummary, ...]:
    """What the passes did to all graphs together: every graph went through the same ones."""
    summaries = []
    for records in zip(*(item.passes for item in compiled), strict=True):
        refusals = dict.fromkeys(refusal for record in records for refusal in record.refusals)
        summaries.append(PassSummary(records[0].name, sum(record.rewrites for record in records), tuple(refusals)))
    return tuple(summaries)


def _all_quantization(compiled: Sequence[CompiledRoute]) -> QuantizationSummary | None:
    done = [item.quantization for item in compiled if item.quantization is not None]
    if not done:
        return None
    kept: Counter[str] = Counter()
    for item in done:
        for line in item.kept:
            count, _, what = line.partition(" ")
            kept[what] += int(count)
    return QuantizationSummary(
        done[0].scheme,
        sum(item.matmuls for item in done),
        sum(item.embeddings for item in done),
        tuple(f"{count} {what}" for what, count in kept.items()),
    )


def _with_parity(manifest: Manifest, report: ParityReport) -> Manifest:
    # 8-bit tables alone keep a text's vector its own; it is activations quantized per batch that do not.
    tables_only = manifest.quantization is not None and not manifest.quantization.matmuls
    invariant = manifest.batch_invariant or (tables_only and report.batch_invariance >= REFERENCE_INVARIANT)
    return dataclasses.replace(manifest, parity=report.summary(), batch_invariant=invariant)


def _verdict(name: str, target: Target, report: ParityReport) -> str:
    return (
        f"{name} as {target.name} is not within tolerance of torch: {'; '.join(report.failures)}. Nothing was "
        "published. Choose a target of higher precision, or accept it with --min-cosine"
    )


def _versions() -> dict[str, str]:
    found = {"stcompile": __version__}
    for package in _VERSIONS:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
