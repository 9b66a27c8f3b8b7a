"""What parity believes: sentence-transformers itself, encoding from the folder that was compiled."""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
import torch
import transformers

from stcompile.artifact import scratch
from stcompile.artifact.manifest import ENCODER, HYBRID, LOGITS, MULTI_VECTOR, RERANKER, SENTENCE, SPARSE, TOKENS
from stcompile.compiler.metrics import Matrix, as_ragged, has_nan
from stcompile.compiler.modules.backbone import quiet_transformers, silenced
from stcompile.compiler.modules.graph_weights import write_with_weights
from stcompile.compiler.parity.adopted_reference import with_graph, zeros_of
from stcompile.compiler.stack.load import load_stack
from stcompile.compiler.stack.module_stack import ModuleStack
from stcompile.compiler.stack.multi_vector import all_vectors
from stcompile.compiler.stack.source import ModelSource, left_in_mode
from stcompile.errors import MissingExtraError, one_line
from stcompile.extras import require
from stcompile.runtime.arguments import local_path
from stcompile.runtime.pictures import pillow_for_images
from stcompile.runtime.text.base import Text

# How a report calls the judge where sentence-transformers cannot be one.
OWN = "stcompile's own modules"

# What sentence-transformers calls the class of each kind.
_CLASSES = {
    ENCODER: "SentenceTransformer",
    RERANKER: "CrossEncoder",
    SPARSE: "SparseEncoder",
    MULTI_VECTOR: "MultiVectorEncoder",
    HYBRID: "SentenceTransformer",
}

_PURPOSE = "Proving a compiled model"


class Reference:
    """Answers what the right vector of a text is.

    Args:
        judge: who answers.
        name: what to call it.
        own: our own modules, for texts that the judge cannot encode; they are not read before there is one.
    """

    def __init__(self, judge: Judge, name: str, own: Callable[[], ModuleStack]) -> None:
        self._judge = judge
        self._name = name
        self._open_own = own
        self._own: Judge | None = None
        self._unanswered: dict[tuple[Text, str], str] = {}

    @property
    def about(self) -> str:
        """Who judged, and what was left to our own modules, in one line."""
        if not self._unanswered:
            return self._name
        texts = len({text for text, _ in self._unanswered})
        which = "a text" if texts == 1 else f"{texts} texts"
        reason = next(iter(self._unanswered.values()))
        return f"{self._name}; for {which} that it cannot encode ({reason}), {OWN}"

    def encode(self, texts: Sequence[str], *, prompt: str, task: str | None, dim: int, batch_size: int = 1) -> Matrix:
        """Sentence embeddings.

        Args:
            texts: at least one.
            prompt: text in front of each; empty for none.
            task: which route of a Router; None for a model without, or its default.
            dim: dimensions to keep: all that the model makes.
            batch_size: texts of a batch.

        Returns:
            float32 `(n, dim)`; of a multi-vector encoder an array of objects, of each text float32 `(tokens, dim)`.
        """
        return self._answered(lambda judge, some: judge.encode(some, prompt, task, dim, batch_size), texts, prompt)

    def tokens(self, texts: Sequence[str], *, prompt: str, task: str | None) -> Matrix:
        """Token embeddings of each text alone, one text's after the other's: float32 `(tokens, hidden)`."""
        return self._answered(lambda judge, some: judge.tokens(some, prompt, task), texts, prompt)

    def logits(self, pairs: Sequence[Text], *, prompt: str, batch_size: int = 1) -> Matrix:
        """Of a reranker, what its scores are made of: float32 `(n, labels)`."""
        return self._answered(lambda judge, some: judge.encode(some, prompt, None, 0, batch_size), pairs, prompt)

    def scores(self, pairs: Sequence[Text], *, prompt: str) -> Matrix:
        """Of a reranker, the scores of each pair alone: float32 `(n, labels)`."""
        return self._answered(lambda judge, some: judge.scores(some, prompt), pairs, prompt)

    def images(self, paths: Sequence[str], *, dim: int, batch_size: int) -> Matrix:
        """Embeddings of the images in some files, float32 `(n, dim)`."""
        return self._answered(lambda judge, some: judge.images(some, dim, batch_size), paths, "")

    def _answered(self, ask: Callable[[Judge, Sequence[Any]], Matrix], texts: Sequence[Any], prompt: str) -> Matrix:
        reason = "NaN"
        try:
            found = ask(self._judge, texts)
            if not has_nan(found):
                return found
        except Exception as error:  # sentence-transformers lets every error of its modules through
            reason = _reason(error)
        if len(texts) > 1:
            return np.concatenate([self._answered(ask, [text], prompt) for text in texts])
        self._unanswered[texts[0], prompt] = reason
        if self._own is None:
            self._own = _OwnModules(self._open_own())
        return ask(self._own, texts)


