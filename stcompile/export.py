"""The whole story: a model folder in, a verified artifact out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from stcompile import __version__
from stcompile.artifact import Artifact, check_destination, open_artifact, staged, write_manifest
from stcompile.errors import InputError, ParityError
from stcompile.manifest import (
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
from stcompile.parity.report import ParityReport
from stcompile.parity.verify import REFERENCE_INVARIANT, check_parity, tolerance_for
from stcompile.passes import pipeline_for, run_pipeline
from stcompile.quantize import RECIPES
from stcompile.stack.load import load_stack
from stcompile.stack.module_stack import ModuleStack
from stcompile.stack.text import text_front_end
from stcompile.target import Target
from stcompile.trace.onnx import trace
from stcompile.trace.serialize import write_graph

PARITY_FILE = "parity.json"
OUTPUTS = (SENTENCE, TOKENS)

_VERSIONS = ("torch", "transformers", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "tokenizers", "numpy")

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
        trust_remote_code: let the network run code that comes with the model.
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
    check_destination(Path(destination))
    with step("Reading the module stack"):
        stack = load_stack(model, revision=revision, cache_dir=cache_dir, trust_remote_code=trust_remote_code)
        text, tokenizer = text_front_end(stack)
    with step("Tracing it into one graph"):
        graph = trace(stack, wanted)
    with step(f"Passes for {provider}, then {chosen.recipe}"):
        graph, records = run_pipeline(graph, passes)
        quantization = RECIPES[chosen.recipe](graph)
    with staged(Path(destination)) as folder:
        with step("Writing the artifact"):
            (folder / text.tokenizer).write_text(tokenizer, encoding="utf-8")
            spec = write_graph(graph, folder)
            applied = tuple(PassSummary(record.name, record.rewrites, record.refusals) for record in records)
            manifest = _manifest(stack, chosen, provider, text, spec, applied, quantization)
            write_manifest(folder, manifest)
        with step("Proving it against torch"):
            report = check_parity(open_artifact(folder), stack, texts=texts, tolerance=tolerance, provider="cpu")
        if not report.passed:
            raise ParityError(_verdict(stack.name, chosen, report))
        (folder / PARITY_FILE).write_text(report.to_json(), encoding="utf-8")
        write_manifest(folder, _with_parity(manifest, report))
    return open_artifact(destination, check_integrity=False)


def _checked_outputs(outputs: Sequence[str]) -> tuple[str, ...]:
    unknown = [name for name in outputs if name not in OUTPUTS]
    if unknown or SENTENCE not in outputs:
        raise InputError(f"outputs must be {SENTENCE}, or {SENTENCE},{TOKENS}; got {','.join(outputs)}")
    return tuple(name for name in OUTPUTS if name in outputs)


def _manifest(
    stack: ModuleStack,
    target: Target,
    provider: str,
    text: TextSpec,
    graph: GraphSpec,
    passes: tuple[PassSummary, ...],
    quantization: QuantizationSummary | None,
) -> Manifest:
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
        text=text,
        graphs=(graph,),
        passes=passes,
        quantization=quantization,
        parity=None,
        notes=(),
        versions=_versions(),
    )


def _with_parity(manifest: Manifest, report: ParityReport) -> Manifest:
    depends = report.reference_batch_invariance < REFERENCE_INVARIANT
    notes = ("the model's own torch vectors depend on how much padding a text gets in its batch",) if depends else ()
    invariant = manifest.batch_invariant and not depends
    return dataclasses.replace(manifest, parity=report.summary(), notes=notes, batch_invariant=invariant)


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
