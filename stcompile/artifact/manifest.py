"""The artifact's contract: what the runtime needs, as frozen dataclasses to and from `manifest.json`.

What was done to make the artifact, and the proof of it, is `report.json`. The format is versioned by `schema_version`:
a later stcompile reads every older manifest, and an older stcompile refuses a newer one by name. See
docs/artifact-format.md.
"""

from __future__ import annotations

import dataclasses
import hashlib
import reprlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final

from stcompile.artifact import older
from stcompile.artifact.fields import (
    Count,
    Dim,
    FilePath,
    Id,
    Sha256,
    built,
    canonical,
    from_on,
    one_of,
    read_json,
    to_json,
    whole,
)
from stcompile.artifact.image import CHANNELS, ImageSpec
from stcompile.artifact.space import VectorSpace
from stcompile.errors import ArtifactError

SCHEMA_VERSION = 9
MANIFEST_NAME = "manifest.json"

# The graph's outputs, and the features of the stack they are: what is compiled and what is asked for.
SENTENCE: Final = "sentence_embedding"
TOKENS: Final = "token_embeddings"

# Of a pair of texts: its scores as the model gives them, and before its activation, where that changes them.
SCORES: Final = "scores"
LOGITS: Final = "logits"

# Of bge-m3 and its kin beside the sentence embedding: how much each token weighs, and a vector of each.
WEIGHTS: Final = "token_weights"
VECTORS: Final = "token_vectors"

# What an artifact is, and what its graphs end in.
ENCODER, RERANKER, SPARSE, MULTI_VECTOR = "encoder", "reranker", "sparse encoder", "multi-vector encoder"
HYBRID = "hybrid encoder"
ANSWERS = {ENCODER: SENTENCE, RERANKER: SCORES, SPARSE: SENTENCE, MULTI_VECTOR: TOKENS, HYBRID: SENTENCE}

# What a model reads, and the name of the route of images.
TEXT, IMAGE = "text", "image"

# The input of a graph of images.
PIXELS: Final = "pixel_values"

# How texts share a run: padded to the longest, or only with texts of their own length.
LONGEST, NO_PADDING = "longest", "none"
PADDINGS = (LONGEST, NO_PADDING)

# What the engine may rewrite at load.
OPTIMIZATION_LEVELS = ("disabled", "basic", "all")

# The engines that run graphs, and the number types they may be told to compute in.
ONNXRUNTIME, OPENVINO = "onnxruntime", "openvino"
ENGINES = (ONNXRUNTIME, OPENVINO)
PRECISIONS = ("float32", "bfloat16")

# How alike two vectors are, by the model's own measure.
SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")

# The same of two texts of many vectors each: of every vector of the first the likest of the second's, added up or as a
# mean.
MAXSIM, MEAN_MAXSIM = "maxsim", "meanmaxsim"
MAXSIMS = (MAXSIM, MEAN_MAXSIM)

# Front ends whose texts lie behind each other, told apart by `offsets`, and those of padded rows.
FLAT_KINDS, PADDED_KINDS = ("static", "bow"), ("transformer", "words")

_DTYPES = ("bool", "int32", "int64", "float16", "float32")

Side = Annotated[str, one_of("right", "left")]

# Positions that every text is padded to are memory and time of every run.
Positions = Annotated[int, whole(1, 2**16)]


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a graph.

    Attributes:
        name: the graph's own name for it.
        dtype: numpy's name of the element type, e.g. `int64`, `float32`.
        axes: one entry per axis, `batch`, `sequence` or a fixed size; empty for a scalar.
    """

    name: str
    dtype: Annotated[str, one_of(*_DTYPES)]
    axes: tuple[str, ...]


@dataclass(frozen=True)
class ChatTemplate:
    """A chat template reduced to the constant text around the message, proved by probing at export.

    Attributes:
        prefix: what stands before the text when there is no prompt.
        system_prefix: what stands before the prompt when there is one.
        system_suffix: what stands between the prompt and the text.
        suffix: what follows the text.
        middle: of a template for pairs, what stands between the query and the document; None for one for texts.
        tail_ids: token ids written back over the end of a row that truncation cut
            (`_restore_chat_template_suffix` of sentence-transformers 5.6+).
    """

    prefix: str
    system_prefix: str
    system_suffix: str
    suffix: str
    tail_ids: tuple[Id, ...]
    middle: str | None = None


@dataclass(frozen=True)
class QueryExpansion:
    """How a query is made longer before it is encoded (module-stack spec, section 16).

    Attributes:
        length: positions that every query is filled up to.
        token_id: what it is filled up with.
        is_seen: whether its tokens attend to those; `attention_mask` is 1 for them then, and otherwise 2.
    """

    length: Positions
    token_id: Id
    is_seen: bool


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
        expansion: how texts are made longer, or None.
    """

    kind: str
    tokenizer: FilePath
    max_seq_length: Annotated[int, whole(1, 2**63 - 1)] | None
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
    expansion: QueryExpansion | None = None


