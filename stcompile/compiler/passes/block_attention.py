"""Scores of long texts, made for some queries at a time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import onnx_ir as ir

from stcompile.compiler.passes._query_blocks import Scope, query_by_query, text_by_text
from stcompile.compiler.passes._query_rows import shape_of
from stcompile.compiler.passes.base import PassResult
from stcompile.compiler.passes.constants import hold_constants, integers
from stcompile.compiler.passes.graph import NoMatch, dims, finish, is_op
from stcompile.kernels.native import DOMAIN
from stcompile.runtime.batching import LONG

# Scores that are held at once, as float32: 32 MB.
_SCORES = 1 << 23

_SEQUENCE = 1  # the axis of the graph's inputs


class BlockAttention:
    """Makes the scores of long texts for a block of queries at a time, so that memory follows the length of a text.

    Scores are (batch, heads, queries, keys), and so are masks and biases of positions: all of them are found by their
    shape, which has the sequence's axis twice. What makes other values of them (the product with the values, an
    Attention, the row of a mask that PoolEarly takes) becomes an If: up to `direct` positions it computes as it did,
    above in a Loop over blocks of queries, which makes masks and biases for these queries alone. What several layers
    share, as a mask, becomes an If too, and makes nothing for long texts. Each query's numbers are made by the same
    operators from the same numbers. In a float16 graph the blocks compute in float32, as ONNX Runtime does on CPU.

    What depends on an operator that is not known to keep queries apart stays as it is.

    Stands behind every pass and recipe that looks for attention: it moves it into subgraphs.

    Args:
        longest: most positions that a text may have; None where there is no limit.
        direct: positions up to which the graph computes as it did.
        scores: that are held at once.
    """

    name = "block-attention"

    def __init__(self, longest: int | None, *, direct: int = LONG, scores: int = _SCORES) -> None:
        self._longest = longest
        self._direct = direct
        self._scores = scores

    def __call__(self, model: ir.Model) -> PassResult:
        if self._longest is not None and self._longest <= self._direct:
            return finish(model, 0, (), f"no text has more than {self._direct} positions")
        refusals: list[str] = []
        rewrites = self._rewritten(model.graph, refusals)
        for function in model.functions.values():
            rewrites += self._rewritten(function.graph, refusals)
            hold_constants(function.graph)
        absent = "no scores occur" if _sequence(model.graph) else "no input has an axis of positions"
        return finish(model, rewrites, refusals, absent)

    def _rewritten(self, graph: ir.Graph, refusals: list[str]) -> int:
        """How many values are made in blocks from now on; refusals are added to the list."""
        symbol = _sequence(graph)
        if symbol is None:
            return 0
        region = _Region(graph, symbol)
        branches: dict[ir.Node, ir.Graph] = {}
        for sink in region.sinks:
            try:
                branches[sink] = self._branch(graph, region, sink)
            except NoMatch as reason:
                refusals.append(str(reason))
        if branches:
            is_long = _is_longer(graph, self._direct)
            for root, members in region.groups(branches).items():
                _choose(graph, is_long, branches.get(root) or _nothing(graph, root), root, members)
        return len(branches)

    def _branch(self, graph: ir.Graph, region: _Region, sink: ir.Node) -> ir.Graph:
        if sink.outputs[0].is_graph_output():
            raise NoMatch("what attention makes is an output of the graph")
        if sink.domain == DOMAIN:
            raise NoMatch("an operator of the package's own takes a bias of positions whole")
        if is_op(sink, "GatherND"):
            return text_by_text(graph, sink, region.is_square)
        if not is_op(sink, "MatMul", "Attention"):
            raise NoMatch(f"{sink.op_type} takes scores, a mask or a bias of positions")
        shape = shape_of(sink.outputs[0])
        if region.symbol not in shape:
            raise NoMatch(f"{sink.op_type} makes no rows of queries")
        return query_by_query(graph, sink, shape.index(region.symbol), region.is_square, self._scores)


def _sequence(graph: ir.Graph) -> str | None:
    """What the axis of positions is called."""
    for value in graph.inputs:
        shape = dims(value) or ()
        if len(shape) > _SEQUENCE and isinstance(shape[_SEQUENCE], str):
            return str(shape[_SEQUENCE])
    return None


class _Region:
    """The values that grow with the square of the length, and the nodes around them.

    Attributes:
        nodes: those that make such values, and those that ask for their shape.
        sinks: those that make other values of them.
    """

    def __init__(self, graph: ir.Graph, symbol: str) -> None:
        self.symbol = symbol
        self._graph = graph
        self._word = re.compile(rf"\b{re.escape(symbol)}\b")
        self.nodes = {node for node in graph if self.is_square(node.outputs[0]) or self._asks_shape(node)}
        self.sinks = [node for node in graph if node not in self.nodes and any(map(self.is_square, node.inputs))]

    def is_square(self, value: ir.Value | None) -> bool:
        """Whether a value has the sequence's axis twice."""
        found = None if value is None else dims(value)
        return found is not None and sum(isinstance(dim, str) and bool(self._word.search(dim)) for dim in found) > 1

    def _asks_shape(self, node: ir.Node) -> bool:
        return is_op(node, "Shape") and self.is_square(node.inputs[0])

    def groups(self, blocked: Iterable[ir.Node]) -> dict[ir.Node, list[ir.Node]]:
        """Nodes by the one that alone needs them: a sink, or one whose value several need. What others need stays."""
        group: dict[ir.Node, ir.Node] = {sink: sink for sink in blocked}
        for node in reversed(self._graph):
            if node not in self.nodes:
                continue
            users = {use.node for value in node.outputs for use in value.uses()}
            value = node.outputs[0]
            if any(user not in group for user in users) or value.is_graph_output() or value.dtype is None:
                continue
            owners = {group[user] for user in users}
            group[node] = owners.pop() if len(owners) == 1 else node
        members: dict[ir.Node, list[ir.Node]] = {}
        for node in self._graph:
            if node in group:
                members.setdefault(group[node], []).append(node)
        return members


