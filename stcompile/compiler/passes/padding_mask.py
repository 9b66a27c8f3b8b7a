"""What a graph's masks hide, proved by running them: padding, what is behind a token, what lies outside a window."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

from stcompile.compiler.passes.graph import constant, is_op, scalar
from stcompile.compiler.trace.running import opened

ATTENTION_MASK = "attention_mask"

# Texts and positions of the masks that are tried. What depends on positions, as relative ones do, shows in the first
# few; windows of local attention show where a text is longer. What the network has no positions for is left out.
_SHAPES = ((3, 7), (2, 48), (2, 130), (2, 260), (2, 510), (2, 600), (1, 1500), (1, 4096))

# Scores of one trial, 128 MB: a bias of many heads is tried on fewer positions.
_MOST_SCORES = 1 << 25

# Queries that are compared at once.
_ROWS = 256

# Numbers of the exporter's own are larger: the end of a Slice, for one.
_ENDLESS = 1 << 31
_WHOLE_NUMBERS = (ir.DataType.INT64, ir.DataType.INT32)

# Tokens of a trial that no token attends to, of a graph that knows such.
_UNSEEN_SHARE = 0.3

# What hides a key: exp(-1e4) is 0 in every precision.
_HIDDEN = -1e4


@dataclass(frozen=True)
class Window:
    """How many positions before and behind its own a token sees; None for all. A causal mask shows none behind."""

    before: int | None = None
    after: int | None = None

    def shows(self, queries: slice, keys: int) -> NDArray[np.bool_]:
        """Which of so many keys some queries see, `(queries, keys)`."""
        away = np.arange(keys) - np.arange(keys)[queries, None]
        least, most = (keys if limit is None else limit for limit in (self.before, self.after))
        found: NDArray[np.bool_] = (away >= -least) & (away <= most)
        return found


@dataclass(frozen=True)
class MaskProof:
    """What a mask was proved to be.

    Attributes:
        is_known: whether it hides padding and what lies outside a window, and nothing else, behind what it adds.
        bias: what it adds to every score of a token, `(batch or 1, heads, queries, keys)`; None where that is nothing.
        window: how far a token sees.
    """

    is_known: bool
    bias: ir.Value | None
    window: Window

    @property
    def hides_padding(self) -> bool:
        """Whether padding is all that it hides."""
        return self.is_known and self.window == Window()


def marks_unseen(graph: ir.Graph) -> bool:
    """Whether `attention_mask` is 2 for tokens that are computed and that no token attends to.

    Such a graph compares it with 1 before anything else; others take 0 and 1 as they are.
    """
    mask = next((item for item in graph.inputs if item.name == ATTENTION_MASK), None)
    return mask is not None and any(
        is_op(node, "Equal") and any(scalar(value) == 1 for value in node.inputs) for node, _ in mask.uses()
    )


def proofs(model: ir.Model, masks: Iterable[ir.Value], longest: int | None = None) -> dict[ir.Value, MaskProof]:
    """Each mask and what it was proved to be, up to the longest text; one that layers share is proved once."""
    biases = {mask: position_bias(mask) for mask in masks}
    proved = {mask: window_of(model, mask, bias, longest) for mask, bias in biases.items()}
    return {
        mask: MaskProof(window is not None, biases[mask], Window() if window is None else window)
        for mask, window in proved.items()
    }


def window_of(
    model: ir.Model, mask: ir.Value, bias: ir.Value | None = None, longest: int | None = None
) -> Window | None:
    """The window outside which `mask` hides keys, where it is 0 for every other key that `attention_mask` keeps.

    It hides all keys that `attention_mask` does not keep, by 1. None where it is another mask.

    Args:
        model: a float32 graph; it is left as it was.
        mask: `(batch, heads or 1, queries or 1, keys)`, added to scores.
        bias: what the mask is in place of 0, `(batch or 1, heads, queries, keys)`.
        longest: most positions of a text; None where there is no limit.
    """
    if mask.producer() is None:  # a constant knows of no padding
        return None
    values = [mask] if bias is None else [mask, bias]
    names = tuple(str(value.name) for value in values)
    part = _leading_to(model, names)
    if ATTENTION_MASK not in [item.name for item in part.graph.inputs]:
        return None
    seen = 0
    window = Window()
    with opened(part) as engine:
        scores = 0.0
        for texts, length in _SHAPES:
            if longest is not None and seen >= longest:
                break
            most = length if longest is None else min(length, longest)
            tried = most if not scores else min(most, math.isqrt(int(_MOST_SCORES / scores)))
            feeds = _trial(part, texts, tried, hides=marks_unseen(model.graph))
            try:
                found = engine.run(feeds, names)
            except Exception:  # the engine's own, for more positions than there are
                break
            added = np.zeros(1, dtype=np.float32) if bias is None else found[1]
            kept = feeds[ATTENTION_MASK] == 1
            window = _narrowed(window, found[0], kept)
            if not _hides(found[0], added, kept, window):
                return None
            seen = max(seen, tried)
            scores = max(value.size for value in found) / tried**2
    return window if seen and not _may_hide_more(part, seen, longest) else None


def _narrowed(window: Window, found: NDArray[np.float32], kept: NDArray[np.bool_]) -> Window:
    """The window with the limits that the first text shows: the furthest key a query sees, where it could see more."""
    if found.ndim != 4 or found.shape[2:] != (kept.shape[1],) * 2:
        return window
    keys = np.flatnonzero(kept[0])
    queries = np.arange(kept.shape[1])
    sees = found[0, 0][:, keys] > _HIDDEN
    some = sees.any(axis=1)
    if not some.any():
        return window
    first, last = keys[sees.argmax(axis=1)], keys[len(keys) - 1 - sees[:, ::-1].argmax(axis=1)]
    before, after = (queries - first)[some].max(), (last - queries)[some].max()
    return Window(
        window.before if (first[some] == keys[0]).all() else max(0, int(before)),
        window.after if (last[some] == keys[-1]).all() else max(0, int(after)),
    )


def _may_hide_more(part: ir.Model, seen: int, longest: int | None) -> bool:
    """Whether a number in a mask's making may be a limit that no trial was long enough to show."""
    numbers = (value.const_value for value in part.graph.initializers.values())
    whole = [tensor.numpy().reshape(-1) for tensor in numbers if tensor is not None and tensor.dtype in _WHOLE_NUMBERS]
    most = _ENDLESS if longest is None else longest
    return any(((array > seen) & (array < most)).any() for array in whole)


