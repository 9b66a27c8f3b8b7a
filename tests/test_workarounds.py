"""What stcompile does because another package is wrong or odd: each is still needed, and says so where it is done.

A test that fails here is good news: the other package has changed, and a piece of ours can go, once no release that is
declared (tests/versions/table.py) needs it any more.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from tests.conftest import GOLDEN
from tests.daemons import ended

PACKAGE = Path(__file__).parents[1] / "stcompile"


@dataclass(frozen=True)
class Workaround:
    """One piece of ours.

    Attributes:
        place: the file that has it, below the package.
        upstream: what it is known as there, which stands beside it; empty where nothing was found.
        still_needed: whether the other package, as it is installed, is still as it was.
    """

    place: str
    upstream: str
    still_needed: Callable[[Path], bool]


def _exported(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> Any:
    return torch.onnx.export(module.eval(), inputs, dynamo=True, verbose=False)


def _log_sigmoid(folder: Path) -> bool:
    path = str(folder / "model.onnx")
    _exported(torch.nn.LogSigmoid(), (torch.zeros(2),)).save(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: np.array([0, -100], np.float32)})
    return bool(np.isneginf(found[1]))


def _one_minus_a_mask(_: Path) -> bool:
    class Masked(torch.nn.Module):
        def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return (1.0 - mask) * x

    try:
        _exported(Masked(), (torch.zeros(2, 3), torch.ones(2, 3, dtype=torch.int64)))
    except torch.onnx.errors.OnnxExporterError:
        return True
    return False


def _largest_of_none(_: Path) -> bool:
    openvino = pytest.importorskip("openvino")
    from openvino import opset13 as ops

    given = ops.parameter([-1, 4], np.float32)
    model = openvino.Model([ops.reduce_max(given, [1])], [given])
    (found,) = openvino.Core().compile_model(model, "CPU")([np.full((1, 4), -np.inf, np.float32)]).values()
    return bool(np.isfinite(found).all())


def _order_of_a_set(_: Path) -> bool:
    from transformers import ModernBertModel

    return "in set(self.config.layer_types)" in inspect.getsource(ModernBertModel.forward)


def _all_masked_is_zero(folder: Path) -> bool:
    """The operator's answer where every score is the lowest number; softmax would give the mean."""
    shapes = {"q": [1, 1, 4], "k": [1, 2, 4], "v": [1, 2, 4], "bias": [1, 1, 1, 2]}
    node = helper.make_node("Attention", [*shapes], ["y"], q_num_heads=1, kv_num_heads=1)
    graph = helper.make_graph(
        [node],
        "attention",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 4])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    feeds["bias"][:] = np.finfo(np.float32).min
    (found,) = session.run(None, feeds)
    return not found.any()


def _loads_twice(_: Path) -> bool:
    """What cannot be loaded is loaded once more; the second time it fails, too."""
    return "Falling back to" in inspect.getsource(onnxruntime.InferenceSession.__init__)


# Leaves out what stcompile does about it.
_WITHOUT_OURS = """
import atexit
from stcompile.runtime.forks import engine_call

atexit.unregister(engine_call.at_end)
"""


def _daemons_are_unwound(_: Path) -> bool:
    artifact = GOLDEN / "artifacts" / "v9" / "full_stack-onnx-int8"
    return any(ended(artifact, 0.2, _WITHOUT_OURS).returncode < 0 for _ in range(3))


def _offers_lose_the_body(_: Path) -> bool:
    httptools = pytest.importorskip("httptools")
    bodies: list[bytes] = []
    parser = httptools.HttpRequestParser(SimpleNamespace(on_body=bodies.append))
    head = b"POST / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 1\r\n\r\n"
    with contextlib.suppress(httptools.HttpParserUpgrade):
        parser.feed_data(head + b"a")
    return not bodies


WORKAROUNDS = {
    "daemons are unwound": Workaround("runtime/forks.py", "pybind/pybind11#2215", _daemons_are_unwound),
    "logarithm of a sigmoid": Workaround("compiler/trace/translations.py", "microsoft/onnxscript#281", _log_sigmoid),
    "one minus a mask": Workaround("compiler/modules/transformer.py", "pytorch/pytorch#194381", _one_minus_a_mask),
    "largest of none": Workaround("compiler/modules/pooling.py", "", _largest_of_none),
    "order of a set": Workaround("compiler/trace/ordered_sets.py", "huggingface/transformers#48162", _order_of_a_set),
    "all masked": Workaround("compiler/passes/attention.py", "onnx/onnx#8068", _all_masked_is_zero),
    "loaded twice": Workaround("runtime/engines/sessions.py", "microsoft/onnxruntime#21424", _loads_twice),
    "offers of HTTP/2": Workaround("server/upgrades.py", "Kludex/uvicorn#2722", _offers_lose_the_body),
}


@pytest.mark.parametrize("name", WORKAROUNDS)
def test_it_is_still_needed(name: str, tmp_path: Path) -> None:
    assert WORKAROUNDS[name].still_needed(tmp_path), "the other package has changed: see whether ours can go"


@pytest.mark.parametrize("name", WORKAROUNDS)
def test_what_it_is_known_as_stands_beside_it(name: str) -> None:
    workaround = WORKAROUNDS[name]
    assert workaround.upstream in (PACKAGE / workaround.place).read_text("utf-8")
