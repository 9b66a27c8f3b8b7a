"""Layers with random weights: the node that an operator of the package computes one with, and its formulas in numpy."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession

from stcompile.kernels import native
from tests.kernels.run_cases import session

Array = npt.NDArray[np.float32]
Exact = npt.NDArray[np.float64]
Feeds = dict[str, npt.NDArray[Any]]

INT8, BFLOAT16, FLOAT32 = "EncoderLayerInt8", "EncoderLayerBfloat16", "EncoderLayerFloat32"
OPERATORS = (INT8, BFLOAT16, FLOAT32)

PANEL = 64
LARGEST_PAIR = 128
EPSILONS = (1e-12, 1e-6)


@dataclass(frozen=True)
class Linear:
    """y = x W + b with W `(in, out)`, and what it is in 8 bits: whole numbers times `scale`, for x times `smooth`."""

    weight: Array
    bias: Array
    levels: npt.NDArray[np.int8]
    scale: Array
    smooth: Array
    zero_point: int
    smallest: float

    def rounded(self, x: Array) -> tuple[npt.NDArray[np.int32], Array]:
        """Rows as levels without their zero point, and the scale of each row; every step in float32."""
        smoothed = x * self.smooth
        above = np.float32(255 - self.zero_point)
        scale = np.maximum(np.float32(self.smallest), smoothed.max(axis=1, initial=0) / above)
        if self.zero_point == 128:
            scale = np.maximum(scale, -smoothed.min(axis=1, initial=0) / np.float32(128))
        inverse = np.float32(1) / scale
        levels = np.rint(smoothed * inverse[:, None]).astype(np.int32) + self.zero_point
        return np.clip(levels, 0, 255) - self.zero_point, scale

    def of(self, x: Exact, operator: str | None) -> Exact:
        """What comes out with the operator's numbers and exact sums; without one everything is float64."""
        if operator == INT8:
            levels, scale = self.rounded(x.astype(np.float32))
            # Sums of integers below 2^53 are exact in float64, whose products are a hundred times as fast as int32's.
            sums = levels.astype(np.float64) @ self.levels.astype(np.float64)
            assert np.abs(sums).max(initial=0) < 2**31
            return sums * scale[:, None].astype(np.float64) * self.scale + self.bias
        weight: npt.NDArray[Any] = self.weight
        if operator == BFLOAT16:
            x = x.astype(np.float32).astype(ml_dtypes.bfloat16).astype(np.float64)
            weight = weight.astype(ml_dtypes.bfloat16)
        return x @ weight.astype(np.float64) + self.bias


