"""One graph of an artifact, ready to run: its text front end and its engine; and which one a task takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stcompile.errors import ArtifactError, InputError, StcompileError
from stcompile.manifest import NO_PADDING, GraphSpec, Manifest, RoutingSpec, TextSpec
from stcompile.runtime import batching
from stcompile.runtime.engines import open_engine
from stcompile.runtime.text.base import Feeds, Text, TextFrontEnd
from stcompile.runtime.text.bow import BowText
from stcompile.runtime.text.static import StaticText
from stcompile.runtime.text.transformer import TransformerText
from stcompile.runtime.text.words import WordsText

# TextSpec.kind to the front end that reads it.
FRONT_ENDS: dict[str, Callable[[Path, TextSpec, Sequence[str]], TextFrontEnd]] = {
    "transformer": TransformerText,
    "static": StaticText,
    "words": WordsText,
    "bow": BowText,
}

_INPUTS = frozenset(("input_ids", "attention_mask", "token_type_ids", "prompt_length", "offsets"))

# Tokens of a run where texts lie behind each other: adding up the rows of a table costs texts times tokens.
_FLAT_TOKENS = 512


class OpenRoute:
    """Runs the graph of one route; safe to use from several threads at once.

    Args:
        folder: the artifact.
        manifest: the artifact's.
        graph: which of its graphs.
        provider: execution provider.
        threads: engine threads, or None.

    Raises:
        ArtifactError, ProviderError, MissingExtraError: as `stcompile.load`.
    """

    def __init__(self, folder: Path, manifest: Manifest, graph: GraphSpec, provider: str, threads: int | None) -> None:
        spec = manifest.text_of(graph)
        unknown = [item.name for item in graph.inputs if item.name not in _INPUTS]
        if spec.kind not in FRONT_ENDS or unknown:
            what = f"input {unknown[0]!r}" if unknown else f"text front end {spec.kind!r}"
            raise ArtifactError(f"the artifact's {what} is unknown: pip install --upgrade stcompile")
        self.name = graph.route
        self.dim = manifest.dim_of(graph)
        self.outputs = tuple(output.name for output in graph.outputs)
        self.max_seq_length = spec.max_seq_length
        self.pads_to_multiple = spec.length_multiple > 1
        self._text = FRONT_ENDS[spec.kind](folder, spec, [item.name for item in graph.inputs])
        self._engine = open_engine(folder, graph, manifest, provider, threads)
        self._is_flat = "offsets" in [item.name for item in graph.inputs]
        self._same_length_only = manifest.padding == NO_PADDING

    @property
    def takes_pairs(self) -> bool:
        """Whether a text may be a pair of texts."""
        return self._text.takes_pairs

    def batches(self, texts: Sequence[Text], prompt: str | None, batch_size: int) -> Iterator[tuple[list[int], Feeds]]:
        """Positions of some texts, and the graph's inputs for them, until every text had its turn.

        Raises:
            InputError: a text is not valid Unicode, or the tokenizer fails on it.
        """
        for window in batching.windows(len(texts)):
            try:
                tokenized = self._text.tokenize(texts[window.start : window.stop], prompt)
            except TypeError as error:  # what tokenizers says to anything that is not valid Unicode
                raise InputError(_not_unicode(texts)) from error
            except StcompileError:
                raise
            except Exception as error:  # tokenizers raises bare Exception, e.g. for a word that has no id
                raise InputError(f"the model's tokenizer cannot read a text ({error}): leave it out") from error
            for batch in self._grouped([len(row) for row in tokenized], batch_size):
                feeds = self._text.collate([tokenized[index] for index in batch], prompt)
                yield [window.start + index for index in batch], feeds

    def _grouped(self, lengths: list[int], batch_size: int) -> Iterator[list[int]]:
        if self._is_flat:
            return batching.by_tokens(lengths, batch_size, _FLAT_TOKENS)
        return batching.by_length(lengths, batch_size, same_length_only=self._same_length_only)

    def run(self, feeds: Feeds, output: str) -> NDArray[np.float32]:
        """One output of the graph."""
        return self._engine.run(feeds, (output,))[0]


def route_of(routing: RoutingSpec | None, task: str | None) -> str:
    """The route a task takes (module-stack spec, section 11.2).

    Raises:
        InputError: it has none, it is no text, or a task must be named and was not.
    """
    if routing is None:
        return ""
    if task is None:
        route = routing.default
    else:
        # Anything else than text could not even be looked up.
        route = routing.tasks.get(task, routing.otherwise) if isinstance(task, str) else None
    if route is None:
        known = ", ".join(map(repr, routing.tasks))
        problem = "this model needs a task" if task is None else f"no route for task {task!r}"
        raise InputError(f"{problem}: use encode_query or encode_document, or pass task= one of {known}")
    return route


def _not_unicode(texts: Sequence[Text]) -> str:
    for index, text in enumerate(texts):
        if any("\ud800" <= char <= "\udfff" for part in ([text] if isinstance(text, str) else text) for char in part):
            return f"item {index} holds half of a surrogate pair, which is no text: decode it as UTF-8 first"
    return "the prompt holds half of a surrogate pair, which is no text: decode it as UTF-8 first"
