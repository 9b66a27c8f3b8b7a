"""Whether a model's own vectors depend on how much padding a text gets in its batch."""

from __future__ import annotations

from stcompile.artifact.manifest import LONGEST, NO_PADDING
from stcompile.compiler.metrics import distance
from stcompile.compiler.parity.probes import probe_texts
from stcompile.compiler.stack.module_stack import ModuleStack
from stcompile.compiler.stack.route import Route

# Below this cosine between a text alone and in a batch, torch itself depends on padding: convolutions without a mask,
# left-padded absolute positions.
REFERENCE_INVARIANT = 0.99999

# Largest difference of a component that is rounding, on rows scaled to the length of the row. Measured: 8e-7 over all
# golden stacks whose padding is masked, 1.5e-6 for a BERT of 24 layers x 1024.
_ROUNDING = 1e-5

_TEXTS = 16
_LONGEST_TEXT = 300


def padding_for(stack: ModuleStack) -> str:
    """How the runtime must batch: `longest`, or `none` where padding would change torch's own vectors."""
    return LONGEST if all(_ignores_padding(route) for route in stack.routes.values()) else NO_PADDING


def _ignores_padding(route: Route) -> bool:
    if not route.front.has_masked_rows:
        return True
    known = [text for text in probe_texts() if len(text) <= _LONGEST_TEXT]
    # Of very different lengths, so that every text but one is padded.
    texts = [*route.front.probe_texts(), *sorted(known, key=len)[:: max(1, len(known) // _TEXTS)]]
    found = distance(route.encode(texts, batch_size=1), route.encode(texts, batch_size=len(texts)))
    return bool(found.cosine.min() >= REFERENCE_INVARIANT and found.abs_error.max() <= _ROUNDING)
