"""Model folder to `ModuleStack`."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Unpack

import numpy as np
import torch

from stcompile.artifact.manifest import LOGITS, MULTI_VECTOR, RERANKER, SPARSE, TOKENS
from stcompile.compiler.kinds.base import ModuleEntry
from stcompile.compiler.kinds.folder import Folder, join
from stcompile.compiler.metrics import Matrix, as_ragged, joined
from stcompile.compiler.modules import Router, Transformer
from stcompile.compiler.modules.base import InputModule, Module, SavedModule
from stcompile.compiler.modules.graph_weights import SAME, SAME_HALF
from stcompile.compiler.stack.describe import StackDescription
from stcompile.compiler.stack.keywords import TASK, refusal
from stcompile.compiler.stack.module_stack import ModuleStack
from stcompile.compiler.stack.multi_vector import all_vectors
from stcompile.compiler.stack.route import Route
from stcompile.compiler.stack.source import ModelSource, SourceOptions, left_in_mode
from stcompile.errors import ModelFolderError, StcompileError, UnsupportedError, about, one_line

logger = logging.getLogger("stcompile")

# Short, padded, and long enough to be cut by most limits.
_LIVE_TEXTS = ["hello", "The quick brown fox jumps over the lazy dog.", "one two three four five " * 120]

# Two float32 computations differ by less than 1e-6; a live object in half precision by float16's rounding.
_LIVE_ERROR, _LIVE_HALF_ERROR = 2e-5, 2e-2

_NOT_IN_THE_FOLDER = (
    "saved and loaded again it gives other vectors than the live object, because a folder cannot hold all of its state "
    "(padding or truncation side, arguments of an activation): save it, check the saved folder, and compile that"
)

_READ = (
    "weights were read from {}, and the network they make gives what that file gives in its own engine within "
    f"{SAME:g} of the largest number, {SAME_HALF:g} of a float16 one"
)
_KEPT = "{} is kept as it is, and vectors are compared with those that it makes in ONNX Runtime"
_POOLED = "the graph has pooled already: what its folder puts behind the network is left out"

# Models whose prompt sentence-transformers leaves out of the pooling whatever their folder says, known by the name that
# it is given and by nothing else.
_INSTRUCTORS = ("hkunlp/instructor-base", "hkunlp/instructor-large", "hkunlp/instructor-xl")


def load_stack(model: Any, **options: Unpack[SourceOptions]) -> ModuleStack:
    """Loads a model folder, a hub id, or a live model of sentence-transformers as our own torch modules, in float32.

    Args:
        model: folder, hub id, SentenceTransformer, or a `ModelSource` of one.
        options: `revision`, `cache_dir`, `trust_remote_code`, `follow_links`, `sparse`, `modalities`, `file`, see
            `ModelSource`.

    Raises:
        ModelFolderError: files are missing, unreadable or do not fit each other.
        UnsupportedError: something in the stack cannot be compiled; names everything found.
    """
    source = ModelSource.of(model, options)
    model = source.model
    with contextlib.ExitStack() as stays:
        given, name = stays.enter_context(source.as_it_is())
        graphs = source.graphs(given)
        folder = given if source.adopt else stays.enter_context(source.with_weights(given, name, graphs))
        description = source.described(folder)
        if description.unsupported:
            raise UnsupportedError(name, *description.unsupported)
        notes = tuple((_KEPT if source.adopt else _READ).format(join(path, file)) for path, file in graphs.items())
        if not source.is_live and str(model) in _INSTRUCTORS:
            description, more = _without_prompt(description, str(model))
            notes = (*notes, *more)
        # Code of its own is not saved with a live object, but it is there already.
        live = {type(module).__name__: type(module) for module in model.modules()} if source.is_live else {}
        kept = graphs if source.adopt else {}
        builder = _Builder(description.folder, name, source.trust_remote_code, live, kept)
        with about(name):
            stack = _stack_of(description, name, builder, notes, next(iter(graphs.values()), None))
    if source.is_live:
        _check_live(model, stack)
    return stack


def _without_prompt(description: StackDescription, name: str) -> tuple[StackDescription, tuple[str, ...]]:
    """The stack whose first pooling leaves the prompt out, and a note that it does."""
    entries = list(description.entries)
    for index, entry in enumerate(entries):
        if "include_prompt" in entry.config:
            if not entry.config["include_prompt"]:
                break
            entries[index] = dataclasses.replace(entry, config={**entry.config, "include_prompt": False})
            note = (
                "prompts are left out of the pooling, although its folder does not say so: sentence-transformers does "
                f"that for the name {name}, and for a folder of another name it does not"
            )
            return dataclasses.replace(description, entries=tuple(entries)), (note,)
    return description, ()


def _stack_of(
    description: StackDescription, name: str, builder: _Builder, notes: tuple[str, ...], file: str | None
) -> ModuleStack:
    built: list[Module] = []
    for entry in description.entries:
        if built and _has_pooled(built[0]):
            notes = (*notes, _POOLED)
            break
        # A plain folder has no configuration of its own: its pooling is as wide as its network.
        is_pooling = description.layout == "plain" and "pooling_mode" in entry.config
        width = {"embedding_dimension": built[-1].out_width(0)} if is_pooling else {}
        built.append(builder.module(dataclasses.replace(entry, config={**width, **entry.config})))
    _introduce(built)
    tower = None if description.image is None else description.image.processing
    stack = ModuleStack(built, **vars(description.settings), name=name, notes=notes, images=tower, file=file)
    for block in stack.modules():
        _warn_of_clamp(block, name)
    for route in stack.routes.values():
        _try(route, name)
    return stack


def _has_pooled(first: Module) -> bool:
    return isinstance(first, Transformer) and first.kept is not None and first.kept.pools


def _introduce(modules: Sequence[Module]) -> None:
    """Tells each module what stands right before it, where that has no other neighbour in any route."""
    pairs = list(dict.fromkeys(_neighbours(modules)))
    for before, behind in pairs:
        if behind is not None and [pair for pair in pairs if pair[0] is before] == [(before, behind)]:
            behind.stands_behind(before)


def _neighbours(modules: Sequence[Module]) -> Iterator[tuple[Module, Module | None]]:
    """Each module with the one behind it, those in Routers too; what is last stands before nothing."""
    for before, behind in itertools.zip_longest(modules, modules[1:]):
        yield before, behind
        if isinstance(before, Router):
            for route in before.routes.values():
                yield from _neighbours(route)


class _Builder:
    """Entries to modules; an entry that several routes of a Router name is built once."""

    def __init__(
        self,
        folder: Folder,
        name: str,
        trust_remote_code: bool,
        live: Mapping[str, type],
        graphs: Mapping[str, str],
    ) -> None:
        self._graphs = graphs
        self._folder = folder
        self._name = name
        self._trusted = trust_remote_code
        self._live = live
        self._shared: dict[str, Module] = {}

    def module(self, entry: ModuleEntry) -> Module:
        """The module of an entry.

        Raises:
            UnsupportedError: it is called with keywords that are not compiled.
        """
        found = self._built(entry)
        found.keywords = tuple(name for name in entry.keywords if name == TASK)
        reason = refusal(found.keywords_of_its_code(entry.keywords))
        if reason:
            raise UnsupportedError(self._name, f"module {entry.position} ({type(found).__name__}) {reason}")
        return found

    def _built(self, entry: ModuleEntry) -> Module:
        routes = {name: [self._once(inner) for inner in route] for name, route in entry.routes.items()}
        graph = self._graphs.get(entry.path) if entry.kind.name == Transformer.__name__ else None
        saved = SavedModule(entry, routes, self._folder, self._name, self._trusted, self._live, graph)
        kind: type[Module] = entry.kind.imported()
        try:
            return kind.build(saved)
        except (RuntimeError, MemoryError) as error:  # torch, of sizes that no memory holds
            path = self._folder.inside(entry.path)
            raise ModelFolderError(f"{path} cannot be built ({error}): its configuration is wrong") from error

    def _once(self, entry: ModuleEntry) -> Module:
        if entry.path not in self._shared:
            self._shared[entry.path] = self.module(entry)
        return self._shared[entry.path]


def _warn_of_clamp(block: object, name: str) -> None:
    if isinstance(block, InputModule) and block.clamped_from is not None:
        logger.warning(
            "%s: the length limit %d is more than the network has positions for; texts are cut at %d tokens",
            name,
            block.clamped_from,
            block.max_seq_length,
        )


def _try(route: Route, name: str) -> None:
    """Runs a few texts, so that what only shows in the network's real outputs is a sentence and not a traceback."""
    try:
        texts = ["a", "The quick brown fox jumps over the lazy dog.", *route.front.probe_texts()[-1:]]
        width = route.width_made(route.examples_of(texts))
    except StcompileError:
        raise
    except Exception as error:  # the network may fail in any way
        reason = f"its modules do not work together ({type(error).__name__}: {error}): correct its configuration"
        raise UnsupportedError(name, route.why_it_failed(error) or reason) from error
    if width != route.dim:
        raise UnsupportedError(name, f"it makes {width} values where its configuration says {route.dim}: correct it")


