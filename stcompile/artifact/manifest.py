"""The artifact's contract: frozen dataclasses to and from `manifest.json`.

The format is versioned by `schema_version` and only ever grows: a later stcompile reads every older
manifest, and an older stcompile refuses a newer one by name. See docs/artifact-format.md.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import re
import reprlib
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Annotated, Any, Final, TypeVar

from stcompile.errors import ArtifactError

SCHEMA_VERSION = 4
MANIFEST_NAME = "manifest.json"

# The graph's outputs, and the features of the stack they are: what is compiled and what is asked for.
SENTENCE: Final = "sentence_embedding"
TOKENS: Final = "token_embeddings"

# How texts share a run: padded to the longest, or only with texts of their own length.
LONGEST, NO_PADDING = "longest", "none"
PADDINGS = (LONGEST, NO_PADDING)

# What the engine may rewrite at load.
OPTIMIZATION_LEVELS = ("disabled", "basic")

# The engines that run graphs, and the number types they may be told to compute in.
ONNXRUNTIME, OPENVINO = "onnxruntime", "openvino"
ENGINES = (ONNXRUNTIME, OPENVINO)
PRECISIONS = ("float32", "bfloat16")

# How alike two vectors are, by the model's own measure.
SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")

# Front ends whose texts lie behind each other, told apart by `offsets`, and those of padded rows.
FLAT_KINDS, PADDED_KINDS = ("static", "bow"), ("transformer", "words")

_PROVIDERS = ("cpu", "cuda")
_SIDES = ("right", "left")
_DTYPES = ("bool", "int32", "int64", "float16", "float32")

# Real manifests have about eight levels; Python's own limit would be met later, somewhere in the middle.
_DEEPEST = 64

_SHA256 = re.compile(r"[0-9a-f]{64}")

T = TypeVar("T")


@dataclass(frozen=True)
class _Whole:
    """A whole number within bounds, both included."""

    least: int
    most: int

    @property
    def wanted(self) -> str:
        return f"a whole number from {self.least} to {self.most}"

    def allows(self, value: Any) -> bool:
        return bool(self.least <= value <= self.most)


@dataclass(frozen=True)
class _OneOf:
    """One of a few names."""

    names: tuple[str, ...]

    @property
    def wanted(self) -> str:
        return f"one of {', '.join(self.names)}"

    def allows(self, value: Any) -> bool:
        return value in self.names


@dataclass(frozen=True)
class _Finite:
    """A number that is neither infinite nor none."""

    wanted: str = "a finite number"

    def allows(self, value: Any) -> bool:
        try:
            return math.isfinite(value)
        except OverflowError:  # JSON's whole numbers may have any number of digits
            return False


@dataclass(frozen=True)
class _Hash:
    """A sha256 as hexadecimal digits."""

    wanted: str = "64 hexadecimal digits"

    def allows(self, value: Any) -> bool:
        return _SHA256.fullmatch(value) is not None


@dataclass(frozen=True)
class _Inside:
    """A file's path relative to the artifact, with slashes, spelt in the one way there is."""

    wanted: str = "a file inside the artifact"

    def allows(self, value: Any) -> bool:
        path = PurePosixPath(value)
        foreign = any(character in value for character in "\\:\0")
        return not (foreign or path.is_absolute() or ".." in path.parts or str(path) != value or not path.parts)


# What a field may hold beyond its type; `_convert` reads it.
Count = Annotated[int, _Whole(0, 2**63 - 1)]
Dim = Annotated[int, _Whole(1, 2**31 - 1)]
Id = Annotated[int, _Whole(0, 2**31 - 1)]
Real = Annotated[float, _Finite()]
Sha256 = Annotated[str, _Hash()]
FilePath = Annotated[str, _Inside()]
Side = Annotated[str, _OneOf(_SIDES)]