@dataclass(frozen=True)
class TokenRows:
    """Where a text has several vectors, which of its tokens have one, and what becomes of them.

    Attributes:
        leading: so many tokens in front of a text have none.
        skipped_ids: tokens without one.
        kept_ids: the only tokens with one; None is all.
        keeps_unseen: whether tokens that a text was made longer with have one, where `attention_mask` is 2.
        pool_factor: about one vector of so many is kept, see `TokenPooling`; 1 keeps all.
        num_protected_tokens: so many of a text's first vectors are no part of that.
        normalizes: whether what is kept is scaled to length 1.
    """

    leading: Count = 0
    skipped_ids: tuple[Id, ...] = ()
    kept_ids: tuple[Id, ...] | None = None
    keeps_unseen: bool = False
    pool_factor: Annotated[float, from_on(1)] = 1.0
    num_protected_tokens: Count = 1
    normalizes: bool = False


@dataclass(frozen=True)
class TokenWeights:
    """Of a hybrid encoder, how weights of tokens become a sparse vector: of a token that occurs twice the larger.

    Attributes:
        dim: how many tokens the vocabulary has.
        skipped_ids: tokens without a weight.
    """

    dim: Dim
    skipped_ids: tuple[Id, ...] = ()


@dataclass(frozen=True)
class GraphSpec:
    """One graph: the module stack of one route, from token ids to vectors.

    Attributes:
        route: the route's name; empty where the stack has no Router.
        file: the graph's file, relative to the artifact; routes that differ in their text alone share one.
        external_data: the file of weights outside the graph, above 2 GB or shared with other routes; None without.
        inputs: in the graph's order.
        outputs: what `ANSWERS` says first, then `logits` of a reranker, or what `--outputs` asked for.
        dim: width of its first output, before `truncate_dim`; None means the manifest's.
        text: its text front end; None means the manifest's.
        token_budget: token positions of a run on a CPU, padding included; None takes the runtime's own.
        max_active_dims: of a sparse encoder, how many of the largest numbers are kept by default; None keeps all.
        names_tokens: of a sparse encoder, whether its dimensions are the tokens of its vocabulary.
        rows: which tokens have a vector; None where a text has one.
        weights: how weights of tokens become a sparse vector; None where there are none.
    """

    route: str
    file: FilePath
    external_data: FilePath | None
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    dim: Dim | None = None
    text: TextSpec | None = None
    token_budget: Annotated[int, whole(1, 2**31 - 1)] | None = None
    max_active_dims: Dim | None = None
    names_tokens: bool = False
    rows: TokenRows | None = None
    weights: TokenWeights | None = None


@dataclass(frozen=True)
class ImageRoute:
    """What makes vectors of images, in the space of those of texts.

    Attributes:
        graph: from `pixel_values`, float32 `(batch, 3, height, width)`, to `sentence_embedding`.
        processing: how a picture becomes `pixel_values`.
        batch_size: pictures of a run on a CPU where none is asked for.
    """

    graph: GraphSpec
    processing: ImageSpec
    batch_size: Annotated[int, whole(1, 2**16)] = 1


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
class EngineSpec:
    """What runs the graphs.

    Attributes:
        name: `onnxruntime` or `openvino`.
        precision: the number type that the engine computes in where the graph leaves it open: `float32`, or
            `bfloat16`, which a CPU without it must refuse.
        native: whether the graphs have operators of the package's own.
        portable: whether each of those has a body of standard operators beside it, for where there is no kernel.
        packed: whether the graphs leave padding out, with operators that only a GPU has.
        saturates: whether sums of 8-bit products do not fit where the CPU has no VNNI, as of weights before schema 3;
            of those that somebody else rounded nobody knows.
    """

    name: Annotated[str, one_of(*ENGINES)] = ONNXRUNTIME
    precision: Annotated[str, one_of(*PRECISIONS)] = "float32"
    native: bool = False
    portable: bool = False
    packed: bool = False
    saturates: bool = False


@dataclass(frozen=True)
class FileEntry:
    """One file of the artifact: its relative path, sha256 (hex) and size in bytes."""

    path: FilePath
    sha256: Sha256
    size: Count