@dataclass(frozen=True)
class Layer:
    """Random weights; `head_size` where heads are not as wide as the hidden size together."""

    hidden: int
    intermediate: int
    heads: int
    head_size: int | None = None
    pair_safe: bool = True

    @property
    def head(self) -> int:
        return self.head_size or self.hidden // self.heads

    @cached_property
    def linears(self) -> dict[str, Linear]:
        """Of queries, keys and values, the queries scaled; of what follows attention; and of both feed-forward."""
        attended = self.heads * self.head
        factors = np.ones(3 * attended, dtype=np.float32)
        factors[:attended] = math.log2(math.e) / math.sqrt(self.head)
        shapes = {
            "qkv": (self.hidden, 3 * attended),
            "output": (attended, self.hidden),
            "up": (self.hidden, self.intermediate),
            "down": (self.intermediate, self.hidden),
        }
        random = np.random.default_rng(self.hidden + self.heads)
        found = {}
        for name, shape in shapes.items():
            by = factors if name == "qkv" else np.ones(shape[1], dtype=np.float32)
            weight = (random.standard_normal(shape) * shape[0] ** -0.5 * by).astype(np.float32)
            bias = (random.standard_normal(shape[1]) * 0.1 * by).astype(np.float32)
            # What a GELU makes is never below -0.17, and is not smoothed.
            smooth = (
                np.linspace(0.5, 2, shape[0]).astype(np.float32) if name != "down" else np.ones(shape[0], np.float32)
            )
            scaled = weight / smooth[:, None]
            most = np.abs(scaled).max(axis=0) / 127
            if self.pair_safe:
                pairs = scaled.reshape(-1, 2, shape[1])
                same = np.maximum(pairs, 0).sum(axis=1), np.maximum(-pairs, 0).sum(axis=1)
                most = np.maximum(most, np.maximum(*same).max(axis=0) / (LARGEST_PAIR - 1))
            levels = np.rint(scaled / most).astype(np.int8)
            zero_point, smallest = (16, 0.17 / 16) if name == "down" else (128, 1e-12)
            found[name] = Linear(weight, bias, levels, most.astype(np.float32), smooth, zero_point, smallest)
        return found

    @cached_property
    def norms(self) -> list[Array]:
        random = np.random.default_rng(7)
        return [(random.standard_normal(self.hidden) * 0.1 + (1 - i % 2)).astype(np.float32) for i in range(4)]

    def expected(
        self, feeds: Feeds, operator: str | None = None, *, rows: int | None = None, without: int = 0
    ) -> Exact:
        """The layer, zeros where the mask has none.

        Args:
            operator: rounds inputs and weights of linear layers as this one does; attention is exact.
            rows: of each text only so many tokens, its first; the others stay zero.
            without: so many keys fewer than there are: another layer.
        """
        hidden, mask, bias = feeds["hidden"].astype(np.float64), feeds["mask"] != 0, feeds.get("bias")
        made = np.zeros_like(hidden)
        for text in range(len(hidden)):
            kept = np.flatnonzero(mask[text])
            if not len(kept):
                continue
            count = len(kept) if rows is None else min(rows, len(kept))
            x = hidden[text, kept]
            query, key, value = np.split(self.linears["qkv"].of(x, operator), 3, axis=1)
            context = np.empty((count, self.heads * self.head))
            for head in range(self.heads):
                at = slice(head * self.head, (head + 1) * self.head)
                scores = query[:count, at] @ key[:, at].T  # in base 2
                if bias is not None:
                    added = bias[text if len(bias) > 1 else 0, head][np.ix_(kept[:count], kept)]
                    scores += added.astype(np.float64) * math.log2(math.e)
                if without:
                    scores[:, -without:] = -np.inf
                chances = np.exp2(scores - scores.max(axis=1, keepdims=True))
                context[:, at] = chances / chances.sum(axis=1, keepdims=True) @ value[:, at]
            middle = self._norm(x[:count] + self.linears["output"].of(context, operator), 0)
            grown = self.linears["up"].of(middle, operator)
            grown = 0.5 * grown * (1 + torch.erf(torch.from_numpy(grown / math.sqrt(2))).numpy())
            made[text, kept[:count]] = self._norm(middle + self.linears["down"].of(grown, operator), 1)
        return made

    def _norm(self, x: Exact, index: int) -> Exact:
        gain, bias = self.norms[2 * index : 2 * index + 2]
        away = x - x.mean(axis=1, keepdims=True)
        normal: Exact = away / np.sqrt((away**2).mean(axis=1, keepdims=True) + EPSILONS[index]) * gain + bias
        return normal

    def model(self, operator: str, *, biased: bool = False, **changed: Any) -> onnx.ModelProto:
        """One node; a size in `changed` replaces what the node is told, not its weights."""
        constants: list[onnx.TensorProto] = []
        attributes: dict[str, Any] = {
            "heads": self.heads,
            "hidden": self.hidden,
            "intermediate": self.intermediate,
            "epsilon_1": EPSILONS[0],
            "epsilon_2": EPSILONS[1],
        }
        if self.head_size is not None:
            attributes["head_size"] = self.head_size
        for name, linear in self.linears.items():
            arrays = [linear.bias]
            if operator == INT8:
                arrays += [linear.scale, linear.smooth]
                attributes[f"{name}_zero_point"] = linear.zero_point
                attributes[f"{name}_smallest_scale"] = linear.smallest
            constants.append(_packed(f"{name}_weight", linear, operator))
            constants += [numpy_helper.from_array(array, f"{name}_{index}") for index, array in enumerate(arrays)]
        constants += [numpy_helper.from_array(part, f"norm_{index}") for index, part in enumerate(self.norms)]
        shapes: dict[str, list[str | int]] = {
            "hidden": ["batch", "sequence", self.hidden],
            "mask": ["batch", "sequence"],
        }
        if biased:
            shapes["bias"] = ["texts", "heads", "sequence", "sequence"]
        inputs = ["hidden", "mask", *(constant.name for constant in constants), *(["bias"] if biased else [])]
        graph = helper.make_graph(
            [helper.make_node(operator, inputs, ["out"], domain=native.DOMAIN, **{**attributes, **changed})],
            "layer",
            [
                helper.make_tensor_value_info(name, TensorProto.INT64 if name == "mask" else TensorProto.FLOAT, shape)
                for name, shape in shapes.items()
            ],
            [helper.make_tensor_value_info("out", TensorProto.FLOAT, shapes["hidden"])],
            constants,
        )
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid(native.DOMAIN, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)

    def session(self, operator: str, threads: int = 1, **more: Any) -> InferenceSession:
        """A session of `model`."""
        return session(self.model(operator, **more).SerializeToString(), threads)

    def feeds(self, lengths: Iterable[int], *, holes: bool = True, bias: int = 0) -> Feeds:
        """Texts of so many tokens; with holes, padding stands between them.

        Args:
            bias: 0 for none, 1 for one of all texts, 2 for one a text.
        """
        lengths = list(lengths)
        random = np.random.default_rng(lengths)
        width = max(lengths, default=0) + (5 if holes else 0)
        mask = np.zeros((len(lengths), width), dtype=np.int64)
        for row, length in zip(mask, lengths, strict=True):
            row[random.permutation(width)[:length] if holes else slice(length)] = 1
        found: Feeds = {
            "hidden": random.standard_normal((*mask.shape, self.hidden)).astype(np.float32),
            "mask": mask,
        }
        if bias:
            shape = (len(lengths) if bias == 2 else 1, self.heads, width, width)
            found["bias"] = (3 * random.standard_normal(shape)).astype(np.float32)
        return found


def error(found: npt.NDArray[Any], expected: Exact) -> float:
    """Root mean square of the error as a share of what is expected."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def _packed(name: str, linear: Linear, operator: str) -> onnx.TensorProto:
    if operator == INT8:
        return numpy_helper.from_array(panels(linear.levels, 4), name)
    if operator == FLOAT32:
        return numpy_helper.from_array(panels(linear.weight, 1), name)
    bits = panels(linear.weight.astype(ml_dtypes.bfloat16).view(np.uint16), 2)
    return helper.make_tensor(name, TensorProto.BFLOAT16, bits.shape, bits.tobytes(), raw=True)


def panels(weight: npt.NDArray[Any], word: int) -> npt.NDArray[Any]:
    """`(in, out)` as `(panels, in / word, 64, word)`, the last panel filled up with columns of zeros."""
    rows, columns = weight.shape
    full = np.zeros((rows, -(-columns // PANEL) * PANEL), dtype=weight.dtype)
    full[:, :columns] = weight
    return np.ascontiguousarray(full.reshape(rows // word, word, -1, PANEL).transpose(2, 0, 3, 1))
