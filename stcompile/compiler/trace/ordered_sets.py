"""Sets in a network's code, gone through in one order whatever the process: the same graph from the same model.

ModernBERT and Gemma 3 make their rotary tables in the order of a set of names; huggingface/transformers#48162 sorts it
where their buffers are registered.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from torch import nn


class _SetsAreSets(type):
    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, set)


class OrderedSet(set[Any], metaclass=_SetsAreSets):
    """A set that is gone through from its smallest item to its largest, where they can be told."""

    def __iter__(self) -> Iterator[Any]:
        try:
            return iter(sorted(super().__iter__()))
        except TypeError:
            return super().__iter__()


@contextlib.contextmanager
def ordered_sets(network: nn.Module) -> Iterator[None]:
    """Within the block, `set(...)` in the Python files that the network's modules come from is an `OrderedSet`.

    transformers' networks of several kinds of attention compute their rotary tables `for layer_type in
    set(self.config.layer_types)`, and the order of a set of strings is the process's own: see
    findings/transformers-modernbert-export-order.sh.
    """
    files = {sys.modules.get(type(module).__module__) for module in network.modules()}
    changed = [file for file in files if file is not None and "set" not in vars(file)]
    for file in changed:
        vars(file)["set"] = OrderedSet
    try:
        yield
    finally:
        for file in changed:
            del vars(file)["set"]
