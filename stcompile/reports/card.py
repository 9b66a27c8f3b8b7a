"""The card of an artifact's repository on the hub: what it is, how it is used, and its proof."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterator
from typing import Any

from stcompile.artifact import Artifact
from stcompile.artifact.manifest import (
    ENCODER,
    HYBRID,
    MULTI_VECTOR,
    OPENVINO,
    RERANKER,
    SPARSE,
    VECTORS,
    WEIGHTS,
    Manifest,
)
from stcompile.artifact.report import BUILT_IN_TEXTS, Report, read_report
from stcompile.compiler.parity.speed import Speed, Throughput
from stcompile.reports.markdown import plain, table
from stcompile.reports.measures import measures
from stcompile.runtime.hub import is_repository

# What the hub calls software that reads the files.
_LIBRARY = "stcompile"

# The last line, with the sha256 of all before it.
_MARK = "<!-- written by stcompile push, sha256 of what stands above: "

# Of each kind: the hub's name of what it is for, tags, and how it is used.
_KINDS = {
    ENCODER: (
        "sentence-similarity",
        ("sentence-similarity",),
        "vectors = model.{encode}([{text}])  # float32 (1, {dim})",
    ),
    HYBRID: ("sentence-similarity", ("sentence-similarity", "sparse-encoder"), "found = model.encode_hybrid([{text}])"),
    SPARSE: ("feature-extraction", ("sparse-encoder", "sparse"), "vectors = model.{encode}([{text}])  # {dim} numbers"),
    MULTI_VECTOR: (
        "sentence-similarity",
        ("multi-vector", "late-interaction"),
        "vectors = model.encode_document([{text}])  # of each token float32 ({dim},)",
    ),
    RERANKER: ("text-ranking", ("cross-encoder", "reranker"), "scores = model.predict([({query}, {text})])"),
}

# Outputs of a hybrid encoder's graph, as an export calls them.
_OUTPUTS = {WEIGHTS: "sparse", VECTORS: "multi_vector"}

_TEXT, _QUERY = '"A man is eating a piece of bread."', '"Who eats bread?"'


def card(
    artifact: Artifact, repository: str, *, revision: str | None, licence: str | None, speed: Throughput | None
) -> str:
    """The README.md of a repository.

    Args:
        artifact: what is pushed there; its report is the proof.
        repository: `owner/name`.
        revision: the branch of it; None is the main one.
        licence: the hub's identifier of the model's licence, such as `apache-2.0`; None names none.
        speed: what was measured on this machine; None was not.

    Returns:
        Markdown with a head of YAML, as the hub reads it.

    Raises:
        ArtifactError: the artifact has no report.
    """
    report = read_report(artifact)
    place = repository if revision is None else f"{repository}@{revision}"
    content = "\n".join(
        [
            *_head(artifact.manifest, report, licence),
            f"# {plain(repository.partition('/')[2])}",
            "",
            f"{plain(report.source.name)}, compiled by [stcompile](https://pypi.org/project/stcompile/) for "
            f"`{artifact.manifest.target}`: the whole module stack in {_graphs(artifact.manifest)}, proved against "
            f"{plain(report.parity.reference)}. It needs no torch.",
            "",
            *_use(artifact.manifest, place),
            *_proof(artifact.manifest, report),
            *_sizes(artifact),
            *_speeds(speed),
            *_again(artifact.manifest, report, place),
        ]
    )
    return f"{content}\n{_MARK}{_digest(content)} -->\n"


def is_ours(content: str) -> bool:
    """Whether a README.md is such a card as it was written: what people wrote or changed is not overwritten."""
    body, mark, digest = content.replace("\r\n", "\n").rpartition(f"\n{_MARK}")
    return bool(mark) and digest == f"{_digest(body)} -->\n"


def _digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def _head(manifest: Manifest, report: Report, licence: str | None) -> Iterator[str]:
    purpose, tags, _ = _KINDS[manifest.kind]
    yield from ("---", f"library_name: {_LIBRARY}", f"pipeline_tag: {purpose}")
    if licence is not None:
        yield f"license: {_yaml(licence)}"
    if is_repository(report.source.name):
        yield f"base_model: {_yaml(report.source.name)}"
        if report.quantization is not None:
            yield "base_model_relation: quantized"
    every = dict.fromkeys(("sentence-transformers", *tags, manifest.engine.name, manifest.target))
    yield from ("tags:", *(f"- {_yaml(tag)}" for tag in every), "---", "")


def _yaml(text: str) -> str:
    """A string of YAML, which strings of JSON are where nothing is written as halves of a pair."""
    return json.dumps(text, ensure_ascii=False)


def _graphs(manifest: Manifest) -> str:
    graphs = len(manifest.graphs) + (manifest.image is not None)
    kind = "OpenVINO" if manifest.engine.name == OPENVINO else "ONNX"
    return f"one {kind} graph" if graphs == 1 else f"{graphs} {kind} graphs"


def _use(manifest: Manifest, place: str) -> Iterator[str]:
    needs_document = manifest.routing is not None and manifest.routing.default is None
    call = _KINDS[manifest.kind][2].format(
        text=_TEXT,
        query=_QUERY,
        dim=manifest.truncate_dim or manifest.dim,
        encode="encode_document" if needs_document else "encode",
    )
    device = ', device="cuda"' if manifest.needs_gpu else ""
    yield from (
        "## Use",
        "",
        "```sh",
        f"pip install 'stcompile[{','.join(_extras(manifest))}]'",
        "```",
        "",
        "```python",
        "import stcompile",
        "",
        f'model = stcompile.load("{place}"{device})',
        call,
        "```",
        "",
        f"Behind HTTP, with the extra `serve`: `stcompile serve {place}`.",
        "",
    )


def _extras(manifest: Manifest) -> Iterator[str]:
    yield "openvino" if manifest.engine.name == OPENVINO else "cuda" if manifest.needs_gpu else "cpu"
    yield "hub"
    if manifest.image is not None:
        yield "images"
    if any(graph.rows is not None and graph.rows.pool_factor > 1 for graph in manifest.graphs):
        yield "pooling"


def _proof(manifest: Manifest, report: Report) -> Iterator[str]:
    parity = report.parity
    what = "pairs" if manifest.kind == RERANKER else "texts, on vectors scaled to the reference's lengths"
    yield from (
        "## Proof",
        "",
        f"Compared with {plain(parity.reference)} on {parity.num_texts} {what}:",
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


def _again(manifest: Manifest, report: Report, place: str) -> Iterator[str]:
    model, target = shlex.quote(report.source.name), shlex.quote(manifest.target)
    file = "" if report.source.file is None else f" --file {shlex.quote(report.source.file)}"
    extras = "compile,static" if report.distillation is not None else "compile"
    ours = shlex.quote(f"stcompile[{extras}]=={report.versions.get('stcompile', '')}")
    beside = " ".join(
        shlex.quote(f"{name}=={report.versions[name].partition('+')[0]}")
        for name in ("torch", "transformers", "onnxruntime", "openvino")
        if name in report.versions
    )
    lines = (
        f"pip install {ours} {beside}",
        f"stcompile export {model}{file} --target {target}{''.join(_options(manifest, report))} -o mine",
        f"stcompile verify {shlex.quote(place)} --against {model}{file}",
    )
    yield from (
        "## How it was made",
        "",
        "```sh",
        *(line.replace("\n", " ") for line in lines),
        "```",
        "",
        "What an export was told and its report does not show, such as `--sparse`, `--modalities` or scored pairs, is "
        f"not among these. The model's files have the fingerprint `{report.source.fingerprint}`.",
        "",
    )
    if manifest.space is not None:
        yield from (
            f"Its vectors compare with those of artifacts of the fingerprint `{manifest.space.fingerprint}`.",
            "",
        )


def _options(manifest: Manifest, report: Report) -> Iterator[str]:
    """What `stcompile export` was told besides, as far as the artifact shows it."""
    outputs = [_OUTPUTS.get(output.name, output.name) for output in manifest.graphs[0].outputs]
    if len(outputs) > 1:
        yield f" --outputs {shlex.quote(','.join(outputs))}"
    if report.layout is not None:
        yield f" --layout {report.layout}"
    if manifest.engine.packed:
        yield " --packed"
    if report.provider != "cpu":
        yield f" --provider {report.provider}"
    plan: Any = report.quantization
    calibration = None if plan is None else plan.calibration
    if calibration is not None and calibration.name != BUILT_IN_TEXTS:
        yield f" --calibration {shlex.quote(calibration.name)}"
    budget = None if plan is None else plan.budget
    if budget is not None and budget.measure == "mean_cosine_drop":
        yield f" --max-drop {budget.limit:g}"
    elif report.parity.tolerance.agreement is not None:
        yield f" --min-cosine {report.parity.tolerance.min_cosine:g}"
    if report.distillation is not None:
        yield f" --pca-dims {report.distillation.pca_dims or 'all'}"
