"""The contract every graph pass keeps.

A pass takes an `onnx_ir.Model`, rewrites it in place where its pattern holds, counts its rewrites,
and says in a sentence why each near miss was refused. A pass whose pattern does not occur returns
zero rewrites and one refusal that says so: the report then explains the graph that shipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import onnx_ir as ir


@dataclass(frozen=True)
class PassResult:
    """What one pass did.

    Attributes:
        model: the rewritten model (the same object that was passed in).
        rewrites: how many times the pattern was rewritten.
        refusals: why the pattern was not rewritten where it nearly held, one sentence each, without repeats.
    """

    model: ir.Model
    rewrites: int
    refusals: tuple[str, ...] = ()


class GraphPass(Protocol):
    """One graph-to-graph rewrite. `name` is the word the report has for it."""

    @property
    def name(self) -> str: ...

    def __call__(self, model: ir.Model) -> PassResult: ...
