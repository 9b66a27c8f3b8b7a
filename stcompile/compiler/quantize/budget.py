"""Accuracy budget: the cheapest plan that stays within it, found by what each layer costs the embedding.

Layers are ranked by the accuracy that more precision gains for the time it costs; how many of the ranked moves are
needed is searched by bisection on the whole graph.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Protocol

import numpy as np
import onnx_ir as ir

from stcompile.artifact.manifest import SENTENCE
from stcompile.artifact.report import BudgetSummary
from stcompile.compiler.metrics import Matrix, rounded
from stcompile.compiler.quantize.calibration import Batch, Calibration
from stcompile.compiler.quantize.candidates import FLOAT32, PER_TOKEN, STATIC, WEIGHTS, Candidate
from stcompile.compiler.quantize.layers import find_layers
from stcompile.compiler.quantize.measures import Measure, lost
from stcompile.compiler.trace.running import opened
from stcompile.errors import BudgetError

# Texts a layer's own cost is measured on.
_SENSITIVITY_TEXTS = 96

# Time of a multiplication by scheme, as a share of float32's: what decides the order of the moves, not the verdict.
_TIME: Mapping[str, float] = MappingProxyType({STATIC: 0.4, PER_TOKEN: 0.48, WEIGHTS: 0.6, FLOAT32: 1.0})

# What parity judges later are also other texts: the search keeps a tenth of the budget for them.
_KEPT_BACK = 0.1


@dataclass(frozen=True)
class Budget:
    """The accuracy to keep.

    Attributes:
        measure: how accuracy is measured, on the texts that it brings.
        limit: smallest allowed cosine for `min_cosine`; largest allowed drop, as a share, for the other measures.
    """

    measure: Measure
    limit: float

    def allows(self, value: float) -> bool:
        """Whether a measured value is within what the search may use."""
        if self.measure.larger_is_better:
            return value >= 1 - (1 - self.limit) * (1 - _KEPT_BACK)
        return value <= self.limit * (1 - _KEPT_BACK)


# Rewrites a graph so that each layer is computed as the candidate in its place.
Apply = Callable[[ir.Model, Sequence[Candidate]], object]

# Sentence embeddings of the batches' texts, row by row, with each layer as chosen; of the float32 graph for None.
Vectors = Callable[[Sequence[Candidate] | None, Sequence[Batch]], Matrix]

# Of each layer, the cheapest first.
Options = Sequence[tuple[Candidate, ...]]


class Ranked(Protocol):
    """What a search needs to know of a layer: its name, and how much of the time it takes."""

    @property
    def name(self) -> str: ...

    @property
    def multiplications(self) -> int: ...


def search(
    model: ir.Model,
    options: Options,
    budget: Budget,
    calibration: Calibration,
    apply: Apply,
    tell: Callable[[str], None],
) -> tuple[list[Candidate], BudgetSummary]:
    """The cheapest plan within the budget: one candidate for each layer, and what they reach.

    `apply` rewrites a copy of the graph, which is left as it was. Otherwise as `search_layers`.
    """
    vectors = partial(_vectors, model, apply)
    return search_layers(find_layers(model.graph), vectors, options, budget, calibration, tell)


def search_layers(
    layers: Sequence[Ranked],
    vectors: Vectors,
    options: Options,
    budget: Budget,
    calibration: Calibration,
    tell: Callable[[str], None],
) -> tuple[list[Candidate], BudgetSummary]:
    """The same of layers in any format, by the vectors that they make.

    Options are of each layer; what a layer costs by itself is measured on calibration texts.

    Raises:
        BudgetError: not even the most precise options are within it.
    """
    tell(f"measuring {budget.measure.name} of the float32 graph")
    reference = vectors(None, budget.measure.batches)

    def measured(chosen: Sequence[Candidate]) -> float:
        return budget.measure(reference, vectors(chosen, budget.measure.batches))

    cheapest = [choices[0] for choices in options]
    value = measured(cheapest)
    tell(f"{budget.measure.name} {value:.5f} with every layer at its cheapest")
    if budget.allows(value):
        return cheapest, _summary(budget, value, 0)
    ranked, costed = _ranked(vectors, layers, options, calibration, tell)
    reached: dict[int, float] = {0: value, len(ranked): measured(_after(costed, ranked))}
    if not budget.allows(reached[len(ranked)]):
        raise BudgetError(
            f"the budget cannot be met: {budget.measure.name} is {reached[len(ranked)]:.5f} with every layer at its "
            f"most precise, and {budget.limit} was asked for. Nothing was published. Choose a target of higher "
            "precision, or a wider budget"
        )
    low, high = 0, len(ranked)
    while high - low > 1:
        middle = (low + high) // 2
        reached[middle] = measured(_after(costed, ranked[:middle]))
        tell(f"{budget.measure.name} {reached[middle]:.5f} after {middle} of {len(ranked)} moves to more precision")
        low, high = (low, middle) if budget.allows(reached[middle]) else (middle, high)
    return _after(costed, ranked[:high]), _summary(budget, reached[high], high)


def _summary(budget: Budget, value: float, steps: int) -> BudgetSummary:
    return BudgetSummary(budget.measure.name, budget.limit, rounded(value), budget.measure.count, steps)


def _vectors(model: ir.Model, apply: Apply, chosen: Sequence[Candidate] | None, batches: Sequence[Batch]) -> Matrix:
    """Sentence embeddings of the batches' texts, row by row, of a copy with its layers as chosen; as it is for None."""
    if chosen is not None:
        model = model.clone()
        apply(model, chosen)
    with opened(model) as engine:
        return np.concatenate([engine.run(batch.feeds, (SENTENCE,))[0] for batch in batches])


