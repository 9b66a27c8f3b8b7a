"""The fused operators against the layer's formulas in float64, for sizes and masks of every kind."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.nn import functional

from stcompile.compiler.quantize.fused_layers import panels
from stcompile.kernels import native

pytestmark = pytest.mark.skipif(bool(native.refusals()), reason="; ".join(native.refusals()) or "they run here")

Array = npt.NDArray[np.float32]

# Root mean square of the error as a share of the layer's output; behind each, what was measured at most.
LARGEST_ERROR = {
    "EncoderLayerInt8": 0.025,  # 0.0216
    "EncoderLayerBfloat16": 0.005,  # 0.0034
    "EncoderLayerFloat32": 2e-6,  # 7e-7
}
OPERATORS = list(LARGEST_ERROR)

# hidden, intermediate, heads: heads of 32, 64, 96 and 128.
SIZES = [(64, 128, 2), (128, 64, 2), (192, 256, 2), (256, 128, 2), (384, 1536, 12)]
LENGTHS = [1, 2, 5, 6, 7, 15, 16, 17, 63, 64, 65, 130]


@dataclass(frozen=True)
class Layer:
    """Random weights, and the layer in torch with float64."""

    hidden: int
    intermediate: int
    heads: int

    def weights(self) -> dict[str, tuple[Array, Array]]:
        random = np.random.default_rng(self.hidden + self.heads)
        shapes = {
            "qkv": (self.hidden, 3 * self.hidden),
            "output": (self.hidden, self.hidden),
            "up": (self.hidden, self.intermediate),
            "down": (self.intermediate, self.hidden),
        }
        return {
            name: (
                (random.standard_normal(shape) * shape[0] ** -0.5).astype(np.float32),
                (random.standard_normal(shape[1]) * 0.1).astype(np.float32),
            )
            for name, shape in shapes.items()
        }

    def norms(self) -> list[Array]:
        random = np.random.default_rng(7)
        return [(random.standard_normal(self.hidden) * 0.1 + (1 - i % 2)).astype(np.float32) for i in range(4)]

    def expected(
        self, hidden: Array, mask: npt.NDArray[np.int64], bias: Array | None = None
    ) -> npt.NDArray[np.float64]:
        weights = {name: [torch.from_numpy(part).double() for part in parts] for name, parts in self.weights().items()}
        gain_1, bias_1, gain_2, bias_2 = (torch.from_numpy(part).double() for part in self.norms())
        x = torch.from_numpy(hidden).double()
        batch, length, width = x.shape

        def linear(name: str, of: torch.Tensor) -> torch.Tensor:
            return of @ weights[name][0] + weights[name][1]

        query, key, value = (
            part.reshape(batch, length, self.heads, -1).transpose(1, 2) for part in linear("qkv", x).chunk(3, dim=-1)
        )
        kept = torch.from_numpy(mask).bool()[:, None, None, :]
        added = torch.zeros(()).double() if bias is None else torch.from_numpy(bias).double()
        scores = torch.where(kept, added, -torch.inf)
        context = functional.scaled_dot_product_attention(query, key, value, attn_mask=scores)
        context = context.transpose(1, 2).reshape(batch, length, width)
        middle = functional.layer_norm(x + linear("output", context), (width,), gain_1, bias_1, 1e-12)
        grown = functional.gelu(linear("up", middle))
        made = functional.layer_norm(middle + linear("down", grown), (width,), gain_2, bias_2, 1e-6)
        return made.numpy()

    def session(self, operator: str, threads: int = 1, *, biased: bool = False, **changed: Any) -> ort.InferenceSession:
        """One node; a size in `changed` replaces what the node is told, not its weights."""
        factors = np.ones(3 * self.hidden, dtype=np.float32)
        factors[: self.hidden] = math.log2(math.e) / math.sqrt(self.hidden / self.heads)
        constants: list[onnx.TensorProto] = []
        attributes: dict[str, Any] = {
            "heads": self.heads,
            "hidden": self.hidden,
            "intermediate": self.intermediate,
            "epsilon_1": 1e-12,
            "epsilon_2": 1e-6,
        }
        for name, (weight, bias) in self.weights().items():
            by = factors if name == "qkv" else np.ones(weight.shape[1], dtype=np.float32)
            if operator == "EncoderLayerInt8":
                smooth = np.linspace(0.5, 2, len(weight)).astype(np.float32)
                if name == "down":  # what a GELU makes is never below -0.17
                    smooth[:] = 1
                scaled = weight / smooth[:, None] * by
                scale = np.abs(scaled).max(axis=0) / 127
                arrays = [panels(np.rint(scaled / scale).astype(np.int8), 4), bias * by, scale, smooth]
                attributes[f"{name}_zero_point"] = 16 if name == "down" else 128
                attributes[f"{name}_smallest_scale"] = 0.17 / 16 if name == "down" else 1e-12
                constants += [numpy_helper.from_array(array, f"{name}_{index}") for index, array in enumerate(arrays)]
            else:
                constants += [
                    packed(f"{name}_w", weight * by, operator),
                    numpy_helper.from_array(bias * by, f"{name}_b"),
                ]
        constants += [numpy_helper.from_array(part, f"norm_{index}") for index, part in enumerate(self.norms())]
        inputs = ["hidden", "mask", *(constant.name for constant in constants), *(["bias"] if biased else [])]
        shape: list[str | int | None] = ["texts", "heads", "sequence", "sequence"]
        extra = [helper.make_tensor_value_info("bias", TensorProto.FLOAT, shape)] if biased else []
        node = helper.make_node(operator, inputs, ["out"], domain=native.DOMAIN, **{**attributes, **changed})
        graph = helper.make_graph(
            [node],
            "layer",
            [
                helper.make_tensor_value_info("hidden", TensorProto.FLOAT, ["batch", "sequence", self.hidden]),
                helper.make_tensor_value_info("mask", TensorProto.INT64, ["batch", "sequence"]),
                *extra,
            ],
            [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["batch", "sequence", self.hidden])],
            constants,
        )
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid(native.DOMAIN, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = threads
        options.register_custom_ops_library(str(native.library()))
        return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def packed(name: str, weight: Array, operator: str) -> onnx.TensorProto:
    if operator == "EncoderLayerFloat32":
        return numpy_helper.from_array(panels(weight, 1), name)
    bits = panels(torch.from_numpy(weight).bfloat16().view(torch.uint16).numpy(), 2)
    return helper.make_tensor(name, TensorProto.BFLOAT16, bits.shape, bits.tobytes(), raw=True)


def inputs(layer: Layer, texts: int, length: int) -> dict[str, npt.NDArray[Any]]:
    random = np.random.default_rng(texts * 1000 + length)
    mask = (random.random((texts, length)) < 0.8).astype(np.int64)
    mask[:, 0] |= ~mask.any(axis=1)
    mask[0] = 1
    return {"hidden": random.standard_normal((texts, length, layer.hidden)).astype(np.float32), "mask": mask}


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("sizes", SIZES)
def test_it_is_the_layer(operator: str, sizes: tuple[int, int, int]) -> None:
    layer = Layer(*sizes)
    session = layer.session(operator)
    for length in LENGTHS:
        feeds = inputs(layer, 3, length)
        kept = feeds["mask"] != 0
        (found,) = session.run(None, feeds)
        expected = layer.expected(**feeds)[kept]
        error = np.linalg.norm(found[kept] - expected) / np.linalg.norm(expected)
        assert error <= LARGEST_ERROR[operator], length
        assert not found[~kept].any()


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("holes", [False, True])
def test_what_is_added_to_the_scores_is_of_the_positions(operator: str, holes: bool) -> None:
    """Behind each other, and with padding between them."""
    layer = Layer(128, 64, 2)
    session = layer.session(operator, biased=True)
    for number, length in enumerate(LENGTHS):
        feeds = inputs(layer, 3, length)
        if not holes:
            feeds["mask"] = np.sort(feeds["mask"], axis=1)[:, ::-1].copy()
        kept = feeds["mask"] != 0
        shape = (1 + number % 2 * 2, 2, length, length)
        bias: Array = (3 * np.random.default_rng(length).standard_normal(shape)).astype(np.float32)
        (found,) = session.run(None, {**feeds, "bias": bias})
        expected = layer.expected(**feeds, bias=bias)[kept]
        assert np.linalg.norm(found[kept] - expected) / np.linalg.norm(expected) <= LARGEST_ERROR[operator], length
    with pytest.raises(Exception, match=r"is not \(batch or 1, heads, sequence, sequence\)"):
        session.run(None, {**feeds, "bias": bias[:, :1]})


@pytest.mark.parametrize("operator", OPERATORS)
def test_the_error_bound_can_fail(operator: str) -> None:
    """One head fewer is another layer."""
    layer = Layer(128, 64, 2)
    feeds = inputs(layer, 2, 9)
    feeds["mask"][:] = 1
    (found,) = layer.session(operator, heads=4).run(None, feeds)
    expected = layer.expected(**feeds)
    assert np.linalg.norm(found - expected) / np.linalg.norm(expected) > 5 * LARGEST_ERROR[operator]


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("threads", [1, 3])
def test_a_text_comes_out_the_same_bit_by_bit_whatever_stands_beside_it(operator: str, threads: int) -> None:
    layer = Layer(192, 256, 2)
    feeds = inputs(layer, 5, 70)
    (together,) = layer.session(operator, threads).run(None, feeds)
    alone = layer.session(operator)
    for index in range(5):
        kept = feeds["mask"][index] != 0
        (row,) = alone.run(
            None, {"hidden": feeds["hidden"][index : index + 1, kept], "mask": np.ones((1, kept.sum()), dtype=np.int64)}
        )
        assert np.array_equal(row[0], together[index, kept])


@pytest.mark.parametrize("operator", OPERATORS)
def test_several_threads_take_many_tokens_through_a_narrow_network(operator: str) -> None:
    """Blocks of threads that did nothing else before, with an intermediate size below the hidden size."""
    layer = Layer(256, 64, 2)
    feeds = inputs(layer, 7, 40)
    (together,) = layer.session(operator, 4).run(None, feeds)
    (alone,) = layer.session(operator).run(None, feeds)
    assert np.array_equal(together, alone)
    kept = feeds["mask"] != 0
    expected = layer.expected(**feeds)[kept]
    assert np.linalg.norm(together[kept] - expected) / np.linalg.norm(expected) <= LARGEST_ERROR[operator]


@pytest.mark.parametrize("operator", OPERATORS)
def test_nothing_but_padding_is_zeros(operator: str) -> None:
    layer = Layer(64, 128, 2)
    session = layer.session(operator)
    for shape in ((2, 3), (0, 3), (2, 0)):
        hidden = np.full((*shape, 64), np.nan, dtype=np.float32)
        (found,) = session.run(None, {"hidden": hidden, "mask": np.zeros(shape, dtype=np.int64)})
        assert found.shape == hidden.shape
        assert not found.any()


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"heads": 3}, "the hidden size is no multiple of the number of heads"),
        ({"heads": 8}, "the size of a head is no multiple of 32"),
        ({"hidden": 96}, "the hidden size is no multiple of 64"),
        ({"intermediate": 192}, "input .* is not of the size its layer needs"),
    ],
)
def test_other_sizes_are_refused_at_load(operator: str, changed: dict[str, Any], reason: str) -> None:
    with pytest.raises(Exception, match=reason):
        Layer(128, 128, 2).session(operator, **changed)


@pytest.mark.parametrize("zero_point", [-1, 129, 255])
def test_a_zero_point_beyond_the_middle_is_refused_at_load(zero_point: int) -> None:
    with pytest.raises(Exception, match="up_zero_point is not from 0 to 128"):
        Layer(64, 128, 2).session("EncoderLayerInt8", up_zero_point=zero_point)


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_mask_of_another_shape_is_refused(operator: str) -> None:
    layer = Layer(64, 128, 2)
    feeds = inputs(layer, 2, 5)
    with pytest.raises(Exception, match="hidden states and attention mask are not of one shape"):
        layer.session(operator).run(None, {**feeds, "mask": feeds["mask"][:, :4]})
