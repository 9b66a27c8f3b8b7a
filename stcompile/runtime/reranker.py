"""`Reranker`: pairs of texts to scores, with the meaning and defaults of `CrossEncoder.predict` and `rank`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from stcompile.artifact.manifest import LOGITS, RERANKER, SCORES
from stcompile.errors import InputError
from stcompile.runtime.activations import Activation, activated, check_activation
from stcompile.runtime.distinct import Distinct
from stcompile.runtime.inputs import at_least_one
from stcompile.runtime.loaded import Loaded
from stcompile.runtime.options import check_call, prompt_text, shaped
from stcompile.runtime.pairs import Pairs, listed_pairs, read_pairs
from stcompile.runtime.progress import progress
from stcompile.runtime.text.base import Text


class Reranker(Loaded):
    """Scores pairs of texts, a query and a document. One reranker may be used from several threads at once.

    Made by `stcompile.load`, or `Reranker.load`, which opens nothing else. It may be pickled: by its folder and
    options, and opened again where it is unpickled. A forked child opens the folder again when it first scores. As a
    context it is closed at the end.

    Attributes:
        artifact: what it was made from.
        device: where it computes.
        threads: threads that it computes on.
    """

    kind = RERANKER

    @property
    def num_labels(self) -> int:
        """How many scores a pair has; of one, results are `(n,)`."""
        return self._manifest.dim

    @property
    def _width(self) -> str:
        return f"num_labels={self.num_labels}"

    def predict(
        self,
        inputs: Pairs,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: SupportsIndex | None = None,
        show_progress_bar: bool | None = None,
        activation_fn: Activation | None = None,
        apply_softmax: bool | None = False,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: object = None,
        pool: None = None,
        chunk_size: None = None,
    ) -> Any:
        """Scores pairs, as `CrossEncoder.predict` does.

        Args:
            inputs: one pair of texts, `["query", "document"]`, or any number of them in an order: a list, or an array
                `(n, 2)`. A text in place of a pair is scored by itself.
            prompt_name: which of `prompts` to put in front of the first text of each pair.
            prompt: the text to put in front of it; wins over `prompt_name`.
            batch_size: pairs per run of the graph; None makes batches of the artifact's token budget, which is faster.
            show_progress_bar: a progress bar on stderr; None shows one when the `stcompile` logger is at INFO or below.
            activation_fn: what makes scores of logits: `identity`, `sigmoid`, a function of a float32 array
                `(n, num_labels)`, or what torch has; None takes what the model was saved with.
            apply_softmax: of several labels, make the scores of a pair sum to 1, after the activation.
            convert_to_numpy: False gives a list in place of an array.
            convert_to_tensor: a torch tensor in main memory; needs torch, which is imported for this alone.
            device: where the reranker computes anyway, or None.
            pool: None; a reranker computes on the threads of one process.
            chunk_size: None, as `pool`.

        Returns:
            float32 `(n,)`, of several labels `(n, num_labels)`; of a single pair `()` or `(num_labels,)`; of no pair
            float64 `(0,)`, as sentence-transformers.

        Raises:
            InputError: something other than pairs and texts, an unknown prompt or activation, a bad number, another
                device.
            ProviderError: there is no device of that name.
            MissingExtraError: tensors or a progress bar are asked for, and torch or tqdm is not installed.
        """
        check_call(pool, chunk_size, device, self.device, tensor=convert_to_tensor)
        text = prompt_text(prompt, prompt_name, self._manifest, self._manifest.default_prompt_name)
        check_activation(activation_fn)
        size = None if batch_size is None else at_least_one("batch_size", batch_size)
        items, single = listed_pairs(inputs)
        pairs = read_pairs(items)
        if not pairs:
            return shaped(np.zeros(0), False, array=convert_to_numpy, tensor=convert_to_tensor)
        scores = self._scored(pairs, text, size, activation_fn, show_progress_bar)
        if self.num_labels == 1:
            scores = scores[:, 0]
        elif apply_softmax:
            scores = _softmax(scores)
        return shaped(scores, single, array=convert_to_numpy, tensor=convert_to_tensor)

    def rank(
        self,
        query: str,
        documents: Sequence[str],
        top_k: SupportsIndex | None = None,
        return_documents: bool = False,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: SupportsIndex | None = None,
        show_progress_bar: bool | None = None,
        activation_fn: Activation | None = None,
        device: object = None,
        pool: None = None,
        chunk_size: None = None,
        *,
        label: SupportsIndex | None = None,
    ) -> list[dict[str, Any]]:
        """Documents by their score for a query, the best first, as `CrossEncoder.rank` does.

        Args:
            query: one text.
            documents: any number of texts.
            top_k: keep so many of the best; None keeps all, as does a number above theirs.
            return_documents: whether each result also has its document, as `text`.
            prompt_name, prompt, batch_size, show_progress_bar, activation_fn, device, pool, chunk_size: as of
                `predict`.
            label: of several labels, the one to rank by, from 0: libraries differ in which that is.

        Returns:
            a dictionary for each document: `corpus_id`, its position in `documents`, and `score`, a float; equal
            scores keep the order of `documents`.

        Raises:
            InputError, ProviderError, MissingExtraError: as of `predict`; also where the model has several labels and
                none is named, or there is no such label.
        """
        column = self._label(label)
        keep = None if top_k is None else at_least_one("top_k", top_k)
        if not isinstance(query, str):
            raise InputError(f"rank takes one query, a text, got {type(query).__name__}: pass pairs to predict")
        texts = _documents(documents)
        scores = self.predict(
            [(query, text) for text in texts],
            prompt_name,
            prompt,
            batch_size,
            show_progress_bar,
            activation_fn,
            device=device,
            pool=pool,
            chunk_size=chunk_size,
        )
        values = (scores if scores.ndim == 1 else scores[:, column]).tolist()
        order = sorted(range(len(texts)), key=lambda index: -_sortable(values[index]))[:keep]
        named = ({"text": texts[index]} if return_documents else {} for index in order)
        return [{"corpus_id": index, "score": values[index], **text} for index, text in zip(order, named, strict=True)]

    def _label(self, label: SupportsIndex | None) -> int:
        if self.num_labels == 1 and label is None:
            return 0
        if label is None:
            raise InputError(
                f"this model gives a pair {self.num_labels} scores: pass label= to say which to rank by (0 to "
                f"{self.num_labels - 1}), or take them all from predict"
            )
        try:
            found = int(label.__index__())
        except (AttributeError, TypeError):
            found = -1
        if isinstance(label, bool) or not 0 <= found < self.num_labels:
            raise InputError(f"label must be a whole number from 0 to {self.num_labels - 1}, got {label!r}")
        return found

    def _scored(
        self,
        pairs: list[Text],
        prompt: str,
        batch_size: int | None,
        activation_fn: Activation | None,
        show_progress_bar: bool | None,
    ) -> NDArray[np.float32]:
        """`(n, num_labels)`, equal pairs computed once."""
        (route,) = self._routes.values()
        if not route.takes_pairs and not all(isinstance(pair, str) for pair in pairs):
            raise InputError("this artifact takes no pairs of texts: export its model again")
        distinct = Distinct.of(pairs)
        result = np.empty((len(pairs), self.num_labels), dtype=np.float32)
        # Where the model's own activation changes nothing, scores are logits.
        output = LOGITS if activation_fn is not None and LOGITS in route.outputs else SCORES
        with progress(len(pairs), show_progress_bar) as bar:
            for rows, _, found in route.run(distinct.texts, prompt, batch_size, output):
                bar.update(distinct.write(rows, found, result))
        return result if activation_fn is None else activated(activation_fn, result)


def _documents(documents: Iterable[str]) -> list[str]:
    if isinstance(documents, (str, bytes, dict)):
        raise InputError(f"rank takes a list of documents, got {type(documents).__name__}: put it into a list")
    try:
        found = list(documents)
    except TypeError as error:
        raise InputError(f"rank takes a list of documents, got {type(documents).__name__}") from error
    for place, text in enumerate(found):
        if not isinstance(text, str):
            raise InputError(f"document {place} is {type(text).__name__}, not text: drop or convert it")
    return found


def _softmax(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Over the labels, `(n, labels)`, as `torch.nn.functional.softmax`."""
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    result: NDArray[np.float32] = raised / raised.sum(axis=1, keepdims=True)
    return result


def _sortable(value: float) -> float:
    """NaN, which compares with nothing, comes last."""
    return -np.inf if value != value else value  # noqa: PLR0124 - NaN alone differs from itself