@dataclass(frozen=True)
class _Move:
    """One layer to its next more precise option."""

    layer: int
    option: int
    worth: float


def _ranked(
    vectors: Vectors,
    layers: Sequence[Ranked],
    options: Options,
    calibration: Calibration,
    tell: Callable[[str], None],
) -> tuple[list[_Move], Options]:
    """Every move, the one that gains most for its time first; and the options with their sensitivity."""
    batches = calibration.some(_SENSITIVITY_TEXTS).batches
    exact = [choices[-1] for choices in options]
    base = vectors(exact, batches)
    moves: list[_Move] = []
    costed: list[tuple[Candidate, ...]] = []
    for number, (layer, choices) in enumerate(zip(layers, options, strict=True)):
        tell(f"sensitivity of layer {number + 1} of {len(options)}: {layer.name}")
        if len(choices) == 1:
            costed.append(choices)
            continue
        alone = [*exact[:number], choices[0], *exact[number + 1 :]]
        costs = _costs(choices, lost(base, vectors(alone, batches)))
        costed.append(tuple(dataclasses.replace(c, sensitivity=cost) for c, cost in zip(choices, costs, strict=True)))
        moves += _moves(number, choices, costs, layer.multiplications)
    return sorted(moves, key=lambda move: -move.worth), costed


def _costs(choices: Sequence[Candidate], measured: float) -> list[float]:
    """What each option costs the embedding: measured for the first, by the square of its error for the others.

    Without errors the next option has next to none.
    """
    if choices[0].error is None:
        return [measured, *(0.0 for _ in choices[1:])]
    first = choices[0].error or math.inf
    return [measured * ((candidate.error or 0.0) / first) ** 2 for candidate in choices]


def _moves(layer: int, choices: Sequence[Candidate], costs: Sequence[float], multiplications: int) -> list[_Move]:
    """The moves of one layer, in order; a later one that is worth more than an earlier is taken with it."""
    found: list[_Move] = []
    at = 0
    while at < len(choices) - 1:
        worths = {
            option: (costs[at] - costs[option]) / (multiplications * _extra_time(choices[at], choices[option]))
            for option in range(at + 1, len(choices))
        }
        at = max(worths, key=lambda option: worths[option])
        found.append(_Move(layer, at, worths[at]))
    return found


def _extra_time(cheap: Candidate, precise: Candidate) -> float:
    return max(_TIME[precise.scheme] - _TIME[cheap.scheme], 0.01)


def _after(options: Options, moves: Sequence[_Move]) -> list[Candidate]:
    """The options after some moves."""
    at = [0] * len(options)
    for move in moves:
        at[move.layer] = max(at[move.layer], move.option)
    chosen = [choices[option] for choices, option in zip(options, at, strict=True)]
    return [
        dataclasses.replace(candidate, reason="the accuracy budget") if option and not candidate.reason else candidate
        for candidate, option in zip(chosen, at, strict=True)
    ]