def open_reference(source: ModelSource, kind: str = ENCODER, *, distilled: bool = False) -> Reference:
    """The reference of a model: sentence-transformers in float32 on the CPU; where it cannot load it, our own modules.

    Args:
        source: the model.
        kind: what it is, one of `ANSWERS`.
        distilled: whether it is the folder of one that was just distilled, not one of the user's.

    Raises:
        MissingExtraError: sentence-transformers is not installed.
    """
    package = require("sentence_transformers", _PURPOSE)
    name = f"sentence-transformers {package.__version__}"
    if source.adopt:
        name = f"{name} with the given graph in ONNX Runtime as its network"
    try:
        model = _opened(source, getattr(package, _CLASSES[kind]))
    except Exception as error:  # of sentence-transformers, transformers, the hub and whatever code came with the model
        stack = load_stack(source)
        about = f"{OWN} ({name} cannot load the model: {_reason(error)})"
        return Reference(_OwnModules(stack), about, lambda: stack)
    about = f"{name}, of the distilled model" if distilled else name
    return Reference(_JUDGES[kind](model), about, lambda: load_stack(source))


def check_installed() -> None:
    """Notices at once what would end an export after minutes; importing it takes seconds.

    Raises:
        MissingExtraError: sentence-transformers is not installed.
    """
    if find_spec("sentence_transformers") is None:
        raise MissingExtraError(
            f"{_PURPOSE} needs sentence_transformers, which is not installed: pip install 'stcompile[compile]'"
        )


class Judge(Protocol):
    """Answers as `Reference` says, logits by `encode`, or raises."""

    def encode(self, texts: Sequence[Any], prompt: str, task: str | None, dim: int, batch_size: int) -> Matrix: ...

    def tokens(self, texts: Sequence[str], prompt: str, task: str | None) -> Matrix: ...

    def scores(self, pairs: Sequence[Text], prompt: str) -> Matrix: ...

    def images(self, paths: Sequence[str], dim: int, batch_size: int) -> Matrix: ...


