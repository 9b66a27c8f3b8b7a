"""HierarchicalTokenPooling: fewer vectors of a document, each the mean of some that are alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stcompile.artifact.manifest import TOKENS
from stcompile.compiler.modules.base import Features, TaskModule
from stcompile.runtime.token_pooling import TokenPooling

_DOCUMENT = "document"


class HierarchicalTokenPooling(TaskModule):
    """Ward's clusters of a text's token embeddings, each replaced by its mean (module-stack spec, section 16).

    A graph cannot hold it: the runtime does it behind the graph, by `TokenPooling`.

    Args:
        pool_factor: a text keeps one vector of so many; 1 keeps all.
        num_protected_tokens: so many of its first are kept as they are.
        normalize_embeddings: whether what is kept is scaled to length 1.
        tasks: the tasks whose texts are pooled; a text without a task is a document. None is documents alone.
    """

    config_keys = ("pool_factor", "num_protected_tokens", "normalize_embeddings", "tasks")
    reads = TOKENS
    writes = TOKENS

    def __init__(
        self,
        pool_factor: float = 1.0,
        *,
        num_protected_tokens: int = 1,
        normalize_embeddings: bool = True,
        tasks: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.pool_factor = pool_factor
        self.num_protected_tokens = num_protected_tokens
        self.normalize_embeddings = normalize_embeddings
        self.tasks = [_DOCUMENT] if tasks is None else list(tasks)

    @property
    def pooling(self) -> TokenPooling | None:
        """What is done to the vectors of a text of its task; None where nothing is."""
        if self.counts_as not in self.tasks or (self.pool_factor == 1 and not self.normalize_embeddings):
            return None
        return TokenPooling(self.pool_factor, self.num_protected_tokens, self.normalize_embeddings)

    @property
    def treatment(self) -> tuple[Any, ...]:
        return (self.pooling,)

    @property
    def task_names(self) -> tuple[str, ...]:
        return tuple(self.tasks)

    def forward(self, features: Features) -> Features:
        return features