@dataclass(frozen=True)
class Manifest:
    """Everything the runtime needs to know, and what a caller may rely on.

    Attributes:
        schema_version: the format's version, `SCHEMA_VERSION` when written.
        target: name of the target, e.g. `onnx-int8`.
        batch_invariant: whether a text's vector is independent of its batch mates.
        optimization_level: what the engine may still rewrite at load: more than `basic` would undo the passes; a graph
            of somebody else's, which went through none that fuse, has all.
        dim: width of a sentence embedding before `truncate_dim`; of a reranker, how many labels it scores.
        truncate_dim: the model's own default of `truncate_dim`, or None.
        similarity: `cosine`, `dot`, `euclidean` or `manhattan`; of a multi-vector encoder `maxsim` or `meanmaxsim`.
        prompts: prompt name to text.
        default_prompt_name: the prompt plain `encode` uses, or None.
        text: the text front end.
        graphs: one, or one a route.
        files: every other file of the artifact.
        padding: `longest`, or `none` where padding would change the model's vectors: then only texts of one length
            share a batch.
        routing: which graph answers which task; None where there is one graph for all.
        engine: what runs the graphs.
        kind: `encoder`; `reranker`, which scores pairs of texts; `sparse encoder`, whose vectors are mostly zeros;
            `multi-vector encoder`, which makes a vector of each token; `hybrid encoder`, which makes a dense vector and
            besides a sparse one, one of each token, or both.
        image: what makes vectors of images; None where texts alone are encoded.
        space: which other vectors its own compare with; None before schema 9.
    """

    schema_version: Annotated[int, whole(1, SCHEMA_VERSION)]
    target: str
    batch_invariant: bool
    optimization_level: Annotated[str, one_of(*OPTIMIZATION_LEVELS)]
    dim: Dim
    truncate_dim: Dim | None
    similarity: Annotated[str, one_of(*SIMILARITIES, *MAXSIMS)]
    prompts: dict[str, str]
    default_prompt_name: str | None
    text: TextSpec
    graphs: tuple[GraphSpec, ...]
    files: tuple[FileEntry, ...] = ()
    padding: Annotated[str, one_of(*PADDINGS)] = LONGEST
    routing: RoutingSpec | None = None
    engine: EngineSpec = EngineSpec()
    kind: Annotated[str, one_of(*ANSWERS)] = ENCODER
    image: ImageRoute | None = None
    space: VectorSpace | None = None

    @property
    def needs_gpu(self) -> bool:
        """Whether only a GPU runs the graphs: packed ones, and those in bfloat16 without the package's operators."""
        return self.engine.packed or (self.target == "onnx-bf16" and not self.engine.native)

    def dim_of(self, graph: GraphSpec) -> int:
        """Width of a graph's first output, before `truncate_dim`."""
        return self.dim if graph.dim is None else graph.dim

    def text_of(self, graph: GraphSpec) -> TextSpec:
        """A graph's text front end."""
        return graph.text or self.text

    @property
    def max_seq_length(self) -> int | None:
        """Most tokens of a text; of several routes, that of the longest. None when unlimited."""
        limits = [self.text_of(graph).max_seq_length for graph in self.graphs]
        known = [limit for limit in limits if limit is not None]
        return max(known) if len(known) == len(limits) else None

    def cut_at(self, tokens: int | None) -> Manifest:
        """The same, whose rows have at most so many tokens, where they may have more; None changes nothing.

        Texts that are not padded, as of static embeddings, are as long as they were.
        """
        if tokens is None:
            return self
        graphs = [
            graph if graph.text is None else dataclasses.replace(graph, text=_cut(graph.text, tokens))
            for graph in self.graphs
        ]
        return dataclasses.replace(self, text=_cut(self.text, tokens), graphs=tuple(graphs))

    def to_json(self) -> str:
        """The file's text; `digest` covers everything else, so that a changed manifest is noticed."""
        body = dataclasses.asdict(self)
        return to_json({**body, "digest": _digest(body)})

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Reads and checks a manifest: every field by its type and range, and that they fit each other.

        Raises:
            ArtifactError: not JSON, not a manifest, of a newer schema, changed since it was written, or malformed.
        """
        manifest = built(cls, older.manifest_of(read_body(text)), MANIFEST_NAME)
        for problem in _contradictions(manifest):
            raise ArtifactError(f"{MANIFEST_NAME} contradicts itself ({problem}): export the model again")
        return manifest


def _cut(text: TextSpec, tokens: int) -> TextSpec:
    own = text.max_seq_length
    if text.kind in FLAT_KINDS:
        return text
    return dataclasses.replace(text, max_seq_length=tokens if own is None else min(own, tokens))


def read_body(text: str) -> dict[str, Any]:
    """What a manifest of any schema holds, as it was written.

    Raises:
        ArtifactError: not JSON, not a manifest, of a newer schema, or changed since it was written.
    """
    body: dict[str, Any] = read_json(text, MANIFEST_NAME)
    version = body.get("schema_version") if isinstance(body, dict) else None
    if not isinstance(version, int) or isinstance(version, bool):
        raise ArtifactError(f"{MANIFEST_NAME} is not an stcompile manifest: it has no schema_version")
    if version > SCHEMA_VERSION:
        raise ArtifactError(
            f"the artifact has schema version {reprlib.repr(version)}, this stcompile reads up to "
            f"{SCHEMA_VERSION}: pip install --upgrade stcompile"
        )
    digest = body.pop("digest", None)
    if digest != _digest(body):
        raise ArtifactError(f"{MANIFEST_NAME} was changed after the export: export the model again")
    return body


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
    if (manifest.similarity in MAXSIMS) != (manifest.kind == MULTI_VECTOR):
        yield f"it is a {manifest.kind}, and its similarity {manifest.similarity}"
    for graph in manifest.graphs:
        yield from _contradictions_of(manifest, graph)
    if manifest.image is not None:
        yield from _contradictions_of_images(manifest, manifest.image)


def _contradictions_of_images(manifest: Manifest, image: ImageRoute) -> Iterator[str]:
    graph, steps = image.graph, image.processing
    if manifest.kind != ENCODER:
        yield f"it is a {manifest.kind}, and has a graph of images"
    size = (str(CHANNELS), str(steps.height), str(steps.width))
    if [(item.name, item.dtype, item.axes[1:]) for item in graph.inputs] != [(PIXELS, "float32", size)]:
        yield f"its pictures become {'x'.join(size)} numbers, and their graph takes something else"
    if [(item.name, item.axes[1:]) for item in graph.outputs] != [(SENTENCE, (str(manifest.dim),))]:
        yield f"dim is {manifest.dim}, and the graph of images makes something else"
    to_size = (steps.resized_height, steps.resized_width)
    ways = [steps.shortest_edge is not None, None not in to_size]
    if sum(ways) != (steps.resample is not None) or (to_size.count(None) == 1):
        yield "its pictures are resized in several ways, or in none"
    if not steps.crops and to_size != (steps.height, steps.width):
        yield "its pictures have several sizes"
    if (steps.mean is None) != (steps.std is None) or any(
        values is not None and len(values) != CHANNELS for values in (steps.mean, steps.std)
    ):
        yield f"its pictures are not normalized by {CHANNELS} channels"
    if steps.std is not None and not all(steps.std):
        yield "its pictures are divided by zero"


def _contradictions_of(manifest: Manifest, graph: GraphSpec) -> Iterator[str]:
    text, dim = manifest.text_of(graph), manifest.dim_of(graph)
    inputs, outputs = ([item.name for item in side] for side in (graph.inputs, graph.outputs))
    if "input_ids" not in inputs or len(set(inputs)) < len(inputs):
        yield f"a graph takes {', '.join(inputs) or 'nothing'}"
    if outputs[:1] != [ANSWERS[manifest.kind]] or len(set(outputs)) < len(outputs):
        yield f"a graph makes {', '.join(outputs) or 'nothing'}"
    is_flat = "offsets" in inputs
    if text.kind in (PADDED_KINDS if is_flat else FLAT_KINDS):
        yield f"its text is of kind {text.kind}, and the graph takes {', '.join(inputs)}"
    if (graph.rows is None) == (manifest.kind == MULTI_VECTOR or VECTORS in outputs):
        yield f"it is a {manifest.kind}, and a graph says {'nothing' if graph.rows is None else 'something'} of rows"
    if (graph.weights is None) == (WEIGHTS in outputs):
        said = "nothing" if graph.weights is None else "something"
        yield f"a graph makes {', '.join(outputs)}, and says {said} of weights"
    if (manifest.kind == HYBRID) != (not {WEIGHTS, VECTORS}.isdisjoint(outputs)):
        yield f"it is a {manifest.kind}, and a graph makes {', '.join(outputs)}"
    axes = graph.outputs[0].axes if graph.outputs else ()
    if axes and axes[-1].isdigit() and axes[-1] != str(dim):
        yield f"dim is {dim}, and the graph's {reprlib.repr(axes[-1])}"


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(canonical(body)).hexdigest()