class _SentenceTransformers:
    """A SentenceTransformer, through its public `encode`; a live object is left in the mode it was in."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def encode(self, texts: Sequence[str], prompt: str, task: str | None, dim: int, batch_size: int) -> Matrix:
        rows = self._encode(texts, prompt, task, batch_size, output_value=SENTENCE, truncate_dim=dim)
        return np.asarray(rows, dtype=np.float32)

    def tokens(self, texts: Sequence[str], prompt: str, task: str | None) -> Matrix:
        rows = self._encode(texts, prompt, task, 1, output_value=TOKENS)
        return np.concatenate([row.float().numpy() for row in rows])

    def _encode(self, texts: Sequence[str], prompt: str, task: str | None, batch_size: int, **options: Any) -> Any:
        chosen = {} if task is None else {"task": task}
        with _quiet(), left_in_mode(self._model):
            return self._model.encode(
                list(texts), prompt=prompt, batch_size=batch_size, show_progress_bar=False, **options, **chosen
            )

    def scores(self, pairs: Sequence[Text], prompt: str) -> Matrix:
        raise TypeError("a SentenceTransformer scores no pairs")

    def images(self, paths: Sequence[str], dim: int, batch_size: int) -> Matrix:
        pillow = pillow_for_images()
        opened = [pillow.open(path) for path in paths]
        with _resized_by_pillow(self._model):
            rows = self._encode(opened, "", None, batch_size, output_value=SENTENCE, truncate_dim=dim)
        return np.asarray(rows, dtype=np.float32)


class _SparseEncoder(_SentenceTransformers):
    """A SparseEncoder, through its public `encode`, whose vectors are taken as they are, none of their numbers cut."""

    def encode(self, texts: Sequence[str], prompt: str, task: str | None, dim: int, batch_size: int) -> Matrix:
        # All: a SparseAutoEncoder, also one in a route, keeps some where nothing is asked for.
        options = {"convert_to_sparse_tensor": False, "max_active_dims": dim}
        rows = self._encode(texts, prompt, task, batch_size, **options)
        return np.asarray(rows.float().numpy(), dtype=np.float32)

    def tokens(self, texts: Sequence[str], prompt: str, task: str | None) -> Matrix:
        raise TypeError("a SparseEncoder makes no token embeddings")


class _MultiVectorEncoder(_SentenceTransformers):
    """A MultiVectorEncoder, through its public `encode`, before any of a text's vectors are made fewer."""

    def encode(self, texts: Sequence[str], prompt: str, task: str | None, dim: int, batch_size: int) -> Matrix:
        with all_vectors(self._model):
            rows = self._encode(texts, prompt, task, batch_size, convert_to_numpy=True)
        return as_ragged([row.astype(np.float32, copy=False) for row in rows])

    def tokens(self, texts: Sequence[str], prompt: str, task: str | None) -> Matrix:
        raise TypeError("a MultiVectorEncoder gives token embeddings by encode")