def _is_longer(graph: ir.Graph, positions: int) -> ir.Value:
    """Whether a run has more positions, one truth value."""
    ids = next(value for value in graph.inputs if len(dims(value) or ()) > _SEQUENCE)
    length = ir.node("Shape", [ids], {"start": _SEQUENCE, "end": _SEQUENCE + 1}, name="positions")
    greater = ir.node("Greater", [length.outputs[0], integers(graph, "direct_positions", [positions])], name="is_long")
    for node in (length, greater):
        node.outputs[0].name = f"{node.name}_output"
    graph.insert_before(graph[0], [length, greater])
    return greater.outputs[0]


def _nothing(graph: ir.Graph, root: ir.Node) -> ir.Graph:
    """A branch that makes an empty value of the root's type."""
    value = root.outputs[0]
    scope = Scope(graph, f"{root.name}_left_out")
    empty = scope.add("Cast", [scope.add("ConstantOfShape", [scope.integers(0)])], {"to": value.dtype})
    empty.type = value.type
    return scope.closed([], [empty])


def _choose(graph: ir.Graph, is_long: ir.Value, branch: ir.Graph, root: ir.Node, members: Sequence[ir.Node]) -> None:
    """Puts an If in the root's place: `branch` for long texts, for others the root and what it alone needs."""
    value = root.outputs[0]
    chosen = ir.node("If", [is_long], {"then_branch": branch}, name=f"{root.name}_if_long")
    result = chosen.outputs[0]
    result.name, result.type, result.shape = value.name, value.type, value.shape
    graph.insert_before(root, chosen)
    value.replace_all_uses_with(result)
    value.name = f"{value.name}_direct"
    graph.remove(members)
    direct = ir.Graph([], [value], nodes=members, name=f"{root.name}_direct")
    chosen.attributes["else_branch"] = ir.AttrGraph("else_branch", direct)
