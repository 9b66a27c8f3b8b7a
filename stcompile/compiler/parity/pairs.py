"""Which pairs the parity of rerankers is judged on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stcompile.compiler.parity.probes import long_texts, probe_texts
from stcompile.compiler.stack.route import Route
from stcompile.errors import InputError
from stcompile.runtime.text.base import Text

_QUERIES, _DOCUMENTS = 4, 100

# Characters of a query, of the project's texts.
_SHORTEST, _LONGEST, _LONGEST_DOCUMENT = 15, 70, 400

# Pairs that run alone, with other mates and without kernels; and with each prompt.
_FEW, _PROMPTED = 24, 4


@dataclass(frozen=True)
class Pairs:
    """What is scored.

    Attributes:
        queries, documents: every query is scored with every document, in this order.
        edges: empty texts, texts at and beyond the length limit on either side, a text by itself.
        prompted: for each prompt of the model, a few pairs.
    """

    queries: tuple[str, ...]
    documents: tuple[str, ...]
    edges: tuple[Text, ...]
    prompted: tuple[tuple[tuple[Text, ...], str], ...]

    @classmethod
    def of(cls, texts: Sequence[str] | None, route: Route, prompts: Mapping[str, str]) -> Pairs:
        """Of some texts, the first of which are the queries; None takes the project's.

        Raises:
            InputError: there are fewer than two.
        """
        if texts is None:
            known = [*probe_texts(), *route.front.probe_texts()]
            asked = [text for text in known if _SHORTEST <= len(text.strip()) <= _LONGEST]
            queries = asked[:: max(1, len(asked) // _QUERIES)][:_QUERIES]
            others = [text for text in known if text.strip() and len(text) <= _LONGEST_DOCUMENT]
            documents = others[:: max(1, len(others) // _DOCUMENTS)][:_DOCUMENTS]
        else:
            if len(texts) < 2:
                raise InputError("rerankers are judged on a query and documents: pass at least two texts")
            count = min(_QUERIES, max(1, len(texts) // 4))
            queries, documents = list(texts[:count]), list(texts[count : count + _DOCUMENTS])
        query, document = queries[0], documents[0]

        def tokens(text: str) -> int:
            return int(route.feeds([("", text)])["input_ids"].size)

        long = long_texts(documents, route.front.max_seq_length, tokens, flat=False)[:1]
        edges: list[Text] = [("", document), (query, ""), ("", ""), (query, query), (document, query)]
        edges += [] if route.front.wants_pairs else [query]
        edges += [pair for text in long for pair in ((query, text), (text, document), (text, text))]
        # sentence-transformers fails on what has no token at all.
        edges = [pair for pair in edges if route.feeds([pair])["attention_mask"].any()]
        few = [(query, document) for query in queries for document in documents][:_PROMPTED]
        return cls(
            tuple(queries),
            tuple(documents),
            tuple(edges),
            tuple((tuple(few), prompt) for prompt in dict.fromkeys(filter(None, prompts.values()))),
        )

    @property
    def ranked(self) -> list[Text]:
        """Every query with every document."""
        return [(query, document) for query in self.queries for document in self.documents]

    @property
    def few(self) -> list[Text]:
        """An even sample of these."""
        return self.ranked[:: max(1, len(self.ranked) // _FEW)]

    @property
    def all(self) -> list[Text]:
        """All pairs that are compared, in their order."""
        return [*self.ranked, *self.edges, *(pair for some, _ in self.prompted for pair in some)]

    @property
    def read_by_own_modules(self) -> list[tuple[list[Text], str]]:
        """Pairs with their prompt that tell whether our own modules read a folder as the reference does."""
        return [([*self.few[:4], *self.edges], ""), *((list(some[:2]), prompt) for some, prompt in self.prompted)]