def position_bias(mask: ir.Value) -> ir.Value | None:
    """The one of two addends of a mask that no input but the number of positions makes; None where there is none.

    Behind the sum may stand a factor next to 1, as FuseAttention puts it there.
    """
    node = mask.producer()
    if is_op(node, "Mul") and node is not None:
        node = next((value.producer() for value in node.inputs if value is not None and constant(value) is None), None)
    if node is None or not is_op(node, "Add"):
        return None
    # A constant is no bias: it would have one number of positions.
    made = [value for value in node.inputs if value is not None and value.producer() is not None]
    found = [value for value in made if not _depends_on_inputs(value)]
    return found[0] if len(found) == 1 else None


def _depends_on_inputs(value: ir.Value) -> bool:
    """Whether what an input holds, more than its shape, takes part in a value."""
    if value.is_graph_input():
        return True
    node = value.producer()
    return (
        node is not None
        and not is_op(node, "Shape")
        and any(_depends_on_inputs(v) for v in node.inputs if v is not None)
    )


def _hides(found: NDArray[np.float32], bias: NDArray[np.float32], kept: NDArray[np.bool_], window: Window) -> bool:
    if found.ndim != 4 or found.shape[0] != len(kept) or found.shape[-1] != kept.shape[-1]:
        return False
    expected = np.broadcast_to(bias, found.shape)
    rows = (slice(start, start + _ROWS) for start in range(0, found.shape[2], _ROWS))
    keys = kept[:, None, None, :]
    return all(
        _hides_in(found[:, :, part], expected[:, :, part], keys & _shown(window, part, found.shape)) for part in rows
    )


def _shown(window: Window, queries: slice, shape: Sequence[int]) -> NDArray[np.bool_]:
    """A mask of one row is the same for all queries: nothing but padding fits it."""
    return window.shows(queries, shape[3]) if shape[2] == shape[3] else np.ones((1, 1), dtype=np.bool_)


def _hides_in(found: NDArray[np.float32], expected: NDArray[np.float32], kept: NDArray[np.bool_]) -> bool:
    """The same of some queries, so that what is compared is small beside the scores."""
    is_right = np.abs(found - expected) <= 1e-6 * np.abs(expected)
    return bool(np.where(kept, is_right, found <= _HIDDEN).all())


def _leading_to(model: ir.Model, names: tuple[str, ...]) -> ir.Model:
    """The part of the graph that makes some values."""
    copy = model.clone()
    made = {out.name: out for node in copy.graph for out in node.outputs}
    copy.graph.outputs[:] = [made[name] for name in names]
    RemoveUnusedNodesPass()(copy)
    return copy


def _trial(model: ir.Model, texts: int, length: int, *, hides: bool) -> dict[str, NDArray[np.int64]]:
    """Inputs of the graph, their masks with holes but for the first of several texts, none without a token; two ids.

    Some tokens of a mask that `hides` such are 2.
    """
    random = np.random.default_rng(length)
    kept = random.random((texts, length)) < 0.7
    kept[:, 0] |= ~kept.any(axis=1)
    kept[0] |= texts > 1
    feeds = {}
    for item in model.graph.inputs:
        shape = (texts, length)[: 0 if item.shape is None else len(item.shape)]
        feeds[str(item.name)] = random.integers(0, 2, shape) if item.name == "input_ids" else np.zeros(shape, np.int64)
    mask = kept.astype(np.int64)
    if hides:
        # Behind the first token, which is seen, so that every text has one.
        mask[:, 1:][random.random((texts, length - 1)) < _UNSEEN_SHARE] *= 2
    return {**feeds, ATTENTION_MASK: mask}
