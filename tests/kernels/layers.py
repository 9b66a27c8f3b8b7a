"""Layers with random weights: the node that an operator of the package computes one with, and its formulas in numpy."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal

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

# Inputs behind all others, in their order.
OPTIONAL = ("bias", "cos", "sin", "query_gain", "key_gain", "gain_3", "shift_3", "gain_4", "shift_4")

PANEL = 64
LARGEST_PAIR = 128
EPSILONS = (1e-12, 1e-6, 1e-5, 1e-7)
HEAD_EPSILON = 1e-3
LOG2_E = math.log2(math.e)

Padding = Literal["holes", "left", "right", "unseen"]


def _gelu(x: Exact) -> Exact:
    made: Exact = 0.5 * x * (1 + torch.erf(torch.from_numpy(x / math.sqrt(2))).numpy())
    return made


ACTIVATIONS: Mapping[str, Callable[[Exact], Exact]] = MappingProxyType(
    {
        "gelu": _gelu,
        "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        "silu": lambda x: x / (1 + np.exp(-x)),
        "relu": lambda x: np.maximum(x, 0),
    }
)
# The level of zero and the least scale of what feed-forward's second layer reads, by what its values may go down to.
LEVELS_OF_ACTIVATIONS: Mapping[str, tuple[int, float]] = MappingProxyType(
    {"gelu": (16, 0.17 / 16), "gelu_tanh": (16, 0.1701 / 16), "silu": (16, 0.2785 / 16), "relu": (0, 1e-12)}
)


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
    """Random weights, and the parts that a layer is put together of, as the node calls them.

    Attributes:
        head_size: where heads are not as wide as the hidden size together.
        kv_heads: where query heads share keys and values.
        head_norms: whether each query and key has an RMSNorm.
        rotary: pairs of each query's and key's numbers that turn.
        soft_cap: below which scores are bent, before anything is added to them; 0 where they are not.
    """

    hidden: int
    intermediate: int
    heads: int
    head_size: int | None = None
    pair_safe: bool = True
    kv_heads: int | None = None
    norms: Literal["after", "before", "around"] = "after"
    first_norm: bool = True
    normalization: Literal["layer", "rms"] = "layer"
    activation: str = "gelu"
    gated: bool = False
    before: int = -1
    after: int = -1
    head_norms: bool = False
    rotary: int = 0
    soft_cap: float = 0.0

    @property
    def head(self) -> int:
        return self.head_size or self.hidden // self.heads

    @property
    def groups(self) -> int:
        """Heads of keys and values."""
        return self.kv_heads or self.heads

    @cached_property
    def linears(self) -> dict[str, Linear]:
        """Of queries, keys and values, the queries scaled; of what follows attention; and of both feed-forward."""
        attended = self.heads * self.head
        factors = np.ones(attended + 2 * self.groups * self.head, dtype=np.float32)
        if not self.head_norms:
            factors[:attended] = LOG2_E / math.sqrt(self.head)
        shapes = {
            "qkv": (self.hidden, len(factors)),
            "output": (attended, self.hidden),
            "up": (self.hidden, (1 + self.gated) * self.intermediate),
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
            zero_point, smallest = (128, 1e-12)
            if name == "down" and not self.gated:
                zero_point, smallest = LEVELS_OF_ACTIVATIONS[self.activation]
            found[name] = Linear(weight, bias, levels, most.astype(np.float32), smooth, zero_point, smallest)
        return found

    @cached_property
    def gains(self) -> list[Array]:
        """Gain and shift of each normalization."""
        random, count = np.random.default_rng(7), 8 if self.norms == "around" else 4
        return [(random.standard_normal(self.hidden) * 0.1 + (1 - i % 2)).astype(np.float32) for i in range(count)]

    @cached_property
    def head_gains(self) -> list[Array]:
        """Of queries, scaled, and keys; empty where they have no norms."""
        random = np.random.default_rng(8)
        by = (LOG2_E / math.sqrt(self.head), 1) if self.head_norms else ()
        return [((random.standard_normal(self.head) * 0.1 + 1) * factor).astype(np.float32) for factor in by]

    @property
    def is_narrow(self) -> bool:
        """Whether a token sees so few others that none of them may be hidden."""
        return 0 <= self.before < NARROW and 0 <= self.after < NARROW

    def expected(
        self, feeds: Feeds, operator: str | None = None, *, rows: int | None = None, without: int = 0
    ) -> Exact:
        """The layer, zeros where the mask has none.

        Args:
            operator: rounds inputs and weights of linear layers as this one does; attention is exact.
            rows: of each text only so many tokens, its first; the others stay zero.
            without: so many keys fewer than there are: another layer.
        """
        hidden, mask = feeds["hidden"].astype(np.float64), feeds["mask"] != 0
        made = np.zeros_like(hidden)
        for text in range(len(hidden)):
            kept = np.flatnonzero(mask[text])
            if not len(kept):
                continue
            count = len(kept) if rows is None else min(rows, len(kept))
            x = hidden[text, kept]
            read = x if self.norms == "after" or not self.first_norm else self._norm(x, 0)
            context = self._attention(read, feeds, text, kept, count, operator, without)
            middle, grown = self.linears["output"].of(context, operator), x[:count]
            if self.norms == "around":
                middle = self._norm(middle, 2)
            middle = middle + grown
            if self.norms == "after":
                middle = self._norm(middle, 0)
            grown = self._feed_forward(middle if self.norms == "after" else self._norm(middle, 1), operator)
            if self.norms == "around":
                grown = self._norm(grown, 3)
            grown = middle + grown
            made[text, kept[:count]] = self._norm(grown, 1) if self.norms == "after" else grown
        return made

    def _attention(
        self,
        x: Exact,
        feeds: Feeds,
        text: int,
        kept: npt.NDArray[np.int64],
        count: int,
        operator: str | None,
        without: int,
    ) -> Exact:
        """Of the first `count` rows of one text, `(count, heads * head)`."""
        made, bias = self.linears["qkv"].of(x, operator), feeds.get("bias")
        columns = iter(np.split(made, made.shape[1] // self.head, axis=1))
        queries = [self._placed(next(columns), feeds, text, kept, 0)[:count] for _ in range(self.heads)]
        keys = [self._placed(next(columns), feeds, text, kept, 1) for _ in range(self.groups)]
        values = list(columns)
        away = kept[None, :] - kept[:count, None]  # how far a key stands behind a query
        seen = np.ones_like(away, dtype=bool)
        if self.before >= 0:
            seen &= away >= -self.before
        if self.after >= 0:
            seen &= away <= self.after
        if without:
            seen[:, -without:] = False
        seen &= feeds["mask"][text, kept] != UNSEEN
        contexts = []
        for head, query in enumerate(queries):
            group = head // (self.heads // self.groups)
            scores = query @ keys[group].T  # in base 2
            if self.soft_cap:
                most = self.soft_cap * LOG2_E
                scores = most * np.tanh(scores / most)
            if bias is not None:
                added = bias[text if len(bias) > 1 else 0, head if bias.shape[1] > 1 else 0]
                scores += added[np.ix_(kept[:count], kept)].astype(np.float64) * LOG2_E
            scores = np.where(seen, scores, -np.inf)
            chances = np.exp2(scores - scores.max(axis=1, keepdims=True))
            contexts.append(chances / chances.sum(axis=1, keepdims=True) @ values[group])
        return np.concatenate(contexts, axis=1)

    def _placed(self, x: Exact, feeds: Feeds, text: int, kept: npt.NDArray[np.int64], which: int) -> Exact:
        """Queries (0) or keys (1) of one head with their norm and their rotation, where they have any."""
        if self.head_norms:
            x = x / np.sqrt((x**2).mean(axis=1, keepdims=True) + HEAD_EPSILON) * self.head_gains[which]
        if not self.rotary:
            return x
        cosine, sine = (feeds[name][text, kept].astype(np.float64) for name in ("cos", "sin"))
        first, second, still = np.split(x, [self.rotary, 2 * self.rotary], axis=1)
        return np.concatenate([first * cosine - second * sine, second * cosine + first * sine, still], axis=1)

    def _feed_forward(self, x: Exact, operator: str | None) -> Exact:
        grown = self.linears["up"].of(x, operator)
        gate, factor = grown[:, : self.intermediate], grown[:, self.intermediate :]
        grown = ACTIVATIONS[self.activation](gate)
        return self.linears["down"].of(grown * factor if self.gated else grown, operator)

    def _norm(self, x: Exact, index: int) -> Exact:
        gain, shift = self.gains[2 * index : 2 * index + 2]
        away = x if self.normalization == "rms" else x - x.mean(axis=1, keepdims=True)
        normal: Exact = away / np.sqrt((away**2).mean(axis=1, keepdims=True) + EPSILONS[index]) * gain + shift
        return normal

    def attributes(self) -> dict[str, Any]:
        """Of the node, but for numbers of linear layers; what is as it was before there were others is left out."""
        found: dict[str, Any] = {"heads": self.heads, "hidden": self.hidden, "intermediate": self.intermediate}
        found |= {f"epsilon_{index + 1}": EPSILONS[index] for index in range(len(self.gains) // 2)}
        said = {name: getattr(self, name) for name in DEFAULTS if getattr(self, name) != DEFAULTS[name]}
        found |= {name: int(value) if isinstance(value, bool) else value for name, value in said.items()}
        if self.head_norms:
            found["head_epsilon"] = HEAD_EPSILON
        return found

    def model(
        self, operator: str, *, biased: bool = False, without: Iterable[str] = (), **changed: Any
    ) -> onnx.ModelProto:
        """One node.

        Args:
            biased: whether it has something to add to its scores.
            without: optional inputs that it does not get.
            changed: what the node is told instead; its weights stay.
        """
        constants: list[onnx.TensorProto] = []
        attributes = self.attributes()
        for name, linear in self.linears.items():
            arrays = [linear.bias]
            if operator == INT8:
                arrays += [linear.scale, linear.smooth]
                attributes[f"{name}_zero_point"] = linear.zero_point
                attributes[f"{name}_smallest_scale"] = linear.smallest
            constants.append(_packed(f"{name}_weight", linear, operator))
            constants += [numpy_helper.from_array(array, f"{name}_{index}") for index, array in enumerate(arrays)]
        norms = {f"{'gain' if i % 2 == 0 else 'shift'}_{i // 2 + 1}": gain for i, gain in enumerate(self.gains)}
        optional = dict(zip(("query_gain", "key_gain"), self.head_gains, strict=False)) | dict(list(norms.items())[4:])
        constants += [numpy_helper.from_array(array, name) for name, array in list(norms.items())[:4]]
        inputs = ["hidden", "mask", *(constant.name for constant in constants)]
        constants += [numpy_helper.from_array(array, name) for name, array in optional.items() if name not in without]
        shapes: dict[str, list[str | int]] = {
            "hidden": ["batch", "sequence", self.hidden],
            "mask": ["batch", "sequence"],
        }
        if biased:
            shapes["bias"] = ["texts", "heads", "sequence", "sequence"]
        if self.rotary:
            shapes |= {name: ["batch", "sequence", f"{name}_pairs"] for name in ("cos", "sin") if name not in without}
        known = {*shapes, *(constant.name for constant in constants)}
        inputs += [name if name in known else "" for name in OPTIONAL]
        while not inputs[-1]:
            inputs.pop()
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

    def feeds(self, lengths: Iterable[int], padding: Padding = "holes", *, bias: int = 0) -> Feeds:
        """Texts of so many tokens.

        Args:
            padding: where it stands: between the tokens, on the left, or on the right; `unseen` has some tokens, too,
                that none attends to, of three neighbours one, never the first or the last.
            bias: 0 for none, 1 for one of all texts, 2 for one a text, 3 for one of all texts and heads that hides some
                tokens from each other by the lowest number and by infinity.
        """
        lengths = list(lengths)
        random = np.random.default_rng(lengths)
        width = max(lengths, default=0) + (0 if padding == "right" else 5)
        mask = np.zeros((len(lengths), width), dtype=np.int64)
        for row, length in zip(mask, lengths, strict=True):
            places = random.permutation(width) if padding == "holes" else np.arange(width)
            row[places[::-1][:length] if padding == "left" else places[:length]] = 1
        if padding == "unseen":
            for row, length in zip(mask, lengths, strict=True):
                row[1 : max(length - 1, 1) : 3] = UNSEEN
        found: Feeds = {
            "hidden": random.standard_normal((*mask.shape, self.hidden)).astype(np.float32),
            "mask": mask,
        }
        if bias:
            shape = (len(lengths) if bias == 2 else 1, 1 if bias == 3 else self.heads, width, width)
            found["bias"] = (3 * random.standard_normal(shape)).astype(np.float32)
        if bias == 3:
            which = np.where(np.eye(width, dtype=bool), 0, random.integers(0, 4, (width, width)))
            found["bias"][:, :, which == 1] = np.finfo(np.float32).min
            found["bias"][:, :, which == 2] = -np.inf
        if self.rotary:
            # Of each text's tokens others, as they are where their places do not begin with the padding.
            places = random.integers(0, 50, (len(lengths), 1)) + np.arange(width)
            angles = places[..., None] * 30.0 ** (-np.arange(self.rotary) / self.rotary)
            found |= {"cos": np.cos(angles).astype(np.float32), "sin": np.sin(angles).astype(np.float32)}
        return found

    def alone(self, feeds: Feeds) -> list[Feeds]:
        """Each text's tokens without the others and without padding."""
        kept = feeds["mask"] != 0
        rows = [name for name in ("hidden", "mask", "cos", "sin") if name in feeds]
        return [{name: feeds[name][text, kept[text]][None] for name in rows} for text in range(len(kept))]


# What the mask is of a token that none attends to, and a window in which all may be such.
UNSEEN, NARROW = 2, 3

# What the attributes are of a node that does not have them.
DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {
        field.name: field.default
        for field in dataclasses.fields(Layer)
        if field.name not in ("hidden", "intermediate", "heads", "pair_safe", "head_norms", "rotary")
    }
)


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
