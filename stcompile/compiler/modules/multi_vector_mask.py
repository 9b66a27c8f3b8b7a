"""MultiVectorMask: which tokens of a text have a vector that is scored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from stcompile.artifact.manifest import TOKENS
from stcompile.compiler.modules.base import UNSEEN, Features, InputModule, TaskModule
from stcompile.compiler.modules.transformer import Transformer

_QUERY, _DOCUMENT = "query", "document"


class MultiVectorMask(TaskModule):
    """The scoring mask of late interaction (module-stack spec, section 16).

    Overwrites `attention_mask` `(batch, sequence)` with where a token is scored: a text's own tokens and those that a
    query was made longer with, without skip words for the tasks that leave them out, and of all but queries only
    `keep_only_token_ids`, where there are any.

    Args:
        skiplist_words: tokens that are not scored; those that the tokenizer does not know are dropped from the list.
        skiplist_tasks: tasks that leave them out; a text without a task is a document. None is documents alone.
        keep_only_token_ids: the only tokens scored of what is no query; None is all.
    """

    config_keys = ("skiplist_words", "skiplist_tasks", "keep_only_token_ids")
    needs = ("input_ids", "attention_mask")
    reads = TOKENS
    writes = TOKENS

    def __init__(
        self,
        skiplist_words: Sequence[str] | None = None,
        *,
        skiplist_tasks: Sequence[str] | None = None,
        keep_only_token_ids: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.skiplist_words = list(skiplist_words or ())
        self.skiplist_tasks = [_DOCUMENT] if skiplist_tasks is None else list(skiplist_tasks)
        self.keep_only_token_ids = list(keep_only_token_ids) if keep_only_token_ids else None
        self._known: tuple[int, ...] = ()

    def meets(self, front: InputModule) -> None:
        if not isinstance(front, Transformer):
            return
        tokenizer, found = front.tokenizer, []
        for word in self.skiplist_words:
            number = tokenizer.convert_tokens_to_ids(word)
            is_unknown = tokenizer.unk_token_id is not None and number == tokenizer.unk_token_id
            # As sentence-transformers: what is not one token would leave out every unknown one.
            if number is not None and (not is_unknown or word == tokenizer.unk_token):
                found.append(int(number))
        self._known = tuple(sorted(set(found)))

    @property
    def skipped_ids(self) -> tuple[int, ...]:
        """Tokens that are not scored for its task, in order."""
        return self._known if self.counts_as in self.skiplist_tasks else ()

    @property
    def kept_ids(self) -> tuple[int, ...] | None:
        """The only tokens that are scored for its task; None is all."""
        kept = self.keep_only_token_ids
        return None if kept is None or self.task == _QUERY else tuple(sorted(set(kept)))

    @property
    def treatment(self) -> tuple[Any, ...]:
        return (self.skipped_ids, self.kept_ids)

    @property
    def task_names(self) -> tuple[str, ...]:
        return tuple(self.skiplist_tasks) if self._known else ()

    def forward(self, features: Features) -> Features:
        mask, ids = features["attention_mask"].bool(), features["input_ids"]
        if UNSEEN in features:
            mask = mask | features[UNSEEN]
        if self.skipped_ids:
            mask = mask & ~_is_one_of(ids, self.skipped_ids)
        if self.kept_ids is not None:
            mask = mask & _is_one_of(ids, self.kept_ids)
        return {**features, "attention_mask": mask.to(torch.int64)}


def _is_one_of(ids: Tensor, known: Sequence[int]) -> Tensor:
    # torch's own isin cannot be exported; of the graph this becomes no part, but it is traced.
    return (ids.unsqueeze(-1) == torch.tensor(known)).any(-1)
