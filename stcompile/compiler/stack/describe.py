"""What a model folder says it is: its module stack, prompts and everything unsupported, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stcompile.artifact.manifest import ENCODER, IMAGE, MULTI_VECTOR, RERANKER, SPARSE
from stcompile.compiler.kinds.base import ModuleEntry
from stcompile.compiler.kinds.bge_m3_head import heads_of
from stcompile.compiler.kinds.folder import Folder
from stcompile.compiler.kinds.image_processor import ImageSide, image_side_of
from stcompile.compiler.kinds.registry import KINDS
from stcompile.compiler.stack.entries import EntryReader
from stcompile.compiler.stack.multi_vector import completed, is_multi_vector, is_stanfords, stanfords, stored_in
from stcompile.compiler.stack.reranker import is_reranker, scores_of
from stcompile.compiler.stack.settings import Settings, settings_of
from stcompile.compiler.stack.sparse import active_dims_of, is_sparse
from stcompile.runtime.arguments import local_path

_EXPANDS = (
    "its query_expansion makes queries longer by tokens that multi-vector encoders alone score: set it to null, or "
    "model_type to MultiVectorEncoder in config_sentence_transformers.json"
)
_NOT_PLAIN = (
    "it has a modules.json, which says what it is: leave --sparse (sparse=True) out, which is for masked language "
    "models without one"
)
_READERS = f"{', '.join(kind.name for kind in KINDS.values() if kind.reads_text)} do"


@dataclass(frozen=True)
class StackDescription:
    """A model folder as read, before torch is involved.

    Attributes:
        folder: where it is.
        layout: `modules.json`; without one, `model2vec`, or `plain` for a transformers folder.
        entries: the modules that are supported, in order.
        settings: prompts, similarity and the like.
        unsupported: every reason it cannot be compiled, each with its remedy.
        image: its image tower; None without one.
    """

    folder: Folder
    layout: str
    entries: tuple[ModuleEntry, ...]
    settings: Settings
    unsupported: tuple[str, ...]
    image: ImageSide | None = None

    def of(self, modalities: Sequence[str] | None) -> StackDescription:
        """The same of what is taken of it, where None takes all, with what of that cannot be compiled."""
        if modalities is not None and IMAGE not in modalities:
            return replace(self, image=None)
        reasons = () if self.image is None else self.image.reasons
        if modalities is not None and self.image is None:
            reasons = (
                "it has no image tower, the other side of a model such as CLIP: leave image out of --modalities",
            )
        return replace(self, unsupported=(*self.unsupported, *reasons))


def describe(
    path: str | Path, *, trust_remote_code: bool = False, follow_links: bool = False, sparse: bool = False
) -> StackDescription:
    """Reads a model folder of any generation (spec sections 2 and 13).

    Args:
        path: the folder.
        trust_remote_code: take modules whose code comes with the model; without it they are unsupported.
        follow_links: take a folder whose links lead out of it.
        sparse: of a folder without modules.json, what sentence-transformers' SparseEncoder makes of it.

    Raises:
        ModelFolderError: missing, half-written, or with malformed JSON. What is merely unsupported is
            reported in `unsupported`.
    """
    folder = Folder(local_path(path), follow_links)
    folder.refuse_links_out()
    folder.refuse_paths_out()
    stored = folder.json_object("config_sentence_transformers.json")
    reader = EntryReader(folder, trust_remote_code)
    rows = folder.json("modules.json")
    network = None if rows is not None else folder.json_object("config.json", finite=False)
    scores_pairs = not sparse and is_reranker(stored, network)
    of_tokens = None
    if rows is not None:
        layout, entries = "modules.json", reader.listed(rows)
        if is_multi_vector(stored, entries):
            of_tokens = stored_in(stored)
    elif sparse:
        layout, entries = "plain", reader.of_plain_sparse()
    elif scores_pairs:
        layout, entries = "plain", reader.of_plain_reranker()
        # Without modules.json CrossEncoder does not look at it.
        stored = {}
    elif is_stanfords(network):
        layout = "plain"
        entries, of_tokens = stanfords(folder, reader.reasons)
    elif folder.json_object("config.json").get("model_type") == "model2vec":
        layout, entries = "model2vec", reader.of_model2vec()
    else:
        layout, entries = "plain", reader.of_plain_folder()
    reasons = reader.reasons
    reasons += [_NOT_PLAIN] if sparse and rows is not None else []
    kind = RERANKER if scores_pairs else SPARSE if is_sparse(stored, entries) else ENCODER
    if of_tokens is not None:
        kind, stored = MULTI_VECTOR, {**stored, "prompts": of_tokens.prompts}
        entries = completed(entries, of_tokens, reasons)
    if not reasons and not (_begins_with_text(entries) and not any(map(_reads_text, entries[1:]))):
        reasons.append(f"one module must read text, the first of the stack or of every route: {_READERS}")
    if scores_pairs and entries and not reasons:
        entries.append(scores_of(folder, stored, entries, reasons))
    expands = any(entry.config.get("query_expansion") is not None for entry in entries)
    reasons += [_EXPANDS] if expands and kind != MULTI_VECTOR else []
    if kind == ENCODER and rows is not None:
        entries += heads_of(folder, len(entries))
    settings = settings_of(stored, kind, reasons)
    if kind == SPARSE:
        settings = replace(settings, max_active_dims=active_dims_of(stored, entries, reasons))
    reads_images = kind == ENCODER and entries and not entries[0].routes
    image = image_side_of(folder, entries[0]) if reads_images else None
    return StackDescription(folder, layout, tuple(entries), settings, tuple(reasons), image)


def _begins_with_text(entries: Sequence[ModuleEntry]) -> bool:
    """Whether the first module of the list, or of every route of its Router, reads text, and no later one."""
    first = entries[0]
    if not first.routes:
        return _reads_text(first)
    routes = first.routes.values()
    return all(_begins_with_text(route) and not any(map(_reads_text, route[1:])) for route in routes)


def _reads_text(entry: ModuleEntry) -> bool:
    """Whether a module, or one in a route of it, reads text."""
    inner = [module for route in entry.routes.values() for module in route]
    return entry.kind.reads_text or any(map(_reads_text, inner))
