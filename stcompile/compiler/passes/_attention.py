"""What the attention pattern finds and both attention passes rewrite."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir


@dataclass(frozen=True)
class Attention:
    """One attention of a graph.

    Attributes:
        query: (batch, queries, heads * size), before it is split into heads.
        key: (batch, keys, heads * size).
        value: (batch, keys, heads * value size).
        addends: what is added to the scaled scores, outermost last; together they broadcast to
            (batch or 1, heads or 1, queries or 1, keys), the type is the query's.
        scale: what the scores are multiplied by, positive.
        heads: how many heads query, key and value have.
        merge: the last node, a Reshape to (batch, queries, heads * value size).
    """

    query: ir.Value
    key: ir.Value
    value: ir.Value
    addends: tuple[ir.Value, ...]
    scale: float
    heads: int
    merge: ir.Node
