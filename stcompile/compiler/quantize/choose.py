"""Chooses what each layer may become: a table's candidates, by the error they make on calibration rows."""

from __future__ import annotations

import dataclasses

from stcompile.compiler.quantize.candidates import (
    FLOAT32,
    NEVER_BELOW,
    STATIC,
    Candidate,
    Search,
    Table,
)
from stcompile.compiler.quantize.layers import Array, Layer
from stcompile.compiler.quantize.observers import OBSERVERS
from stcompile.compiler.quantize.recording import Recording
from stcompile.compiler.quantize.schemes import (
    PerToken,
    StaticRange,
    divided,
    relative_error,
    smoothing_of,
    squared_lengths,
)
from stcompile.compiler.quantize.weights import quantize_blocks, quantize_columns

# A static layer saves the search for each token's largest value and two passes over the output. Where it costs more
# accuracy than this factor, a token's own scale is worth its time.
_STATIC_UP_TO = 1.5

# Rows that candidates are compared on.
_TRIAL_ROWS = 1024

# Outliers: an error above this is no rounding any more, whatever the scheme. Measured: 0.06 at most over the layers of
# all-MiniLM-L6-v2 in 8 bits.
_OUTLIER_ERROR = 0.2


def options_of(layer: Layer, seen: Recording, table: Table) -> tuple[Candidate, ...]:
    """What a table makes of one layer, by what it read on the calibration texts; those rows are let go in the end.

    Returns:
        the cheapest first, each nearer to float32 than the one before, and float32 last; float32 alone where
        activations in 8 bits make an outlier's error in every scheme.
    """
    trial = _Trial(layer, seen)
    found = [trial.best(search) for search in table]
    cheapest, *dearer = found
    exact = Candidate(FLOAT32, error=0.0)
    if cheapest.levels is not None and min(map(known, found)) > _OUTLIER_ERROR:
        return (dataclasses.replace(exact, reason=f"outliers: a relative error of {known(found[-1]):.2f} in 8 bits"),)
    if cheapest.scheme == STATIC and known(cheapest) > _STATIC_UP_TO * known(dearer[0]):
        why = f"a static range makes a relative error of {known(cheapest):.3f}"
        cheapest, *dearer = dataclasses.replace(dearer[0], reason=why), *dearer[1:]
    return (cheapest, *(other for other in dearer if known(other) < known(cheapest)), exact)


def known(candidate: Candidate) -> float:
    """A candidate's error, where it was measured."""
    assert candidate.error is not None
    return candidate.error


def _fits(candidate: Candidate, layer: Layer) -> bool:
    """Whether a layer may be computed so."""
    if candidate.strength is not None and layer.shares_weights:
        return False  # the other layer needs the weight as it is
    if not isinstance(candidate.levels, PerToken) or candidate.levels.never_below is None:
        return True
    producer = layer.data.producer()
    bound = None if producer is None else NEVER_BELOW.get(producer.op_type)
    # Of smoothed values it is not known.
    return candidate.levels.never_below == bound and candidate.strength is None


class _Trial:
    """One layer's turn: its rows in memory, and what candidates would make of its output."""

    def __init__(self, layer: Layer, seen: Recording) -> None:
        self._layer = layer
        self._seen = seen
        self._weight = layer.weight
        rows = seen.rows
        self._rows = rows[:: max(1, len(rows) // _TRIAL_ROWS)].copy()
        self._exact = self._rows @ self._weight
        self._length = squared_lengths(self._exact)
        self._largest = seen.largest, layer.largest
        self._columns: dict[tuple[float | None, bool], Array] = {}

    def best(self, search: Search) -> Candidate:
        """What a search ends with."""
        best = self._measured(search.first)
        for variation in search.variations:
            changed = (dataclasses.replace(best, **{name: value}) for name, value in variation.changes)
            tried = [self._measured(candidate) for candidate in changed if _fits(candidate, self._layer)]
            if tried:
                nearest = min(tried, key=known)
                best = nearest if known(nearest) < variation.worth * known(best) else best
        return best

    def _measured(self, candidate: Candidate) -> Candidate:
        """The candidate with its range and its error, weights rounded to the nearest level."""
        smoothing = smoothing_of(candidate.strength, *self._largest)
        rows, levels = divided(self._rows, smoothing), candidate.levels
        if candidate.observer:
            low, high = (divided(part, smoothing) for part in (self._seen.low, self._seen.high))
            levels = StaticRange.covering(*OBSERVERS[candidate.observer](rows, float(low.min()), float(high.max())))
        quantized = rows if levels is None else levels.restored(rows)
        error = relative_error(self._exact, quantized @ self._restored(candidate, smoothing), self._length)
        return dataclasses.replace(candidate, levels=levels, error=error)

    def _restored(self, candidate: Candidate, smoothing: Array | None) -> Array:
        """What the layer's weights side by side become, `(in, out)`."""

        def weight() -> Array:
            return self._weight if smoothing is None else self._weight * smoothing[:, None]

        if candidate.block:
            return quantize_blocks(weight(), candidate.bits, candidate.block).restored()
        # Columns alone are asked for again, by the next search.
        key = candidate.strength, candidate.pair_safe
        if key not in self._columns:
            self._columns[key] = quantize_columns(weight(), pair_safe=candidate.pair_safe).restored()
        return self._columns[key]
