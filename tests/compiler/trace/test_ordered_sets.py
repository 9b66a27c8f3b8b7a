"""The order of a set of texts is the process's own; a traced graph's is not."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import pytest

from stcompile.compiler.trace.ordered_sets import OrderedSet
from tests.conftest import MODELS

_TRACED = """
import sys

from stcompile.compiler.passes.clean import CleanGraph
from stcompile.compiler.stack.load import load_stack
from stcompile.compiler.trace.onnx import trace

route = load_stack(sys.argv[1]).routes[""]
graph = trace(route, ("sentence_embedding",), "model")
CleanGraph()(graph)
print([(node.op_type, [value and value.name for value in node.inputs]) for node in graph.graph])
"""


def test_it_is_gone_through_in_order_and_is_a_set() -> None:
    assert list(OrderedSet(["sliding", "full", "full"])) == ["full", "sliding"]
    assert isinstance({1}, OrderedSet)
    assert OrderedSet([1, "a"]) == {1, "a"}
    assert not isinstance([1], OrderedSet)


@pytest.mark.more_models
@pytest.mark.parametrize("case", ["backbone_modernbert"])
def test_a_graph_does_not_depend_on_the_hash_seed(case: str) -> None:
    """Without it, seeds 1 and 3 give two orders of its two rotary tables."""
    found = set()
    for seed in ("1", "3"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-c", _TRACED, str(MODELS / case)]
        done = subprocess.run(command, env=environment, capture_output=True, check=True)
        found.add(hashlib.sha256(done.stdout).hexdigest())
    assert len(found) == 1
