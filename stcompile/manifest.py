"""The artifact's contract: frozen dataclasses to and from `manifest.json`.

The format is versioned by `schema_version` and only ever grows: a later stcompile reads every older
manifest, and an older stcompile refuses a newer one by name. See docs/artifact-format.md.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from stcompile.errors import ArtifactError

SCHEMA_VERSION = 4
MANIFEST_NAME = "manifest.json"

# The graph's outputs, and the features of the stack they are: what is compiled and what is asked for.
SENTENCE = "sentence_embedding"
TOKENS = "token_embeddings"

# How texts share a run: padded to the longest, or only with texts of their own length.
LONGEST, NO_PADDING = "longest", "none"
PADDINGS = (LONGEST, NO_PADDING)

# What the engine may rewrite at load.
OPTIMIZATION_LEVELS = ("disabled", "basic")

# The engines that run graphs, and the number types they may be told to compute in.
ONNXRUNTIME, OPENVINO = "onnxruntime", "openvino"
ENGINES = (ONNXRUNTIME, OPENVINO)
PRECISIONS = ("float32", "bfloat16")

T = TypeVar("T")


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a graph.

    Attributes:
        name: the graph's own name for it.
        dtype: numpy's name of the element type, e.g. `int64`, `float32`.
        axes: one entry per axis, `batch`, `sequence` or a fixed size; empty for a scalar.
    """

    name: str
    dtype: str
    axes: tuple[str, ...]


@dataclass(frozen=True)
class ChatTemplate:
    """A chat template reduced to the constant text around the message, proved by probing at export.

    Attributes:
        prefix: what stands before the text when there is no prompt.
        system_prefix: what stands before the prompt when there is one.
        system_suffix: what stands between the prompt and the text.
        suffix: what follows the text.
        tail_ids: token ids written back over the end of a row that truncation cut
            (`_restore_chat_template_suffix` of sentence-transformers 5.6+).
    """

    prefix: str
    system_prefix: str
    system_suffix: str
    suffix: str
    tail_ids: tuple[int, ...]


@dataclass(frozen=True)
class TextSpec:
    """The text front end: how strings become the graph's inputs (module-stack spec, sections 5, 9 and 10).

    Attributes:
        kind: `transformer` (padded rows of token ids), `static` (token ids behind each other), `words` (padded rows
            of word ids) or `bow` (word ids behind each other).
        tokenizer: the tokenizer's file, relative to the artifact.
        max_seq_length: most tokens of a row, special tokens included; None when unlimited.
        padding_side: `right` or `left`.
        truncation_side: `right` or `left`.
        pad_id: token id of padded positions.
        pad_type_id: token type id of padded positions.
        special_ids: ids of the special tokens; decides the length of a prompt that pooling leaves out.
        chat: the chat template every text is put in, or None.
        min_seq_length: least number of positions of a row; shorter ones are padded up to it.
        length_multiple: rows are padded to a multiple of so many positions, as far as `max_seq_length` allows, for an
            engine whose sums depend on it.
        split_special_tokens: whether a special token that a text quotes is read as the characters it is spelled with.
        takes_pairs: whether a text may be a pair of texts; the network may have no token type for the second.
    """

    kind: str
    tokenizer: str
    max_seq_length: int | None
    padding_side: str = "right"
    truncation_side: str = "right"
    pad_id: int = 0
    pad_type_id: int = 0
    special_ids: tuple[int, ...] = ()
    chat: ChatTemplate | None = None
    min_seq_length: int = 1
    length_multiple: int = 1
    split_special_tokens: bool = False
    takes_pairs: bool = True


@dataclass(frozen=True)
class GraphSpec:
    """One graph: the module stack of one route, from token ids to vectors.

    Attributes:
        route: the route's name; empty where the stack has no Router.
        file: the graph's file, relative to the artifact.
        external_data: the file of weights outside the graph, above 2 GB or shared with other routes; None without.
        opset: version of the `ai.onnx` operator set.
        inputs: in the graph's order.
        outputs: `sentence_embedding` first, then what `--outputs` asked for.
        dim: width of its sentence embedding before `truncate_dim`; None means the manifest's.
        text: its text front end; None means the manifest's.
        token_budget: token positions of a run on a CPU, padding included; None takes the runtime's own.
    """

    route: str
    file: str
    external_data: str | None
    opset: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    dim: int | None = None
    text: TextSpec | None = None
    token_budget: int | None = None


