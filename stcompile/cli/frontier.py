"""The frontier of a tuning as a picture: speed against the accuracy that is lost."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stcompile.cli.textfiles import moved_into_place
from stcompile.compiler.timing import Spread
from stcompile.compiler.tune.tuning import SPEARMAN, Measurement, TuneReport
from stcompile.errors import InputError
from stcompile.extras import require

_PURPOSE = "Drawing the frontier"
_FORMATS = (".png", ".svg", ".pdf")

# A logarithm has no zero: every smaller loss, which is rounding of float32, is drawn here.
_LEAST = 1e-7

_WINNER, _CANDIDATE, _UNFIT, _LINE = "#2a9d6f", "#4878a8", "#c0504d", "#9a9a9a"

# Where a label may be, in points from its target: beside it, then further and further up and down.
_PLACES = tuple((x, y) for y in (4, -11, 17, -24, 30, -37, 43, -50) for x in (8, -8))


def check_plot(path: Path) -> None:
    """Refuses a plot that could not be drawn, before minutes of work are put into it.

    Raises:
        MissingExtraError: matplotlib is not installed.
        InputError: the name is of no picture, or no file can be written there.
    """
    if path.suffix not in _FORMATS:
        raise InputError(f"cannot tell the format of {path}: name it {', '.join(_FORMATS[:-1])} or {_FORMATS[-1]}")
    home = next(parent for parent in path.absolute().parents if parent.exists())
    if path.is_dir() or not home.is_dir() or not os.access(home, os.W_OK | os.X_OK):
        raise InputError(f"{path} cannot be written: choose another place for the plot")
    require("matplotlib", _PURPOSE)


def plot_frontier(report: TuneReport, path: Path) -> None:
    """Draws every measured target, the frontier through the best of them, and the winner.

    Args:
        report: what was measured.
        path: where to, by its ending as PNG, SVG or PDF; moved into place when it is whole.

    Raises:
        MissingExtraError, InputError: as `check_plot`.
    """
    check_plot(path)
    # Not through pyplot, which would change the backend of the whole process.
    figure = require("matplotlib.figure", _PURPOSE).Figure(figsize=(9, 5.5))
    canvas = require("matplotlib.backends.backend_agg", _PURPOSE).FigureCanvasAgg(figure)
    axis = figure.subplots()
    measured = {row.target: row.measured for row in report.targets if row.measured is not None}
    _describe_axes(axis, report)
    _draw_targets(axis, report, measured)
    line = frontier([item for item in measured.values() if item.batch_invariant])
    along = [_loss(item, report) for item in line], [item.texts_per_second for item in line]
    axis.plot(*along, "--", color=_LINE, linewidth=1, zorder=0, label="frontier")
    axis.legend(fontsize=8, loc="lower right")
    figure.tight_layout()
    _label(axis, canvas.get_renderer(), {name: _place(item, report) for name, item in measured.items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    with moved_into_place(path) as partial:
        figure.savefig(partial, dpi=130, format=path.suffix[1:])


def frontier(measured: Sequence[Measurement]) -> list[Measurement]:
    """Of the targets by what they lose, each that is faster than all that lose less."""
    line: list[Measurement] = []
    for item in sorted(measured, key=lambda item: (item.drop, -item.texts_per_second)):
        if not line or item.texts_per_second > line[-1].texts_per_second:
            line.append(item)
    return line


def _describe_axes(axis: Any, report: TuneReport) -> None:
    settings = report.settings
    if settings["measure"] == SPEARMAN:
        axis.set_xlabel(f"accuracy lost: share of the rank correlation on {settings['pairs']} pairs")
    else:
        axis.set_xscale("log")
        axis.set_xlabel("accuracy lost: 1 - mean cosine to onnx-fp32 (less than 1e-7 is drawn there)")
    axis.set_ylabel(f"texts per second; bars: slowest and fastest of {settings['rounds']} rounds")
    axis.set_title(
        f"{report.winner} is the best of {len(report.targets)} targets here, on {settings['texts']} texts with "
        f"{settings['threads']} threads\n{report.machine['cpu']}",
        fontsize=9,
    )
    # Room for the labels.
    axis.margins(x=0.18, y=0.14)
    axis.spines[["top", "right"]].set_visible(False)


def _draw_targets(axis: Any, report: TuneReport, measured: Mapping[str, Measurement]) -> None:
    for name, item in measured.items():
        at = _place(item, report)
        speeds = Spread.of([report.settings["texts"] / seconds for seconds in item.seconds.wall])
        bars = [[max(at[1] - speeds.low, 0.0)], [max(speeds.high - at[1], 0.0)]]
        colour = _WINNER if name == report.winner else _CANDIDATE if item.batch_invariant else _UNFIT
        axis.errorbar(*at, yerr=bars, color=colour, fmt="none", linewidth=1, alpha=0.6)
        shape, size = ("*", 18) if name == report.winner else ("o" if item.batch_invariant else "X", 7)
        axis.plot(*at, shape, color=colour, markersize=size, label=_in_the_legend(name, report, item))
    drop = report.settings["max_drop"]
    axis.axvline(drop, color=_UNFIT, linewidth=1, linestyle=":", label=f"largest drop allowed, {100 * drop:g}%")


def _in_the_legend(name: str, report: TuneReport, item: Measurement) -> str | None:
    """What stands for itself needs no line of its own."""
    if name == report.winner:
        return "recommended"
    return None if item.batch_invariant else "not batch-invariant"


def _loss(item: Measurement, report: TuneReport) -> float:
    return item.drop if report.settings["measure"] == SPEARMAN else max(item.drop, _LEAST)


def _place(item: Measurement, report: TuneReport) -> tuple[float, float]:
    return _loss(item, report), item.texts_per_second


def _label(axis: Any, renderer: Any, places: Mapping[str, tuple[float, float]]) -> None:
    """Writes each name beside its point, where no other name and no point is."""
    points = [tuple(axis.transData.transform(at)) for at in places.values()]
    taken: list[Any] = []
    for name, at in places.items():
        note = axis.annotate(name, at, xytext=_PLACES[0], textcoords="offset points", fontsize=8)
        for x, y in _PLACES:
            note.xyann = (x, y)
            note.set_horizontalalignment("left" if x > 0 else "right")
            box = note.get_window_extent(renderer)
            if not any(map(box.overlaps, taken)) and not any(box.contains(*point) for point in points):
                break
        taken.append(box)
