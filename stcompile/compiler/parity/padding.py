"""Whether a model's own vectors depend on how much padding a text gets in its batch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stcompile.artifact.manifest import LONGEST, NO_PADDING
from stcompile.compiler.metrics import distance
from stcompile.compiler.modules import Transformer
from stcompile.compiler.parity.bounds import REFERENCE_INVARIANT
from stcompile.compiler.parity.probes import probe_texts
from stcompile.compiler.stack.module_stack import ModuleStack
from stcompile.compiler.stack.route import Route
from stcompile.runtime.text.base import Text

# Largest difference of a component that is rounding, on rows scaled to the length of the row. Measured: 8e-7 over all
# golden stacks whose padding is masked, 1.5e-6 for a BERT of 24 layers x 1024.
_ROUNDING = 1e-5

# What a tokenizer makes. Others are told where something stands in a row: how long a prompt is, for one.
_OF_TOKENS = {"input_ids", "attention_mask", "token_type_ids"}

_TEXTS = 16
_LONGEST_TEXT = 300


def padding_for(stack: ModuleStack) -> str:
    """How the runtime must batch: `longest`, or `none` where padding would change torch's own vectors."""
    return LONGEST if all(_ignores_padding(route) for route in stack.routes.values()) else NO_PADDING


def _ignores_padding(route: Route) -> bool:
    if not route.front.has_masked_rows:
        return True
    texts = _texts(route)
    return _alike(route, _alone(route, texts), _together(route, texts))


def ignores_side(route: Route) -> bool:
    """Whether torch makes the same vectors of texts that are padded on the left and on the right.

    Where positions count by their differences alone, as rotary ones do, and pooling finds its token on either side. On
    the right a text's tokens have the same positions in every batch, so that their numbers are the same, bit by bit.
    """
    front = route.front
    if not isinstance(front, Transformer) or {*route.input_names} - _OF_TOKENS:
        return False
    texts = _texts(route)
    own = _together(route, texts)
    side = front.tokenizer.padding_side
    try:
        front.tokenizer.padding_side = "right"
        return _alike(route, own, _together(route, texts))
    finally:
        front.tokenizer.padding_side = side


def _texts(route: Route) -> list[Text]:
    """Of very different lengths, so that every text but one is padded."""
    known = [text for text in probe_texts() if len(text) <= _LONGEST_TEXT]
    chosen = [*route.front.probe_texts(), *sorted(known, key=len)[:: max(1, len(known) // _TEXTS)]]
    return route.examples_of(chosen)


def _alone(route: Route, texts: list[Text]) -> NDArray[np.float32]:
    return route.encode(texts, batch_size=1, output=route.raw)


def _together(route: Route, texts: list[Text]) -> NDArray[np.float32]:
    return route.encode(texts, batch_size=len(texts), output=route.raw)


def _alike(route: Route, one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    found = distance(route.comparable(one), route.comparable(other))
    return bool(found.cosine.min() >= REFERENCE_INVARIANT and found.abs_error.max() <= _ROUNDING)
