"""What was compiled, as the artifact's manifest and report tell it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from stcompile import __version__
from stcompile.artifact.manifest import (
    ENCODER,
    HYBRID,
    IMAGE,
    MULTI_VECTOR,
    NO_PADDING,
    ONNXRUNTIME,
    OPENVINO,
    SCHEMA_VERSION,
    SPARSE,
    VECTORS,
    WEIGHTS,
    EngineSpec,
    GraphSpec,
    ImageRoute,
    Manifest,
    TextSpec,
)
from stcompile.artifact.report import (
    Compilation,
    DistillationSummary,
    ParityReport,
    PassSummary,
    QuantizationSummary,
    Report,
    Source,
)
from stcompile.artifact.target import Target
from stcompile.compiler.parity.bounds import REFERENCE_INVARIANT
from stcompile.compiler.passes import packs
from stcompile.compiler.request import ExportOptions
from stcompile.compiler.stack.module_stack import ModuleStack
from stcompile.compiler.vector_space import vector_space
from stcompile.extras import versions
from stcompile.kernels.native import DOMAIN

_UNPADDED = (
    "the model's own torch vectors depend on how much padding a text gets in its batch: this artifact never pads, so "
    "every text has the vector that torch gives it alone"
)
_UNPADDED_GRAPH = (
    "vectors that the given graph makes depend on what else is in a text's batch: this artifact never pads, but texts "
    "of one length still share a run, and batch invariance says how far that moves them; with batch_size=1 none does"
)

_VERSIONS = (
    *("torch", "transformers", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "openvino", "tokenizers", "numpy"),
    *("model2vec", "nltk", "pillow", "nncf"),
)


@dataclass(frozen=True)
class CompiledRoute:
    """The finished graph of one route, and what was done to it; `network` is what OpenVINO runs in its place."""

    route: str
    graph: ir.Model
    passes: list[PassSummary]
    token_budget: int | None
    quantization: QuantizationSummary | None
    notes: tuple[str, ...] = ()
    network: Any = None


def assembled(
    stack: ModuleStack,
    target: Target,
    options: ExportOptions,
    texts: dict[str, TextSpec],
    graphs: tuple[GraphSpec, ...],
    compiled: Sequence[CompiledRoute],
    padding: str,
    distillation: DistillationSummary | None,
) -> tuple[Manifest, Compilation]:
    """The manifest of an artifact that is still to be judged, and what its report is to tell of the compiled routes."""
    budgets = {item.route: item.token_budget for item in compiled}
    written = {graph.route: dataclasses.replace(graph, token_budget=budgets[graph.route]) for graph in graphs}
    several = len(stack.routes) > 1
    graphs = tuple(
        dataclasses.replace(
            written[route.shares or name],
            route=name,
            # Those of a single route are the manifest's.
            text=texts[name] if several else None,
            dim=route.dim if several else None,
            **_answer(stack, name, {item.name for item in written[route.shares or name].outputs}),
        )
        for name, route in stack.routes.items()
    )
    image = None
    if stack.image is not None:
        positions = stack.image.tower.positions
        batch_size = max(1, (written[IMAGE].token_budget or positions) // positions)
        image = ImageRoute(dataclasses.replace(written[IMAGE], token_budget=None), stack.image.processing, batch_size)
    native = any(DOMAIN in item.graph.graph.opset_imports for item in compiled)
    packed = any(packs(item.passes) for item in compiled)
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        target=target.name,
        batch_invariant=target.batch_invariant,
        optimization_level="all" if target.adopts else "basic",
        dim=stack.dim,
        truncate_dim=stack.truncate_dim,
        similarity=stack.similarity,
        prompts=stack.prompts,
        default_prompt_name=stack.default_prompt_name,
        text=next(iter(texts.values())),
        graphs=graphs,
        padding=padding,
        routing=stack.routing,
        engine=EngineSpec(
            OPENVINO if target.is_openvino else ONNXRUNTIME, target.computes_in, native, native, packed, target.adopts
        ),
        kind=HYBRID if any(graph.rows or graph.weights for graph in graphs) and stack.kind == ENCODER else stack.kind,
        image=image,
        space=vector_space(stack, target),
    )
    done = Compilation(
        source=Source(stack.name, stack.fingerprint(), stack.summaries(), stack.file),
        recipe=target.recipe,
        provider=options.provider,
        layout=options.layout,
        opsets={item.route: item.graph.graph.opset_imports[""] for item in compiled},
        passes=_all_passes(compiled),
        quantization=_all_quantization(compiled),
        distillation=distillation,
        notes=(
            *stack.notes(),
            *((_UNPADDED_GRAPH if target.adopts else _UNPADDED,) if padding == NO_PADDING else ()),
            *(note for item in compiled for note in item.notes),
        ),
        versions={"stcompile": __version__, **versions(_VERSIONS)},
    )
    return manifest, done


def _answer(stack: ModuleStack, name: str, outputs: Container[str]) -> dict[str, Any]:
    """What the runtime needs to know to make of a route's outputs what a text gets, but for one dense vector."""
    route = stack.routes[name]
    found: dict[str, Any] = {}
    if stack.kind == MULTI_VECTOR or VECTORS in outputs:
        found["rows"] = route.rows
    if WEIGHTS in outputs:
        found["weights"] = route.weights
    if stack.kind != SPARSE:
        return found
    asked = stack.max_active_dims
    return {
        **found,
        "max_active_dims": route.active_dims if asked is None else asked,
        "names_tokens": route.names_tokens,
    }


def _all_passes(compiled: Sequence[CompiledRoute]) -> tuple[PassSummary, ...]:
    """What the passes did to all graphs together: every graph went through the same ones."""
    summaries = []
    for records in zip(*(item.passes for item in compiled), strict=True):
        refusals = dict.fromkeys(refusal for record in records for refusal in record.refusals)
        summaries.append(PassSummary(records[0].name, sum(record.rewrites for record in records), tuple(refusals)))
    return tuple(summaries)


def _all_quantization(compiled: Sequence[CompiledRoute]) -> QuantizationSummary | None:
    done = [item.quantization for item in compiled if item.quantization is not None]
    texts = [item.quantization for item in compiled if item.quantization is not None and item.route != IMAGE]
    if not done:
        return None
    kept: Counter[str] = Counter()
    for item in done:
        for line in item.kept:
            count, _, what = line.partition(" ")
            kept[what] += int(count)
    budgets = [item.budget for item in done if item.budget is not None]
    return QuantizationSummary(
        done[0].scheme,
        sum(item.matmuls for item in done),
        sum(item.embeddings for item in done),
        tuple(f"{count} {what}" for what, count in kept.items()),
        next((item.calibration for item in texts if item.calibration is not None), None),
        tuple(layer for item in done for layer in item.layers),
        # Every route keeps to it; the one that had to go furthest tells most.
        max(budgets, key=lambda budget: budget.steps, default=None),
        next((item.quantization.calibration for item in compiled if item.route == IMAGE and item.quantization), None),
    )


def judged(manifest: Manifest, done: Compilation, parity: ParityReport) -> tuple[Manifest, Report]:
    """The manifest and the report with the verdict that lets them be published."""
    # 8-bit tables alone keep a text's vector its own; it is activations quantized per batch that do not.
    tables_only = done.quantization is not None and not done.quantization.matmuls
    invariant = manifest.batch_invariant or (tables_only and parity.batch_invariance >= REFERENCE_INVARIANT)
    return dataclasses.replace(manifest, batch_invariant=invariant), Report(**vars(done), parity=parity)