class _CrossEncoder:
    """A CrossEncoder, through its public `predict`; a live object is left in the mode it was in."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def encode(self, texts: Sequence[Any], prompt: str, task: str | None, dim: int, batch_size: int) -> Matrix:
        return self._predicted(texts, prompt, batch_size, activation_fn=torch.nn.Identity())

    def tokens(self, texts: Sequence[str], prompt: str, task: str | None) -> Matrix:
        raise TypeError("a CrossEncoder makes no token embeddings")

    def scores(self, pairs: Sequence[Text], prompt: str) -> Matrix:
        return self._predicted(pairs, prompt, 1)

    def images(self, paths: Sequence[str], dim: int, batch_size: int) -> Matrix:
        raise TypeError("a CrossEncoder encodes no images")

    def _predicted(self, pairs: Sequence[Text], prompt: str, batch_size: int, **options: Any) -> Matrix:
        # In a list a text by itself stands for a pair of nothing else.
        asked = [pair if isinstance(pair, str) else list(pair) for pair in pairs]
        with _quiet(), left_in_mode(self._model):
            if any(isinstance(pair, str) for pair in asked):
                found = [self._model.predict(pair, prompt=prompt, show_progress_bar=False, **options) for pair in asked]
            else:
                found = self._model.predict(
                    asked, prompt=prompt, batch_size=batch_size, show_progress_bar=False, **options
                )
        return np.asarray(found, dtype=np.float32).reshape(len(asked), -1)


_JUDGES: dict[str, Callable[[Any], Judge]] = {
    ENCODER: _SentenceTransformers,
    RERANKER: _CrossEncoder,
    SPARSE: _SparseEncoder,
    MULTI_VECTOR: _MultiVectorEncoder,
    HYBRID: _SentenceTransformers,
}


class _OwnModules:
    """The stack that was traced: what it misreads, it misreads here too."""

    def __init__(self, stack: ModuleStack) -> None:
        self._stack = stack

    def encode(self, texts: Sequence[Any], prompt: str, task: str | None, dim: int, batch_size: int) -> Matrix:
        output = {RERANKER: LOGITS, MULTI_VECTOR: TOKENS}.get(self._stack.kind)
        return self._stack.encode(texts, prompt, batch_size, output, task)

    def scores(self, pairs: Sequence[Text], prompt: str) -> Matrix:
        return self._stack.encode(pairs, prompt, 1)

    def tokens(self, texts: Sequence[str], prompt: str, task: str | None) -> Matrix:
        return np.concatenate([self._stack.encode([text], prompt, 1, TOKENS, task)[0] for text in texts])

    def images(self, paths: Sequence[str], dim: int, batch_size: int) -> Matrix:
        assert self._stack.image is not None
        return self._stack.image.encode(paths, batch_size=batch_size)


@contextlib.contextmanager
def _resized_by_pillow(model: Any) -> Iterator[None]:
    """Lets a model's images be resized by Pillow, also where torchvision is installed and transformers prefers it.

    The runtime has Pillow alone, and torchvision's numbers are others (docs/images.md).
    """
    processor: Any = getattr(model[0], "processor", None)
    own = getattr(processor, "image_processor", None)
    name = type(own).__name__.removesuffix("Fast")
    # What transformers 4 calls fast has one of Pillow by the plain name.
    plain = getattr(transformers, name, None) if type(own).__name__ != name else None
    by_pillow = getattr(transformers, f"{name}Pil", plain)
    if own is None or by_pillow is None:
        yield
        return
    processor.image_processor = by_pillow.from_dict(own.to_dict())
    try:
        yield
    finally:
        processor.image_processor = own


def _opened(source: ModelSource, kind: Any) -> Any:
    """As sentence-transformers loads by default, but in float32 whatever is stored, and without the hub."""
    if source.is_live:
        return _in_float32(source.model)
    options: dict[str, Any] = {
        "device": "cpu",
        "trust_remote_code": source.trust_remote_code,
        "local_files_only": True,
        "model_kwargs": {_dtype_argument(): torch.float32},
    }
    given = str(source.model)
    path = local_path(given)
    with _quiet():
        if source.adopt:
            return _adopted(source, kind, options)
        if path.exists() and source.graphs(path):
            # It has no weights that sentence-transformers would read.
            with source.located() as (folder, _):
                return kind(str(folder), **options).float()
        if path.exists():
            return kind(given if os.path.isdir(given) else str(path), **options).float()  # noqa: PTH112 - as it does
        with contextlib.suppress(Exception):
            cache = source.cache_dir or require("huggingface_hub", _PURPOSE).constants.HF_HUB_CACHE
            # transformers looks for an adapter on the hub all the same, and without a network again and again.
            kwargs = options["model_kwargs"] | {"adapter_kwargs": {"local_files_only": True}}
            found = {**options, "model_kwargs": kwargs, "revision": source.revision, "cache_folder": cache}
            return kind(given, **found).float()
        # It looks for files elsewhere than we keep them.
        with source.located() as (folder, _):
            return kind(str(folder), **options).float()


def _adopted(source: ModelSource, kind: Any, options: dict[str, Any]) -> Any:
    with source.as_it_is() as (folder, _), scratch("reference") as made:
        graphs = source.graphs(folder)
        write_with_weights(folder, graphs, made, zeros_of)
        ((path, file),) = graphs.items()
        return with_graph(kind, kind(str(made), **options).float(), folder / path, file)


def _in_float32(live: Any) -> Any:
    """The object itself, or a copy of one that computes elsewhere or in fewer bits."""
    tensors = [*live.parameters(), *live.buffers()]
    exact = all(tensor.dtype == torch.float32 for tensor in tensors if tensor.is_floating_point())
    if exact and all(tensor.device.type == "cpu" for tensor in tensors):
        return live
    return copy.deepcopy(live).to("cpu").float()


def _dtype_argument() -> str:
    """What transformers calls the number type to load in: by another name since 4.56."""
    major, minor = (int(part) for part in transformers.__version__.split(".")[:2])
    return "dtype" if (major, minor) >= (4, 56) else "torch_dtype"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences what sentence-transformers and transformers say of a folder: it was said when it was read."""
    with silenced(["sentence_transformers"]), quiet_transformers():
        yield


def _reason(error: BaseException) -> str:
    """An error on one short line."""
    text = one_line(error, None).partition(". ")[0][:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