def _check_live(model: Any, stack: ModuleStack) -> None:
    """A live object can hold what no folder can: tokenizer sides set by hand, arguments of activations."""
    tasks: tuple[str | None, ...] = (None,) if stack.routing is None else tuple(stack.routing.tasks)
    dtype = next((parameter.dtype for parameter in model.parameters()), torch.float32)
    allowed = _LIVE_ERROR if dtype == torch.float32 else _LIVE_HALF_ERROR
    if stack.kind == RERANKER:
        pairs = stack.route(None).examples_of(_LIVE_TEXTS)
        found = stack.encode(pairs, output=LOGITS)
        try:
            with left_in_mode(model):
                given = model.predict([list(pair) for pair in pairs], prompt="", activation_fn=torch.nn.Identity())
        except Exception as error:  # of a network that has no positions for what sentence-transformers cuts at
            reason = f"it fails on a long pair ({type(error).__name__}: {one_line(error, 200)}): give it a max_length"
            raise UnsupportedError(stack.name, reason) from error
        expected = np.asarray(given, np.float32).reshape(len(pairs), -1)
        if expected.shape != found.shape or not np.abs(expected - found).max() <= allowed * np.abs(expected).max():
            raise UnsupportedError(stack.name, _NOT_IN_THE_FOLDER)
        return
    form: dict[str, Any] = {"convert_to_tensor": True}
    if stack.kind == SPARSE:
        form |= {"convert_to_sparse_tensor": False}
    elif stack.kind == MULTI_VECTOR:
        form = {"convert_to_numpy": True}
    for task in tasks:
        # Releases before 5.0 know no task, and have no model that needs one.
        options: dict[str, Any] = {} if task is None else {"task": task}
        # All in one batch on both sides: where padding changes the vectors, it changes both alike.
        output = TOKENS if stack.kind == MULTI_VECTOR else None
        found = stack.encode(_LIVE_TEXTS, output=output, task=task)
        if stack.kind == SPARSE:
            # All: a SparseAutoEncoder keeps some where nothing is asked for.
            options["max_active_dims"] = found.shape[1]
        try:
            with left_in_mode(model), all_vectors(model):
                given = model.encode(_LIVE_TEXTS, prompt="", **form, **options)
        except Exception as error:  # of a network that has no positions for what sentence-transformers cuts at
            reason = f"it fails on a long text ({type(error).__name__}: {one_line(error, 200)}): lower max_seq_length"
            raise UnsupportedError(stack.name, reason) from error
        if stack.kind == MULTI_VECTOR:
            expected = as_ragged([row.astype(np.float32) for row in given])
        else:
            expected = np.asarray(given.float().cpu().numpy(), np.float32)
            found = found[:, : expected.shape[1]]
        if not _same(expected, found, allowed):
            raise UnsupportedError(stack.name, _NOT_IN_THE_FOLDER)


def _same(expected: Matrix, found: Matrix, allowed: float) -> bool:
    """Whether vectors are the same but for so much, where no row is longer than 1."""
    if [row.shape for row in expected] != [row.shape for row in found]:
        return False
    expected, found = joined(expected), joined(found)
    lengths = np.maximum(np.linalg.norm(expected, axis=1, keepdims=True), 1e-9)
    return bool(np.nanmax(np.abs(expected - found) / lengths) <= allowed)