@dataclass(frozen=True)
class RoutingSpec:
    """Which graph answers which task, resolved when the model was compiled (module-stack spec, section 11.2).

    Attributes:
        tasks: task name to route.
        default: the route without a task, or None where a task must be named.
        otherwise: the route of every task that is not listed, or None where such a task is refused.
    """

    tasks: dict[str, str]
    default: str | None
    otherwise: str | None


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
    """

    name: str
    fingerprint: str
    modules: tuple[ModuleSummary, ...]


@dataclass(frozen=True)
class PassSummary:
    """What one graph pass did: how often it rewrote, and why it refused where it nearly applied."""

    name: str
    rewrites: int
    refusals: tuple[str, ...] = ()


@dataclass(frozen=True)
class EngineSpec:
    """What runs the graphs.

    Attributes:
        name: `onnxruntime` or `openvino`.
        precision: the number type that the engine computes in where the graph leaves it open: `float32`, or
            `bfloat16`, which a CPU without it must refuse.
        native: whether the graphs have operators of the package's own, which not every CPU runs.
        packed: whether the graphs leave padding out, with operators that only a GPU has.
    """

    name: str = ONNXRUNTIME
    precision: str = "float32"
    native: bool = False
    packed: bool = False


@dataclass(frozen=True)
class CalibrationSummary:
    """The texts that ranges and strengths were chosen on: their name, number, tokens and sha256."""

    name: str
    texts: int
    tokens: int
    sha256: str


@dataclass(frozen=True)
class LayerSummary:
    """The matrix multiplications that read one tensor, and how they are computed.

    Attributes:
        name: what the model calls their weights.
        route: the route of the graph they are in.
        matmuls: how many they are.
        scheme: `static`, `per-token`, `per-batch`, `weights` or `float32`.
        bits: of the weights.
        observer: of `static`: what chose the range, `min-max`, `percentile` or `entropy`.
        smoothing: SmoothQuant's strength; None without.
        error: relative error of the layer's output on the calibration texts, root mean square over tokens; None where
            it was not measured.
        sensitivity: what this layer alone costs the sentence embedding, 1 - mean cosine; None where not measured.
        reason: why it is not computed the cheapest way; empty where it is.
    """

    name: str
    route: str
    matmuls: int
    scheme: str
    bits: int
    observer: str = ""
    smoothing: float | None = None
    error: float | None = None
    sensitivity: float | None = None
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

    measure: str
    limit: float
    reached: float
    texts: int
    steps: int


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
    """

    scheme: str
    matmuls: int
    embeddings: int
    kept: tuple[str, ...] = ()
    calibration: CalibrationSummary | None = None
    layers: tuple[LayerSummary, ...] = ()
    budget: BudgetSummary | None = None


@dataclass(frozen=True)
class ParitySummary:
    """The verdict that let the artifact be published; the whole report is in `parity.json`.

    Its fields are those of `ParityReport`; `reference` is empty in artifacts of before there was a choice: our own
    modules judged them.
    """

    num_texts: int
    max_abs_error: float
    min_cosine: float
    mean_cosine: float
    neighbour_overlap: float
    batch_invariance: float
    reference_batch_invariance: float
    reference: str = ""


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

    fingerprint: str
    pca_dims: int | None
    measure: str
    texts: int
    teacher: float
    student: float