# Positions that every text is padded to are memory and time of every run.
Positions = Annotated[int, _Whole(1, 2**16)]


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a graph.

    Attributes:
        name: the graph's own name for it.
        dtype: numpy's name of the element type, e.g. `int64`, `float32`.
        axes: one entry per axis, `batch`, `sequence` or a fixed size; empty for a scalar.
    """

    name: str
    dtype: Annotated[str, _OneOf(_DTYPES)]
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
    tail_ids: tuple[Id, ...]


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
    tokenizer: FilePath
    max_seq_length: Annotated[int, _Whole(1, 2**63 - 1)] | None
    padding_side: Side = "right"
    truncation_side: Side = "right"
    pad_id: Id = 0
    pad_type_id: Id = 0
    special_ids: tuple[Id, ...] = ()
    chat: ChatTemplate | None = None
    min_seq_length: Positions = 1
    length_multiple: Positions = 1
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
    file: FilePath
    external_data: FilePath | None
    opset: Annotated[int, _Whole(1, 1000)]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    dim: Dim | None = None
    text: TextSpec | None = None
    token_budget: Annotated[int, _Whole(1, 2**31 - 1)] | None = None


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
    fingerprint: Sha256
    modules: tuple[ModuleSummary, ...]


@dataclass(frozen=True)
class PassSummary:
    """What one graph pass did: how often it rewrote, and why it refused where it nearly applied."""

    name: str
    rewrites: Count
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

    name: Annotated[str, _OneOf(ENGINES)] = ONNXRUNTIME
    precision: Annotated[str, _OneOf(PRECISIONS)] = "float32"
    native: bool = False
    packed: bool = False


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
        observer: of `static`: what chose the range, `min-max`, `percentile` or `entropy`.
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
    bits: Annotated[int, _Whole(1, 64)]
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

    measure: str
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
    """

    scheme: str
    matmuls: Count
    embeddings: Count
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

    num_texts: Count
    max_abs_error: Real
    min_cosine: Real
    mean_cosine: Real
    neighbour_overlap: Real
    batch_invariance: Real
    reference_batch_invariance: Real
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

    fingerprint: Sha256
    pca_dims: Dim | None
    measure: str
    texts: Count
    teacher: Real
    student: Real


