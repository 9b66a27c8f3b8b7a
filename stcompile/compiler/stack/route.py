"""`Route`: one straight line of modules, from text to the sentence embedding; a graph is made of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from stcompile.artifact.manifest import (
    ANSWERS,
    ENCODER,
    LOGITS,
    MULTI_VECTOR,
    RERANKER,
    SCORES,
    SENTENCE,
    SPARSE,
    TOKENS,
    TextSpec,
    TokenRows,
    TokenWeights,
)
from stcompile.compiler.metrics import as_ragged, centred, joined
from stcompile.compiler.modules.base import Example, Features, InputModule, Module
from stcompile.compiler.modules.multi_vector_mask import MultiVectorMask
from stcompile.compiler.modules.pooling import Pooling
from stcompile.compiler.modules.scores import Scores
from stcompile.compiler.modules.sparse_auto_encoder import SparseAutoEncoder
from stcompile.compiler.modules.sparse_static_embedding import SparseStaticEmbedding
from stcompile.compiler.modules.splade_pooling import SpladePooling
from stcompile.compiler.modules.token_pooling import HierarchicalTokenPooling
from stcompile.compiler.modules.transformer import Transformer
from stcompile.errors import StcompileError, UnsupportedError
from stcompile.runtime.text.base import Feeds, Text
from stcompile.runtime.token_pooling import TokenPooling
from stcompile.runtime.token_rows import rows_of, without_pooling

# What a front end's file is called, by its kind; the others hold a tokenizer of the tokenizers library.
_FILES = {"words": "words", "bow": "words"}


class Route(nn.Module):
    """Modules that run one after the other, checked against each other.

    Args:
        modules: one that reads text first.
        name: what to call it in an error.
        keywords: what each module is called with besides the features; None means nothing.
        noted: what a Router in front writes among the features, its task for one.
        kind: what is made of it, one of `ANSWERS`.
        shares: the name of the route whose graph is its own too; None for a graph of its own.

    Attributes:
        answers: the features that its graph ends in, the one of its kind first.
        shares: as above.
        longest: most tokens of a text that its graph meets; None when unlimited.

    Raises:
        UnsupportedError: they do not fit each other; names everything found.
    """

    def __init__(
        self,
        modules: Sequence[Module],
        name: str,
        *,
        keywords: Sequence[Mapping[str, Any]] | None = None,
        noted: Mapping[str, Any] | None = None,
        kind: str = ENCODER,
        shares: str | None = None,
    ) -> None:
        super().__init__()
        self.kind = kind
        self.shares = shares
        last = modules[-1] if modules else None
        more = (LOGITS,) if isinstance(last, Scores) and not last.is_identity else ()
        self.answers = (ANSWERS[kind], *more)
        self._keywords = tuple(keywords or [{}] * len(modules))
        self._noted = dict(noted or {})
        self._widths = _checked_widths(modules, name, self.answers[0], _misplaced(modules, kind))
        self.blocks = nn.ModuleList(modules)
        self._line = tuple(modules)
        self.name = name
        self.min_seq_length = _least_length(modules)
        self.longest = self.front.max_seq_length
        self.eval()

    @property
    def front(self) -> InputModule:
        """The module that reads text."""
        first = self._line[0]
        assert isinstance(first, InputModule)
        return first

    def serve(self, others: Sequence[Route]) -> None:
        """Makes its graph that of other routes, too."""
        limits = [route.front.max_seq_length for route in (self, *others)]
        known = [limit for limit in limits if limit is not None]
        self.longest = max(known) if len(known) == len(limits) else None

    @property
    def leaves_out_prompt(self) -> bool:
        """Whether some pooling excludes the prompt, so that the graph needs its length."""
        return self.front.counts_prompt and not all(block.include_prompt for block in self._line)

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the graph's inputs, in order."""
        names = self.front.input_names
        return (*names, "prompt_length") if self.leaves_out_prompt else names

    @property
    def dim(self) -> int:
        """Width of the sentence embedding; of a reranker, how many labels."""
        width = self._widths[self.answers[0]]
        if width is None:
            # Only running it tells how wide a custom module's output is.
            width = self._widths[self.answers[0]] = self.width_made(["a"])
        return width

    @property
    def names_tokens(self) -> bool:
        """Whether each dimension of its answer is a token of the vocabulary of the module that reads text."""
        return isinstance(self._line[-1], (SpladePooling, SparseStaticEmbedding))

    @property
    def active_dims(self) -> int | None:
        """How many of the largest numbers its last module keeps by itself; None keeps all."""
        last = self._line[-1]
        return last.k if isinstance(last, SparseAutoEncoder) else None

    @property
    def weights_computed(self) -> int:
        """How many numbers a token is multiplied with: all weights but tables of embeddings."""
        parts = list(self.modules())
        tables = {id(part.weight): part.weight for part in parts if isinstance(part, (nn.Embedding, nn.EmbeddingBag))}
        # A table that is a head, too, is multiplied with.
        heads = {id(part.weight) for part in parts if isinstance(part, nn.Linear)}
        looked_up = sum(table.numel() for key, table in tables.items() if key not in heads)
        return sum(part.numel() for part in self.parameters()) - looked_up

    def makes(self, feature: str) -> bool:
        """Whether its modules make a feature."""
        return feature in self._widths

    @property
    def weights(self) -> TokenWeights:
        """How the weights of a text's tokens become a sparse vector, as in FlagEmbedding's `encode`."""
        assert isinstance(self.front, Transformer)
        tokenizer = self.front.tokenizer
        special = (tokenizer.cls_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id)
        known = sorted({int(number) for number in special if number is not None})
        return TokenWeights(self.front.vocabulary_size, tuple(known))

    @property
    def rows(self) -> TokenRows:
        """Which tokens of a text have a vector, where it has several, and what becomes of those."""
        if self.kind != MULTI_VECTOR:
            # FlagEmbedding's: all but the first, whose vector is the text's.
            return TokenRows(leading=1)
        masks = [block for block in self._line if isinstance(block, MultiVectorMask)]
        found = TokenRows(
            skipped_ids=tuple(number for mask in masks for number in mask.skipped_ids),
            kept_ids=next((mask.kept_ids for mask in masks if mask.kept_ids is not None), None),
            keeps_unseen=bool(masks),
        )
        pooling = self._pooling
        if pooling is None:
            return found
        return dataclasses.replace(
            found,
            pool_factor=float(pooling.pool_factor),
            num_protected_tokens=pooling.num_protected_tokens,
            normalizes=pooling.normalize_embeddings,
        )

    @property
    def _pooling(self) -> TokenPooling | None:
        last = self._line[-1]
        return last.pooling if isinstance(last, HierarchicalTokenPooling) else None

    @property
    def marks_unseen(self) -> bool:
        """Whether the mask of its graph may mark tokens, by 2, that are computed and that no token attends to."""
        return isinstance(self.front, Transformer) and self.front.marks_unseen

    @property
    def makes_tokens(self) -> bool:
        """Whether there are token embeddings, one for each token."""
        return TOKENS in self._widths and self.front.has_masked_rows

    @property
    def pools_hidden(self) -> bool:
        """Whether what pooling reads is the network's last hidden state as it is, and nothing else of the network."""
        front, *rest = self._line
        return (
            isinstance(front, Transformer) and front.gives_last_hidden and bool(rest) and isinstance(rest[0], Pooling)
        )

    def forward(self, features: Features) -> Features:
        features = {**features, **self._noted}
        for block, keywords in zip(self.blocks, self._keywords, strict=True):
            features = block(features, **keywords)
        return features

    @torch.inference_mode()
    def encode(
        self, texts: Sequence[Text], prompt: str | None = None, batch_size: int = 32, output: str | None = None
    ) -> NDArray[Any]:
        """Torch's vectors, in batches of like length.

        Args:
            texts: strings, or pairs of strings.
            prompt: text in front of each.
            batch_size: texts per forward pass.
            output: the feature to return, per text, of a multi-vector encoder before any of its vectors are made fewer;
                None takes the first of `answers`.

        Returns:
            float32 `(n, dim)`; of a multi-vector encoder an array of objects, of each text float32 `(tokens, dim)`.
        """
        if not len(texts):
            return as_ragged([]) if self.kind == MULTI_VECTOR else np.zeros((0, self.dim), dtype=np.float32)
        rows: list[NDArray[np.float32]] = [np.zeros(0, dtype=np.float32)] * len(texts)
        order = sorted(range(len(texts)), key=lambda index: -sum(map(len, texts[index])))
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            features = self(self.features([texts[index] for index in batch], prompt))
            values = features[output or self.answers[0]].float().numpy()
            if self.kind == MULTI_VECTOR:
                values = self._scored(values, features["attention_mask"].numpy() > 0, pools=output is None)
            for index, row in zip(batch, values, strict=True):
                rows[index] = row
        return as_ragged(rows) if self.kind == MULTI_VECTOR else np.stack(rows)

    def answers_in(self, made: NDArray[np.float32], feeds: Feeds) -> NDArray[Any]:
        """What a graph made of `feeds`, as `encode` gives it of the output `raw`."""
        if self.kind != MULTI_VECTOR:
            return made
        return as_ragged(rows_of(made, feeds, without_pooling(self.rows)))

    def width_made(self, texts: Sequence[Text]) -> int:
        """How wide the vectors are that it makes of some texts."""
        return int(self.encode(texts)[0].shape[-1])

    def _scored(
        self, values: NDArray[np.float32], mask: NDArray[np.bool_], *, pools: bool
    ) -> list[NDArray[np.float32]]:
        pooling = self._pooling if pools else None
        rows = [text[kept] for text, kept in zip(values, mask, strict=True)]
        return rows if pooling is None else [pooling.of(row) for row in rows]

    def examples_of(self, texts: Sequence[str]) -> list[Text]:
        """Texts as this route reads them: of a reranker each with the next one, as a pair."""
        if self.kind != RERANKER:
            return list(texts)
        return [*zip(texts, [*texts[1:], *texts[:1]], strict=True)]

    @property
    def raw(self) -> str:
        """The feature that says most: of a reranker its logits, which no activation has flattened."""
        return LOGITS if self.kind == RERANKER else self.answers[0]

    def comparable(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Rows to be compared one by one; of a reranker all logits about their mean, as one row: alone, each would be
        compared with its own size. Of several vectors a text those of all texts.
        """
        return centred(rows) if self.kind == RERANKER else joined(rows)

    def feeds(self, texts: Sequence[Text], prompt: str | None = None) -> dict[str, NDArray[np.int64]]:
        """The graph's inputs for one batch of texts, as the runtime makes them: `input_names` to int64 arrays."""
        features = self.features(texts, prompt)
        return {name: features[name].numpy().astype(np.int64, copy=False) for name in self.input_names}

    def front_end(self, file: str) -> tuple[TextSpec, str]:
        """How the runtime turns strings into the graph's inputs. Arguments and errors as `InputModule.front_end`."""
        spec, content = self.front.front_end(file)
        return dataclasses.replace(spec, min_seq_length=self.min_seq_length), content

    def examples(self) -> dict[str, Example]:
        """What to trace each of `input_names` with."""
        found = self.front.examples()
        return {**found, "prompt_length": Example(torch.tensor(1))} if self.leaves_out_prompt else found

    def notes(self) -> tuple[str, ...]:
        """What a user of the model should know, one sentence each."""
        return tuple(dict.fromkeys(note for block in self._line for note in block.notes(self.front)))

    def why_it_failed(self, error: Exception) -> str:
        """The reason and its remedy, as the module that failed on a text knows them; empty where none does."""
        return next(filter(None, (block.why_it_failed(error) for block in self._line)), "")

    def features(self, texts: Sequence[Text], prompt: str | None = None) -> Features:
        """What its modules are given for one batch of texts."""
        features = self._tokenized(texts, prompt)
        if self.leaves_out_prompt:
            features["prompt_length"] = torch.tensor(self.front.prompt_length(prompt))
        return features

    def _tokenized(self, texts: Sequence[Text], prompt: str | None) -> Features:
        try:
            return self.front.widened(self.front.tokenize(texts, prompt), self.min_seq_length)
        except StcompileError:
            raise
        except Exception as error:  # of tokenizers, which raises bare Exception
            raise UnsupportedError(self.name, f"its tokenizer fails on a text ({error}): repair it") from error


def front_ends(
    routes: Mapping[str, Route], *, length_multiple: int = 1, names: str = "{}"
) -> tuple[dict[str, TextSpec], dict[str, str]]:
    """What turns strings into the inputs of each route's graph; an engine may want rows of a multiple of positions.

    Args:
        routes: by name.
        length_multiple: as of the manifest.
        names: where files are, `{}` standing for what they are called.

    Returns:
        route name to the manifest's description, and file name to content; equal contents are one file.

    Raises:
        UnsupportedError: a front end does something the runtime cannot.
    """
    files: dict[str, str] = {}
    specs = {}
    for route_name, route in routes.items():
        spec, content = route.front_end("")
        number = f"_{len(files)}" if files else ""
        name = files.setdefault(content, names.format(f"{_FILES.get(spec.kind, 'tokenizer')}{number}.json"))
        specs[route_name] = dataclasses.replace(spec, tokenizer=name, length_multiple=length_multiple)
    return specs, {name: content for content, name in files.items()}


def _least_length(modules: Sequence[Module]) -> int:
    """Fewest positions that leave every module something to work on."""
    for least in range(1, _LONGEST_NEED):
        length = least
        for module in modules:
            length = module.out_length(length)
            if length < 1:
                break
        else:
            return least
    return _LONGEST_NEED


def _misplaced(modules: Sequence[Module], kind: str) -> list[str]:
    """What is wrong with where modules are of which a part is done behind the graph."""
    return [*_misplaced_encoders(modules, kind), *_misplaced_masks(modules, kind)]


def _misplaced_masks(modules: Sequence[Module], kind: str) -> list[str]:
    """Of a MultiVectorMask and a HierarchicalTokenPooling: which tokens have vectors."""
    named = [(place, module, type(module).__name__) for place, module in enumerate(modules)]
    masks = [item for item in named if isinstance(item[1], MultiVectorMask)]
    pooling = [item for item in named if isinstance(item[1], HierarchicalTokenPooling)]
    if kind != MULTI_VECTOR:
        say = "set model_type to MultiVectorEncoder in config_sentence_transformers.json"
        return [
            f"module {place} ({name}) is of multi-vector encoders, and its settings say {kind}: {say}"
            for place, _, name in (*masks, *pooling)
        ]
    return [
        *(f"module {place} ({name}) is a second one of its kind: leave one out" for place, _, name in masks[1:]),
        *(
            f"module {place} ({name}) makes vectors fewer, and something stands behind it: end the stack with it"
            for place, _, name in pooling
            if place < len(modules) - 1
        ),
    ]


def _misplaced_encoders(modules: Sequence[Module], kind: str) -> list[str]:
    """Of a SparseAutoEncoder: how many of its numbers are kept."""
    places = [place for place, module in enumerate(modules) if isinstance(module, SparseAutoEncoder)]
    if places and kind != SPARSE:
        return [f"module {places[0]} (SparseAutoEncoder) makes sparse vectors, and its settings say {kind}: {_SAY_SO}"]
    return [
        f"module {place} (SparseAutoEncoder) keeps the largest numbers, and something stands behind it: end the stack "
        "with it"
        for place in places
        if place < len(modules) - 1
    ]


def _checked_widths(modules: Sequence[Module], name: str, answer: str, reasons: Sequence[str]) -> dict[str, int | None]:
    """Feature to its width, None where only running it tells.

    Refuses a stack whose modules do not fit each other, before torch fails in the middle of it; beside what is known to
    be wrong, `reasons`.
    """
    front, *rest = modules
    if not isinstance(front, InputModule):
        raise UnsupportedError(name, f"its first module, {type(front).__name__}, does not read text: {_FIRST}")
    widths: dict[str, int | None] = {front.writes: front.out_width(0)}
    features = set(front.features)
    reasons = [*reasons]
    shortened = False
    for position, block in enumerate(rest, start=1):
        label = f"module {position} ({type(block).__name__})"
        if isinstance(block, InputModule):
            reasons.append(f"{label} reads text, which only the first module can: correct modules.json")
            continue
        if block.is_opaque:
            widths = dict.fromkeys((*widths, answer))
            continue
        missing = [need for need in block.needs if need not in features]
        if missing:
            reasons.append(f"{label} needs {', '.join(missing)}, which {type(front).__name__} does not make: {_MADE}")
        if block.reads not in widths:
            reasons.append(f"{label} reads {block.reads}, but nothing before it writes that: correct modules.json")
            continue
        given = widths[block.reads]
        if given is not None and block.in_width not in (None, given):
            reasons.append(f"{label} takes {block.in_width} values but is given {given}: correct its configuration")
        reasons += [f"{label} {problem}" for problem in block.misfits(front)]
        if shortened and block.counts_tokens:
            reasons.append(f"{label} counts tokens, but a CNN before it left fewer positions than tokens: {_SHORTER}")
        shortened = shortened or block.out_length(_MANY) != _MANY
        widths[block.writes] = None if given is None else block.out_width(given)
    if answer not in widths:
        reasons.append(_UNANSWERED[answer])
    if reasons:
        raise UnsupportedError(name, *reasons)
    return widths


# Further than any convolution needs; and a length at which every stride and even kernel shows.
_LONGEST_NEED, _MANY = 10_000, 100_000

_UNANSWERED = {
    SENTENCE: "nothing makes a sentence embedding: add a Pooling to modules.json",
    TOKENS: "nothing makes token embeddings: begin the stack with a Transformer",
    SCORES: "nothing makes scores: end the stack with a network that classifies, a LogitScore, or a Dense whose "
    "module_output_name is scores",
}
_SAY_SO = "set model_type to SparseEncoder in config_sentence_transformers.json"
_SHORTER = "give it odd kernel_sizes and strides of 1"
_FIRST = "begin the stack with a Transformer, StaticEmbedding, WordEmbeddings or BoW"
_MADE = "sentence_lengths come from WordEmbeddings alone, token ids and masks from WordEmbeddings and Transformer"