@dataclass(frozen=True)
class FileEntry:
    """One file of the artifact: its relative path, sha256 (hex) and size in bytes."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """Everything the runtime needs to know, and everything a person may ask of an artifact.

    Attributes:
        schema_version: the format's version, `SCHEMA_VERSION` when written.
        target: name of the target, e.g. `onnx-int8`.
        recipe: the recipe behind the name, e.g. `dynamic`.
        provider: the execution provider whose passes shaped the graph, `cpu` or `cuda`.
        batch_invariant: whether a text's vector is independent of its batch mates.
        optimization_level: what the engine may still rewrite at load; more would undo the passes.
        dim: width of a sentence embedding before `truncate_dim`.
        truncate_dim: the model's own default of `truncate_dim`, or None.
        similarity: `cosine`, `dot`, `euclidean` or `manhattan`.
        prompts: prompt name to text.
        default_prompt_name: the prompt plain `encode` uses, or None.
        notes: what a user should know of this model, e.g. that its reference depends on padding.
        versions: package name to version, of what compiled the artifact.
        padding: `longest`, or `none` where padding would change the model's vectors: then only texts of one length
            share a batch.
        routing: which graph answers which task; None where there is one graph for all.
        distillation: what a static model was distilled from; None for every other target.
        engine: what runs the graphs.
    """

    schema_version: int
    target: str
    recipe: str
    provider: str
    batch_invariant: bool
    optimization_level: str
    dim: int
    truncate_dim: int | None
    similarity: str
    prompts: dict[str, str]
    default_prompt_name: str | None
    source: Source
    text: TextSpec
    graphs: tuple[GraphSpec, ...]
    passes: tuple[PassSummary, ...]
    quantization: QuantizationSummary | None
    parity: ParitySummary | None
    notes: tuple[str, ...]
    versions: dict[str, str]
    files: tuple[FileEntry, ...] = field(default=())
    padding: str = LONGEST
    routing: RoutingSpec | None = None
    distillation: DistillationSummary | None = None
    engine: EngineSpec = EngineSpec()

    def dim_of(self, graph: GraphSpec) -> int:
        """Width of a graph's sentence embedding before `truncate_dim`."""
        return self.dim if graph.dim is None else graph.dim

    def text_of(self, graph: GraphSpec) -> TextSpec:
        """A graph's text front end."""
        return graph.text or self.text

    def to_json(self) -> str:
        """The file's text; `digest` covers everything else, so that a changed manifest is noticed."""
        body = dataclasses.asdict(self)
        return json.dumps({**body, "digest": _digest(body)}, indent=2, ensure_ascii=False, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Reads and checks a manifest.

        Raises:
            ArtifactError: not JSON, not a manifest, of a newer schema, or changed since it was written.
        """
        try:
            body = json.loads(text)
        except ValueError as error:
            raise ArtifactError(f"{MANIFEST_NAME} is not valid JSON ({error}): export the model again") from error
        if not isinstance(body, dict) or not isinstance(body.get("schema_version"), int):
            raise ArtifactError(f"{MANIFEST_NAME} is not an stcompile manifest: it has no schema_version")
        if body["schema_version"] > SCHEMA_VERSION:
            raise ArtifactError(
                f"the artifact has schema version {body['schema_version']}, this stcompile reads up to "
                f"{SCHEMA_VERSION}: pip install --upgrade stcompile"
            )
        digest = body.pop("digest", None)
        if digest != _digest(body):
            raise ArtifactError(f"{MANIFEST_NAME} was changed after the export: export the model again")
        try:
            manifest = _build(cls, body)
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"{MANIFEST_NAME} is malformed ({error}): export the model again") from error
        for problem in _contradictions(manifest):
            raise ArtifactError(f"{MANIFEST_NAME} contradicts itself ({problem}): export the model again")
        return manifest


def _contradictions(manifest: Manifest) -> Iterator[str]:
    """What no export writes, and what would end in the middle of encoding."""
    routes = [graph.route for graph in manifest.graphs]
    routing = manifest.routing
    taken = [""] if routing is None else [*routing.tasks.values(), routing.default, routing.otherwise]
    for route in taken:
        if route is not None and route not in routes:
            yield f"no graph has the route {route!r}"
    if manifest.padding not in PADDINGS:
        yield f"padding is {manifest.padding!r}"
    if manifest.optimization_level not in OPTIMIZATION_LEVELS:
        yield f"optimization_level is {manifest.optimization_level!r}"
    if manifest.engine.name not in ENGINES or manifest.engine.precision not in PRECISIONS:
        yield f"engine is {manifest.engine.name!r} in {manifest.engine.precision!r}"
    for graph in manifest.graphs:
        text, dim = manifest.text_of(graph), manifest.dim_of(graph)
        width = graph.outputs[0].axes[-1] if graph.outputs and graph.outputs[0].axes else ""
        if width.isdigit() and int(width) != dim:
            yield f"dim is {dim}, and the graph's {width}"
        if (
            text.length_multiple < 1
            or text.min_seq_length < 1
            or (text.max_seq_length is not None and text.max_seq_length < 1)
        ):
            yield "a length limit is below 1"
        if graph.token_budget is not None and graph.token_budget < 1:
            yield "a token budget is below 1"


def _digest(body: dict[str, Any]) -> str:
    canonical = json.dumps(body, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _build(kind: type[T], body: dict[str, Any]) -> T:
    hints = _hints(typing.cast(Any, kind))
    values = {}
    for item in dataclasses.fields(typing.cast(Any, kind)):
        if item.name in body:
            values[item.name] = _convert(hints[item.name], body[item.name])
        elif item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            raise KeyError(item.name)
    return kind(**values)


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _convert(hint: Any, value: Any) -> Any:
    origin = typing.get_origin(hint)
    if origin is tuple:
        return tuple(_convert(typing.get_args(hint)[0], item) for item in value)
    if origin in (typing.Union, types.UnionType):
        inner = next(arg for arg in typing.get_args(hint) if arg is not type(None))
        return None if value is None else _convert(inner, value)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise TypeError(f"expected {getattr(hint, '__name__', hint)}, got {value!r}")
        return _build(typing.cast(type, hint), value)
    plain = origin or hint
    expected: Any = (float, int) if plain is float else plain
    if not isinstance(value, expected) or (isinstance(value, bool) and hint is not bool):
        raise TypeError(f"expected {getattr(hint, '__name__', hint)}, got {value!r}")
    return value