@dataclass(frozen=True)
class FileEntry:
    """One file of the artifact: its relative path, sha256 (hex) and size in bytes."""

    path: FilePath
    sha256: Sha256
    size: Count


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

    schema_version: Annotated[int, _Whole(1, SCHEMA_VERSION)]
    target: str
    recipe: str
    provider: Annotated[str, _OneOf(_PROVIDERS)]
    batch_invariant: bool
    optimization_level: Annotated[str, _OneOf(OPTIMIZATION_LEVELS)]
    dim: Dim
    truncate_dim: Dim | None
    similarity: Annotated[str, _OneOf(SIMILARITIES)]
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
    padding: Annotated[str, _OneOf(PADDINGS)] = LONGEST
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
        """Reads and checks a manifest: every field by its type and range, and that they fit each other.

        Raises:
            ArtifactError: not JSON, not a manifest, of a newer schema, changed since it was written, or malformed.
        """
        try:
            body = json.loads(text, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise ArtifactError(f"{MANIFEST_NAME} is not valid JSON ({error}): export the model again") from error
        version = body.get("schema_version") if isinstance(body, dict) else None
        if not isinstance(version, int) or isinstance(version, bool):
            raise ArtifactError(f"{MANIFEST_NAME} is not an stcompile manifest: it has no schema_version")
        if version > SCHEMA_VERSION:
            raise ArtifactError(
                f"the artifact has schema version {reprlib.repr(version)}, this stcompile reads up to "
                f"{SCHEMA_VERSION}: pip install --upgrade stcompile"
            )
        if _is_deeper(body, _DEEPEST):
            raise ArtifactError(f"{MANIFEST_NAME} is malformed (more than {_DEEPEST} levels): export the model again")
        digest = body.pop("digest", None)
        try:
            changed = digest != _digest(body)
        except UnicodeEncodeError as error:
            raise ArtifactError(f"{MANIFEST_NAME} is not valid JSON ({error}): export the model again") from error
        if changed:
            raise ArtifactError(f"{MANIFEST_NAME} was changed after the export: export the model again")
        try:
            manifest = _build(cls, body, "")
        except _MalformedError as error:
            raise ArtifactError(f"{MANIFEST_NAME} is malformed ({error}): export the model again") from error
        for problem in _contradictions(manifest):
            raise ArtifactError(f"{MANIFEST_NAME} contradicts itself ({problem}): export the model again")
        return manifest


def _contradictions(manifest: Manifest) -> Iterator[str]:
    """What no export writes, and what would end in the middle of encoding."""
    routes = [graph.route for graph in manifest.graphs]
    routing = manifest.routing
    if not routes or len(set(routes)) < len(routes):
        yield "it has no graph" if not routes else "two graphs have one route"
    taken = [""] if routing is None else [*routing.tasks.values(), routing.default, routing.otherwise]
    for route in taken:
        if route is not None and route not in routes:
            yield f"no graph has the route {route!r}"
    if manifest.default_prompt_name is not None and manifest.default_prompt_name not in manifest.prompts:
        yield f"no prompt is called {manifest.default_prompt_name!r}, the default"
    paths = [entry.path for entry in manifest.files]
    if len(set(paths)) < len(paths) or MANIFEST_NAME in paths:
        yield "it lists itself" if MANIFEST_NAME in paths else "it lists a file twice"
    for graph in manifest.graphs:
        yield from _contradictions_of(graph, manifest.text_of(graph), manifest.dim_of(graph))


def _contradictions_of(graph: GraphSpec, text: TextSpec, dim: int) -> Iterator[str]:
    inputs, outputs = ([item.name for item in side] for side in (graph.inputs, graph.outputs))
    if "input_ids" not in inputs or len(set(inputs)) < len(inputs):
        yield f"a graph takes {', '.join(inputs) or 'nothing'}"
    if outputs[:1] != [SENTENCE] or len(set(outputs)) < len(outputs):
        yield f"a graph makes {', '.join(outputs) or 'nothing'}"
    is_flat = "offsets" in inputs
    if text.kind in (PADDED_KINDS if is_flat else FLAT_KINDS):
        yield f"its text is of kind {text.kind}, and the graph takes {', '.join(inputs)}"
    axes = graph.outputs[0].axes if graph.outputs else ()
    if axes and axes[-1].isdigit() and axes[-1] != str(dim):
        yield f"dim is {dim}, and the graph's {reprlib.repr(axes[-1])}"


class _MalformedError(Exception):
    """Which field of a manifest is wrong, and what it must be."""


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def _is_deeper(value: Any, levels: int) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    return isinstance(value, list) and (levels == 0 or any(_is_deeper(item, levels - 1) for item in value))


def _digest(body: dict[str, Any]) -> str:
    canonical = json.dumps(body, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _build(kind: type[T], body: Any, where: str) -> T:
    if not isinstance(body, dict):
        raise _wrong(where, "an object", body)
    hints = _hints(typing.cast(Any, kind))
    values = {}
    for item in dataclasses.fields(typing.cast(Any, kind)):
        name = f"{where}.{item.name}" if where else item.name
        if item.name in body:
            values[item.name] = _convert(hints[item.name], body[item.name], name)
        elif item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            raise _MalformedError(f"{name} is missing")
    return kind(**values)


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


# JSON's name of a type, and the types that are read as it.
_PLAIN: dict[Any, tuple[str, tuple[type, ...]]] = {
    str: ("text", (str,)),
    bool: ("true or false", (bool,)),
    int: ("a whole number", (int,)),
    float: ("a number", (float, int)),
}


def _convert(hint: Any, value: Any, where: str) -> Any:
    """A field's value by its type: what JSON says otherwise is refused."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin is Annotated:
        rule = arguments[1]
        found = _convert(arguments[0], value, where)
        if not rule.allows(found):
            raise _wrong(where, rule.wanted, value)
        return found
    if origin in (typing.Union, types.UnionType):
        inner = next(arg for arg in arguments if arg is not type(None))
        return None if value is None else _convert(inner, value, where)
    if origin in (tuple, dict):
        return _convert_all(origin, arguments, value, where)
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast(type, hint), value, where)
    wanted, kinds = _PLAIN[hint]
    if not isinstance(value, kinds) or (isinstance(value, bool) and hint is not bool):
        raise _wrong(where, wanted, value)
    return value


def _convert_all(origin: type, arguments: tuple[Any, ...], value: Any, where: str) -> Any:
    """A list's items, or an object's values, by their type."""
    if origin is tuple and isinstance(value, list):
        return tuple(_convert(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {key: _convert(arguments[1], item, f"{where}.{reprlib.repr(key)}") for key, item in value.items()}
    raise _wrong(where, "a list" if origin is tuple else "an object", value)


def _wrong(where: str, wanted: str, value: Any) -> _MalformedError:
    return _MalformedError(f"{where} must be {wanted}, got {reprlib.repr(value)}")
