"""What was done to make an artifact, and the proof of it: frozen dataclasses to and from `report.json`.

For people, `inspect` and `verify`. The runtime never reads it. See docs/artifact-format.md.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from stcompile.artifact import older
from stcompile.artifact.fields import Count, Dim, Real, Sha256, built, one_of, read_json, to_json, whole
from stcompile.artifact.folder import Artifact, read_text
from stcompile.artifact.manifest import MANIFEST_NAME, read_body
from stcompile.artifact.target import Tolerance
from stcompile.errors import ArtifactError

REPORT_NAME = "report.json"

# What the texts are called that targets calibrate on where nobody brings others.
BUILT_IN_TEXTS = "stcompile-1"


@dataclass(frozen=True)
class ModuleSummary:
    """One module of the stack as the graph holds it: its class and its configuration."""

    type: str
    config: dict[str, Any]


@dataclass(frozen=True)
class Source:
    """Where the artifact came from.

    Attributes:
        name: the model folder's name or the hub id; never a path of the machine that compiled it.
        fingerprint: sha256 over the configuration, the weights and the tokenizer as they were read.
        modules: the module stack, in order.
        file: the ONNX or OpenVINO graph in its folder that the network's weights were read from; None where it has
            weights.
    """

    name: str
    fingerprint: Sha256
    modules: tuple[ModuleSummary, ...]
    file: str | None = None


@dataclass(frozen=True)
class PassSummary:
    """What one graph pass did: how often it rewrote, and why it refused where it nearly applied."""

    name: str
    rewrites: Count
    refusals: tuple[str, ...] = ()


@dataclass(frozen=True)
class CalibrationSummary:
    """The texts that ranges and strengths were chosen on: their name, number, tokens and sha256."""

    name: str
    texts: Count
    tokens: Count
    sha256: Sha256


@dataclass(frozen=True)
class LayerSummary:
    """The matrix multiplications that read one tensor, and how they are computed.

    Attributes:
        name: what the model calls their weights.
        route: the route of the graph they are in.
        matmuls: how many they are.
        scheme: `static`, `per-token`, `per-batch`, `weights` or `float32`.
        bits: of the weights.
        observer: of `static`: what chose the range, `min-max`, `percentile`, `entropy` or NNCF's `mean-min-max`.
        smoothing: SmoothQuant's strength; None without.
        error: relative error of the layer's output on the calibration texts, root mean square over tokens; None where
            it was not measured.
        sensitivity: what this layer alone costs the sentence embedding, 1 - mean cosine; None where not measured.
        reason: why it is not computed the cheapest way; empty where it is.
    """

    name: str
    route: str
    matmuls: Count
    scheme: str
    bits: Annotated[int, whole(1, 64)]
    observer: str = ""
    smoothing: Real | None = None
    error: Real | None = None
    sensitivity: Real | None = None
    reason: str = ""


@dataclass(frozen=True)
class BudgetSummary:
    """The accuracy that was asked for, and what was reached on the texts it was searched on.

    Attributes:
        measure: `min_cosine`, `mean_cosine_drop` or `spearman_drop`.
        limit: smallest allowed cosine, or largest allowed drop, as a share.
        reached: the same measure of the plan that was chosen.
        texts: number of texts, or scored pairs.
        steps: moves to a higher precision that were needed.
    """

    measure: Annotated[str, one_of("min_cosine", "mean_cosine_drop", "spearman_drop")]
    limit: Real
    reached: Real
    texts: Count
    steps: Count


@dataclass(frozen=True)
class QuantizationSummary:
    """What the quantization recipe did.

    Attributes:
        scheme: the recipe's name, e.g. `dynamic`.
        matmuls: number of matrix multiplications that run in 8 bits.
        embeddings: number of embedding tables stored in 8 bits.
        kept: what stayed in higher precision, how many and why, e.g. `2 LSTM: ...`.
        calibration: the texts it was calibrated on; None where none were needed.
        layers: the plan, layer by layer.
        budget: the accuracy that was asked for; None where the recipe's own was taken.
        image_calibration: the pictures that an image tower was calibrated on.
    """

    scheme: str
    matmuls: Count
    embeddings: Count
    kept: tuple[str, ...] = ()
    calibration: CalibrationSummary | None = None
    layers: tuple[LayerSummary, ...] = ()
    budget: BudgetSummary | None = None
    image_calibration: CalibrationSummary | None = None


@dataclass(frozen=True)
class DistillationSummary:
    """A model distilled into static token embeddings, and the quality that cost.

    Attributes:
        fingerprint: sha256 of the model it was distilled from, see `Source`.
        pca_dims: dimensions kept by principal component analysis; None keeps all.
        measure: `spearman`, rank correlation with the scores of pairs of texts, or `neighbour_overlap`, the share of
            each text's ten nearest texts that are the model's own.
        texts: how many texts, or pairs, it was measured on.
        teacher: the measure of the model itself.
        student: the measure of what it was distilled into.
    """

    fingerprint: Sha256
    pca_dims: Dim | None
    measure: Annotated[str, one_of("spearman", "neighbour_overlap")]
    texts: Count
    teacher: Real
    student: Real


@dataclass(frozen=True)
class PathReport:
    """One way in which an artifact's layers are computed, on some texts one by one.

    Attributes:
        path: a kernel's name, or `body`: the standard operators in its place.
        texts: how many it was judged on.
        max_abs_error: largest absolute difference of a component from the reference, as of `ParityReport`.
        min_cosine: smallest cosine similarity with the reference.
        agreement: smallest cosine similarity with what the kernel makes; 1 of the kernel itself.
    """

    path: str
    texts: Count
    max_abs_error: Real
    min_cosine: Real
    agreement: Real


@dataclass(frozen=True)
class ImageParity:
    """How the image tower of an artifact compares with sentence-transformers, on pictures drawn from a seed.

    Attributes:
        num_images: how many.
        max_abs_error: largest absolute difference of a component, as of `ParityReport`.
        min_cosine: smallest cosine similarity between an image's two vectors.
        mean_cosine: mean of those.
        batch_invariance: smallest cosine between an image's vector alone and in a batch, compiled.
        worst_image: what the image with the smallest cosine is.
        images_sha256: hash of the pictures.
        body_min_cosine: as `min_cosine`, by standard operators in the place of kernels; None where there are none.
        agreement: smallest cosine between the vectors of both; None where there are none.
    """

    num_images: Count
    max_abs_error: Real
    min_cosine: Real
    mean_cosine: Real
    batch_invariance: Real
    worst_image: str
    images_sha256: Sha256
    body_min_cosine: Real | None = None
    agreement: Real | None = None


@dataclass(frozen=True)
class OutputReport:
    """What a hybrid encoder makes beside its dense vectors, on some texts one by one, by our own modules in torch.

    Attributes:
        output: `sparse` or `multi_vector`.
        texts: how many it was judged on.
        max_abs_error: largest absolute difference of a component, as of `ParityReport`; of sparse vectors in proportion
            to the longest.
        min_cosine: smallest cosine similarity, of vectors of tokens that of a text's worst one; of sparse vectors
            without those of a tenth of the longest's length and less.
        mean_cosine: mean of those over texts.
        batch_invariance: smallest cosine between a text's vectors alone and in a mixed batch, compiled.
        tolerance: what was allowed.
        active_overlap: of sparse vectors, as of `ParityReport`.
    """

    output: str
    texts: Count
    max_abs_error: Real
    min_cosine: Real
    mean_cosine: Real
    batch_invariance: Real
    tolerance: Tolerance
    active_overlap: Real | None = None


@dataclass(frozen=True)
class ParityReport:
    """How a compiled artifact compares with sentence-transformers.

    Attributes:
        target: the artifact's target.
        reference: what it was compared with: `sentence-transformers` and its release, or our own modules and why.
        num_texts: texts compared, counting a text once per prompt it ran with.
        max_abs_error: largest absolute difference of a component, on rows scaled to the reference row's length; of
            texts that are compared because the model takes more than 2048 tokens, for each 512 of theirs.
        min_cosine: smallest cosine similarity between a text's two vectors.
        mean_cosine: mean of those.
        neighbour_overlap: share of the ten nearest texts that both agree on.
        batch_invariance: smallest cosine between a text's vector alone and in a mixed batch, compiled.
        reference_batch_invariance: the same for the reference; below 1 the model itself depends on padding.
        worst_text: the text with the largest error.
        tolerance: what was allowed.
        misread: whether our own modules, which were traced, already give other vectors than the reference: a bug of
            stcompile, whatever the target.
        failures: what was not within tolerance, one sentence each; empty when it passed.
        texts_sha256: hash of the texts, so that two reports can be compared.
        paths: the ways in which the package's own operators were computed, of an artifact that has some; everything
            above is of the first.
        active_overlap: of sparse vectors, the share of numbers that are not zero in both among those that are not in
            either, on average; None of others.
        outputs: of a hybrid encoder, what it makes beside its dense vectors.
        images: the same of an image tower, judged by the same tolerance; None without one.
        chosen_of: of a large network, how many texts there are of which some were chosen; None where all were compared,
            or the caller's own.
    """

    target: str
    num_texts: Count
    max_abs_error: Real
    min_cosine: Real
    mean_cosine: Real
    neighbour_overlap: Real
    batch_invariance: Real
    reference_batch_invariance: Real
    worst_text: str
    tolerance: Tolerance
    failures: tuple[str, ...]
    texts_sha256: Sha256
    reference: str
    misread: bool = False
    paths: tuple[PathReport, ...] = ()
    active_overlap: Real | None = None
    outputs: tuple[OutputReport, ...] = ()
    images: ImageParity | None = None
    chosen_of: Count | None = None

    @property
    def passed(self) -> bool:
        return not self.failures

    def to_dict(self) -> dict[str, Any]:
        """As JSON carries it."""
        return {**dataclasses.asdict(self), "passed": self.passed}


@dataclass(frozen=True)
class Compilation:
    """What was compiled, and what the compiler did.

    Attributes:
        source: where the artifact came from.
        recipe: the recipe behind the target's name, e.g. `dynamic`.
        provider: the execution provider whose passes shaped the graphs, `cpu` or `cuda`.
        opsets: of each route's graph, the version of the `ai.onnx` operator set.
        passes: what each pass did, in their order.
        quantization: what the recipe did; None where it keeps float32.
        distillation: what a static model was distilled from; None for every other target.
        notes: what a user should know of this model, e.g. that its reference depends on padding.
        versions: package name to version, of what compiled the artifact.
        layout: the library whose names of files it has; None for our own.
    """

    source: Source
    recipe: str
    provider: Annotated[str, one_of("cpu", "cuda")]
    opsets: dict[str, Annotated[int, whole(1, 1000)]]
    passes: tuple[PassSummary, ...]
    quantization: QuantizationSummary | None
    distillation: DistillationSummary | None
    notes: tuple[str, ...]
    versions: dict[str, str]
    layout: str | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Report(Compilation):
    """What was compiled, and the verdict that let it be published."""

    parity: ParityReport

    def to_dict(self) -> dict[str, Any]:
        """As JSON carries it."""
        return {**dataclasses.asdict(self), "parity": self.parity.to_dict()}


def read_report(artifact: Artifact) -> Report:
    """The report of an opened artifact of any schema.

    Raises:
        ArtifactError: it has none, or one that cannot be read or is malformed.
    """
    if artifact.manifest.schema_version <= older.LAST:
        name = f"{MANIFEST_NAME} with {older.PARITY_NAME}"
        body = read_body(read_text(artifact.folder / MANIFEST_NAME))
        report = older.report_of(body, _content(artifact, older.PARITY_NAME))
    else:
        name, report = REPORT_NAME, _content(artifact, REPORT_NAME)
    return built(Report, report, name)


def write_report(folder: Path, report: Report) -> None:
    """Writes `report.json`; the manifest that lists it is to be written after it."""
    (folder / REPORT_NAME).write_text(to_json(report.to_dict()), encoding="utf-8")


def _content(artifact: Artifact, name: str) -> Any:
    if name not in [entry.path for entry in artifact.manifest.files]:
        raise ArtifactError(f"{artifact.folder} has no {name}: export the model again")
    return read_json(read_text(artifact.folder / name), name)
