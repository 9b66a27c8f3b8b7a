"""The card of an artifact's repository on the hub: what it is, how it is used, and its proof."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any

from stcompile.artifact import Artifact
from stcompile.artifact.manifest import ENCODER, HYBRID, MULTI_VECTOR, RERANKER, SPARSE, VECTORS, WEIGHTS, Manifest
from stcompile.artifact.report import BUILT_IN_TEXTS, Report, read_report
from stcompile.compiler.parity.speed import Speed, Throughput
from stcompile.reports.markdown import plain, table
from stcompile.reports.measures import measures
from stcompile.runtime.hub import is_repository

# What the hub calls software that reads the files; also how a card is known to be one of ours.
LIBRARY = "stcompile"

# Of each kind: the hub's name of what it is for, tags, and how it is used.
_KINDS = {
    ENCODER: (
        "sentence-similarity",
        ("sentence-similarity",),
        "vectors = model.encode([{text}])  # float32 (1, {dim})",
    ),
    HYBRID: ("sentence-similarity", ("sentence-similarity", "sparse-encoder"), "found = model.encode_hybrid([{text}])"),
    SPARSE: (
        "feature-extraction",
        ("sparse-encoder", "sparse"),
        "vectors = model.encode([{text}])  # {dim} numbers",
    ),
    MULTI_VECTOR: (
        "sentence-similarity",
        ("multi-vector", "late-interaction"),
        "vectors = model.encode_document([{text}])  # of each token float32 ({dim},)",
    ),
    RERANKER: ("text-ranking", ("cross-encoder", "reranker"), "ranked = model.rank({query}, [{text}])"),
}

# Outputs of a hybrid encoder's graph, as an export calls them.
_OUTPUTS = {WEIGHTS: "sparse", VECTORS: "multi_vector"}

_TEXT, _QUERY = '"A man is eating a piece of bread."', '"Who eats bread?"'


def card(artifact: Artifact, repository: str, *, licence: str | None, speed: Throughput | None) -> str:
    """The README.md of a repository.

    Args:
        artifact: what is pushed there; its report is the proof.
        repository: `owner/name`.
        licence: the hub's identifier of the model's licence, such as `apache-2.0`; None names none.
        speed: what was measured on this machine; None was not.

    Returns:
        Markdown with a head of YAML, as the hub reads it.

    Raises:
        ArtifactError: the artifact has no report.
    """
    report = read_report(artifact)
    return "\n".join(
        [
            *_head(artifact.manifest, report, licence),
            f"# {plain(repository.partition('/')[2])}",
            "",
            f"{plain(report.source.name)}, compiled by [stcompile](https://pypi.org/project/stcompile/) for "
            f"`{artifact.manifest.target}`: the whole module stack in {_graphs(artifact.manifest)}, proved against "
            f"{plain(report.parity.reference)}. It needs no torch.",
            "",
            *_use(artifact.manifest, repository),
            *_proof(report),
            *_sizes(artifact),
            *_speeds(speed),
            *_again(artifact.manifest, report, repository),
        ]
    )


def is_ours(content: str) -> bool:
    """Whether a README.md was written as such a card: what people wrote themselves is not overwritten."""
    head, end, _ = content.removeprefix("---\n").partition("\n---\n")
    return content.startswith("---\n") and bool(end) and f"library_name: {LIBRARY}" in head.splitlines()


def _head(manifest: Manifest, report: Report, licence: str | None) -> Iterator[str]:
    purpose, tags, _ = _KINDS[manifest.kind]
    yield from ("---", f"library_name: {LIBRARY}", f"pipeline_tag: {purpose}")
    if licence is not None:
        yield f"license: {json.dumps(licence)}"
    if is_repository(report.source.name):
        yield from (f"base_model: {json.dumps(report.source.name)}", "base_model_relation: quantized")
    # Strings of JSON are strings of YAML.
    every = dict.fromkeys(("sentence-transformers", *tags, manifest.engine.name, manifest.target))
    yield from ("tags:", *(f"- {json.dumps(tag)}" for tag in every), "---", "")


def _graphs(manifest: Manifest) -> str:
    graphs = len(manifest.graphs) + (manifest.image is not None)
    kind = {"onnxruntime": "ONNX", "openvino": "OpenVINO"}.get(manifest.engine.name, manifest.engine.name)
    return f"one {kind} graph" if graphs == 1 else f"{graphs} {kind} graphs"


def _use(manifest: Manifest, repository: str) -> Iterator[str]:
    call = _KINDS[manifest.kind][2].format(text=_TEXT, query=_QUERY, dim=manifest.truncate_dim or manifest.dim)
    extra = "openvino" if manifest.engine.name == "openvino" else "cpu"
    yield from (
        "## Use",
        "",
        "```sh",
        f"pip install 'stcompile[{extra},hub]'",
        "```",
        "",
        "```python",
        "import stcompile",
        "",
        f'model = stcompile.load("{repository}")',
        call,
        "```",
        "",
        f"Behind HTTP, as OpenAI and text-embeddings-inference do: `stcompile serve {repository}`.",
        "",
    )


def _proof(report: Report) -> Iterator[str]:
    parity = report.parity
    yield from (
        "## Proof",
        "",
        f"On {parity.num_texts} texts, compared with {plain(parity.reference)} on vectors scaled to its lengths:",
        "",
        *table(("measure", "value", "allowed"), [(one.name, one.shown, one.allowed) for one in measures(parity)]),
        "",
    )
    yield from (f"- {plain(note)}" for note in report.notes)
    if report.notes:
        yield ""


def _sizes(artifact: Artifact) -> Iterator[str]:
    files = sorted(artifact.manifest.files, key=lambda entry: -entry.size)
    rows = [(f"`{entry.path}`", f"{entry.size / 1e6:.2f}") for entry in files]
    yield from (
        "## Files",
        "",
        *table(("file", "MB"), [*rows, ("all", f"{artifact.size / 1e6:.2f}")]),
        "",
        "`manifest.json` has the sha256 of each, which is compared when they are loaded.",
        "",
    )


def _speeds(speed: Throughput | None) -> Iterator[str]:
    if speed is None:
        return
    rows: list[tuple[str, ...]] = [("this artifact", f"{speed.texts_per_second:.0f}")]
    if isinstance(speed, Speed):
        times = f"{speed.ratio.median:.2f} ({speed.ratio.low:.2f} to {speed.ratio.high:.2f})"
        rows = [(*rows[0], times), (plain(speed.beside), f"{speed.texts_per_second_beside:.0f}", "1")]
    yield from (
        "## Speed",
        "",
        f"{plain(speed.machine)}; {speed.rounds} rounds of {speed.count}, in batches of {speed.batch_size}:",
        "",
        *table(("", "texts/s", "times")[: len(rows[0])], rows),
        "",
    )


def _again(manifest: Manifest, report: Report, repository: str) -> Iterator[str]:
    compiled_with = " ".join(f"{name}=={number.partition('+')[0]}" for name, number in _compilers(report.versions))
    model = shlex.quote(report.source.name)
    name = shlex.quote(repository.partition("/")[2])
    yield from (
        "## How it was made",
        "",
        "```sh",
        f"pip install 'stcompile[compile]=={report.versions.get('stcompile', '')}' {compiled_with}",
        f"stcompile export {model} --target {manifest.target}{''.join(_options(manifest, report))} -o {name}",
        f"stcompile verify {shlex.quote(repository)} --against {model}",
        "```",
        "",
        f"The model's files have the fingerprint `{report.source.fingerprint}`.",
        "",
    )
    if manifest.space is not None:
        yield from (
            f"Its vectors compare with those of artifacts of the fingerprint `{manifest.space.fingerprint}`.",
            "",
        )


def _compilers(versions: dict[str, str]) -> list[tuple[str, str]]:
    return [(name, versions[name]) for name in ("torch", "transformers", "onnxruntime", "openvino") if name in versions]


def _options(manifest: Manifest, report: Report) -> Iterator[str]:
    """What `stcompile export` was told besides, as far as the artifact shows it."""
    outputs = [_OUTPUTS.get(output.name, output.name) for output in manifest.graphs[0].outputs]
    if len(outputs) > 1:
        yield f" --outputs {','.join(outputs)}"
    if manifest.graphs[0].file.startswith("onnx/"):
        yield " --layout transformers.js"
    if manifest.engine.packed:
        yield " --packed"
    if report.provider != "cpu":
        yield f" --provider {report.provider}"
    plan: Any = report.quantization
    calibration = None if plan is None else plan.calibration
    if calibration is not None and calibration.name != BUILT_IN_TEXTS:
        yield f" --calibration {shlex.quote(calibration.name)}"
    budget = None if plan is None else plan.budget
    if budget is not None and budget.measure != "min_cosine":
        yield f" --max-drop {budget.limit:g}"
    elif report.parity.tolerance.agreement is not None:
        yield f" --min-cosine {report.parity.tolerance.min_cosine:g}"
    if report.distillation is not None:
        yield f" --pca-dims {report.distillation.pca_dims or 'all'}"
