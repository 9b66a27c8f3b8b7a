"""Pictures of a verdict as SVG that stands in a page: a histogram, a scatter, a module stack."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np

from stcompile.compiler.parity.evidence import Scatter

_WIDTH, _HEIGHT, _MARGIN = 420, 260, 48

# Of a histogram of distances: from the rounding of float32 to the opposite direction, a column for a third of a decade.
_LEAST, _MOST, _PER_DECADE = -8, 1, 3

# Circles of a scatter, evenly chosen: a page of thousands is slow to open.
_POINTS = 800


def histogram(cosines: Sequence[float]) -> str:
    """How many texts are how far from the reference: 1 - cosine, on a logarithmic axis."""
    distances = np.maximum(1 - np.asarray(cosines, dtype=np.float64), 10.0**_LEAST)
    edges = np.linspace(_LEAST, _MOST, (_MOST - _LEAST) * _PER_DECADE + 1)
    counts, _ = np.histogram(np.minimum(np.log10(distances), _MOST - 1e-9), edges)
    most = max(1, int(counts.max()))
    step = (_WIDTH - 2 * _MARGIN) / len(counts)
    bars = []
    for place, count in enumerate(counts.tolist()):
        tall = (_HEIGHT - 2 * _MARGIN) * count / most
        left, top = _MARGIN + place * step, _HEIGHT - _MARGIN - tall
        if count:
            said = f"<title>{count} texts, 1 - cosine from 1e{edges[place]:.1f} to 1e{edges[place + 1]:.1f}</title>"
            size = f'width="{step - 1:.1f}" height="{tall:.1f}"'
            bars.append(f'<rect class="bar" x="{left:.1f}" y="{top:.1f}" {size}>{said}</rect>')
    ticks = [
        _label(_MARGIN + (decade - _LEAST) * step * _PER_DECADE, _HEIGHT - _MARGIN + 16, f"1e{decade}")
        for decade in range(_LEAST, _MOST + 1, 2)
    ]
    axis = _label(_WIDTH / 2, _HEIGHT - 8, "1 - cosine (left is nearer)")
    most_label = _label(_MARGIN - 6, _MARGIN + 4, str(most), anchor="end")
    return _svg("Histogram of cosines", _WIDTH, _HEIGHT, [_frame(), *bars, *ticks, axis, most_label])


def scatter(found: Scatter) -> str:
    """The same numbers by the reference and compiled: what is alike lies on the diagonal."""
    chosen = np.unique(np.linspace(0, len(found.reference) - 1, _POINTS).astype(np.int64))
    x, y = found.reference[chosen], found.compiled[chosen]
    finite = np.isfinite(x) & np.isfinite(y)
    x, y = x[finite], y[finite]
    low = float(min(x.min(initial=0), y.min(initial=0)))
    high = float(max(x.max(initial=1e-6), y.max(initial=1e-6)))
    width, height = _WIDTH - 2 * _MARGIN, _HEIGHT - 2 * _MARGIN

    def across(value: float) -> float:
        return _MARGIN + width * (value - low) / (high - low)

    def up(value: float) -> float:
        return _HEIGHT - _MARGIN - height * (value - low) / (high - low)

    line = f'<line class="diagonal" x1="{across(low)}" y1="{up(low)}" x2="{across(high)}" y2="{up(high)}"/>'
    points = [
        f'<circle class="point" cx="{across(one):.1f}" cy="{up(other):.1f}" r="2"/>'
        for one, other in zip(x.tolist(), y.tolist(), strict=True)
    ]
    ends = [_label(across(value), _HEIGHT - _MARGIN + 16, f"{value:.2f}") for value in dict.fromkeys((low, high))]
    names = [
        _label(_WIDTH / 2, _HEIGHT - 8, f"{found.what}: reference"),
        f'<text class="label" transform="translate(16 {_HEIGHT / 2}) rotate(-90)" text-anchor="middle">compiled</text>',
    ]
    return _svg(f"Scatter: {found.what}", _WIDTH, _HEIGHT, [_frame(), line, *points, *ends, *names])


def boxes(names: Sequence[tuple[str, str]]) -> str:
    """Modules one behind the other, each with a line of what it is."""
    size, gap, tall = 168, 28, 64
    width = max(1, len(names)) * (size + gap) - gap + 4
    parts = []
    for place, (name, about) in enumerate(names):
        left = 2 + place * (size + gap)
        parts += [
            f'<rect class="box" x="{left}" y="2" width="{size}" height="{tall}" rx="6"/>',
            _label(left + size / 2, 28, _cut(name, 22), kind="name"),
            _label(left + size / 2, 48, _cut(about, 24)),
        ]
        if place:
            parts.append(f'<path class="arrow" d="M{left - gap + 4} {2 + tall / 2} h{gap - 8} m-6 -4 l6 4 l-6 4"/>')
    return _svg("Module stack", width, tall + 4, parts)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _label(x: float, y: float, text: str, anchor: str = "middle", kind: str = "label") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _frame() -> str:
    right, bottom = _WIDTH - _MARGIN, _HEIGHT - _MARGIN
    return f'<path class="axis" d="M{_MARGIN} {_MARGIN} V{bottom} H{right}"/>'


def _svg(title: str, width: float, height: float, parts: Sequence[str]) -> str:
    assert math.isfinite(width + height)
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" role="img" '
        f'aria-label="{escape(title)}"><title>{escape(title)}</title>{"".join(parts)}</svg>'
    )
