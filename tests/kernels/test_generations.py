"""Every operator with every generation's kernels, against the layer's formulas in numpy.

The tails of every tile, heads of every size, sizes that fill no panel, one token and 8,192, weights that overflow
where pairs are added in 16 bits, and layers of every kind.

What this CPU does not run is skipped by name, but for ARM64's, which may be emulated. Each generation has a process of
its own that computes all cases.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from stcompile.kernels import native
from tests.kernels import emulation, layer_kinds, run_cases
from tests.kernels.layer_kinds import Batch
from tests.kernels.layers import BFLOAT16, FLOAT32, INT8, OPERATORS, Array, Exact, Feeds, Layer, Linear, error

pytestmark = pytest.mark.skipif(bool(native.refusals()), reason="; ".join(native.refusals()) or "they run here")

ARM64 = ("neon", "neon_i8mm")
EMULATED = ARM64 if emulation.NEEDED else ()
GENERATIONS = (
    *("avx2", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx"),
    *(pytest.param(name, marks=pytest.mark.cross) if name in EMULATED else name for name in ARM64),
)

# Generations whose attention is in bfloat16, in 8 bits too.
IN_BFLOAT16 = ("avx512_bf16", "amx")

# Root mean square of the error as a share of the layer's output, whose inputs and weights are rounded as the operator's
# are; behind each, what was measured at most on any generation.
LARGEST_ERROR = {INT8: 0.0025, BFLOAT16: 8e-4, FLOAT32: 8e-7}  # 0.0018, 5.9e-4, 5.5e-7
LARGEST_ERROR_IN_BFLOAT16 = {INT8: 0.011, BFLOAT16: 0.0045, FLOAT32: 8e-7}  # 0.0090, 0.0033, 5.5e-7

# The same of layers of other kinds. Where norms stand around, what attention gives is made as large as what it is added
# to, and so is its error; the largest are those of one text of 600 tokens.
LARGEST_ERROR_OF_KINDS = {INT8: 0.006, BFLOAT16: 0.0016, FLOAT32: 8e-7}  # 0.0050, 0.0013, 6.5e-7
LARGEST_ERROR_OF_KINDS_IN_BFLOAT16 = {INT8: 0.019, BFLOAT16: 0.0045, FLOAT32: 8e-7}  # 0.0159, 0.0036, 6.4e-7

TAILS = range(1, 20)
LONGER = (23, 24, 25, 31, 32, 33, 47, 48, 49, 63, 64, 65, 70, 97)
SHORT = [[length] for length in (1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 16, 17, 18, 20, 33)]

KINDS = layer_kinds.cases()

# Layers and batches: lengths of texts, where padding stands, what is added to the scores.
CASES: dict[str, tuple[Layer, list[Batch]]] = {
    "heads_of_32": (
        Layer(64, 128, 2),
        [([*TAILS], "holes", 0), ([*LONGER], "right", 0), *((s, "right", 0) for s in SHORT)],
    ),
    "any_pairs": (Layer(64, 128, 2, pair_safe=False), [([*TAILS], "holes", 0), *((s, "right", 0) for s in SHORT)]),
    "heads_of_16": (Layer(48, 80, 3), [([*TAILS], "holes", 0), ([33, 65], "right", 0), ([4], "right", 0)]),
    "heads_of_48": (Layer(96, 112, 2), [([1, 16, 17, 33], "holes", 0)]),
    "heads_of_64": (Layer(128, 64, 2), [([1, 16, 17, 33, 65], "holes", 0)]),
    "heads_of_80": (Layer(160, 240, 2), [([1, 16, 17, 33], "holes", 0)]),
    "heads_of_96": (Layer(192, 256, 2), [([1, 16, 17, 33], "holes", 0)]),
    "heads_of_128": (Layer(256, 128, 2), [([1, 16, 17, 33], "holes", 0)]),
    "heads_of_256": (Layer(256, 144, 1), [([1, 16, 17, 33], "holes", 0)]),
    "padded_heads": (Layer(312, 1200, 12, head_size=32), [([1, 7, 17, 40], "holes", 0), ([3], "right", 0)]),
    "padded_any_pairs": (Layer(312, 1200, 12, head_size=32, pair_safe=False), [([1, 7, 17, 40], "holes", 0)]),
    "wider_heads": (Layer(768, 1152, 3, head_size=256), [([1, 30], "right", 0)]),
    "narrower_heads": (Layer(144, 64, 2, head_size=16), [([1, 5, 30], "right", 0)]),
    "mini": (Layer(384, 1536, 12), [([1, 16, 70], "right", 0)]),
    "one_number": (Layer(16, 16, 1), [([1], "right", 0), ([2, 1], "right", 0), ([0, 3, 0], "holes", 0)]),
    "biased": (
        Layer(128, 64, 2),
        [
            *(([1, 7, 16, 17, 40], "holes", 1), ([1, 7, 16, 17, 40], "right", 2), ([33], "holes", 2)),
            *(([1, 7, 16, 17, 40], "holes", 3), ([33, 40], "right", 3)),
        ],
    ),
    # Weights that no core's cache holds: as many tokens at once as there are for each core.
    "wide": (Layer(768, 808, 12), [([97, 40, 101, 3], "holes", 0), ([65], "right", 0), ([130], "right", 0)]),
    "wide_any_pairs": (Layer(768, 800, 12, pair_safe=False), [([97, 40, 101, 3], "holes", 0)]),
    **KINDS,
}
LONG = "8192_tokens"
LONG_LAYER = Layer(32, 48, 1)
CHECKED_ROWS = 40  # of the long text

# The same texts together, with padding, and each alone. Where it stands between tokens it moves them out of a window.
TOGETHER_LAYER = Layer(192, 256, 2)
TOGETHER = {
    "together": (TOGETHER_LAYER, TOGETHER_LAYER.feeds([70, 1, 17, 40, 6])),
    **{
        f"together_{name}": (layer, layer.feeds([150, 1, 17, 40, 6], "left"))
        for name, layer in layer_kinds.KINDS.items()
    },
}


def long_feeds() -> Feeds:
    return LONG_LAYER.feeds([8192], "right")


def together_feeds(name: str) -> list[Feeds]:
    layer, together = TOGETHER[name]
    return [together, *layer.alone(together)]


def feeds_of(name: str) -> list[Feeds]:
    layer, batches = CASES[name]
    return [layer.feeds(lengths, padding, bias=bias) for lengths, padding, bias in batches]


# Rows that are rounded to levels, by their width and the level of zero.
LEVELS = [(width, zero_point) for width in (16, 24, 64, 312, 1536) for zero_point in (128, 16)]


def rows_of(width: int, zero_point: int) -> list[tuple[Linear, Array]]:
    """Rows of every size, and one whose numbers lie between two levels each."""
    random = np.random.default_rng(width)
    smallest = 1e-12 if zero_point == 128 else 0.17 / 16
    none = np.empty(0, dtype=np.float32)
    smoothing = np.linspace(0.5, 2, width, dtype=np.float32)
    layer = Linear(none, none, none.astype(np.int8), none, smoothing, zero_point, smallest)
    rows = (random.standard_normal((40, width)) * 10.0 ** random.integers(-14, 6, (40, 1))).astype(np.float32)
    rows[0] = 0
    # The scale is a power of two, and so is the smoothing.
    ties = np.clip(np.arange(width) - width // 2 + 0.5, -128, 255 - zero_point).astype(np.float32)
    ties[0] = 255 - zero_point
    return [(layer, rows), (dataclasses.replace(layer, smooth=np.full(width, 0.5, dtype=np.float32)), ties[None] * 2)]


Found = dict[str, npt.NDArray[np.float32]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every case as a model and its inputs."""
    made = tmp_path_factory.mktemp("cases")
    cases = {name: (layer, feeds_of(name)) for name, (layer, _) in CASES.items()}
    cases |= {LONG: (LONG_LAYER, [long_feeds()])} | {
        name: (TOGETHER[name][0], together_feeds(name)) for name in TOGETHER
    }
    for operator in OPERATORS:
        for name, (layer, batches) in cases.items():
            model = layer.model(operator, biased="bias" in batches[0])
            (made / f"{operator}_{name}.onnx").write_bytes(model.SerializeToString())
            for index, feeds in enumerate(batches):
                np.savez(made / f"{operator}_{name}.{index:02}.npz", **feeds)  # type: ignore[arg-type]
    for width, zero_point in LEVELS:
        for index, (linear, rows) in enumerate(rows_of(width, zero_point)):
            path = made / f"levels.{width}_{zero_point}_{index}.npz"
            np.savez(path, rows=rows, smooth=linear.smooth, zero_point=linear.zero_point, smallest=linear.smallest)
    return made


@pytest.fixture(scope="module")
def references() -> dict[tuple[str, str], list[Exact]]:
    """What should come out, by operator and case."""
    expected = {
        (operator, name): [CASES[name][0].expected(feeds, operator) for feeds in feeds_of(name)]
        for operator in OPERATORS
        for name in CASES
    }
    for operator in OPERATORS:
        expected[operator, LONG] = [LONG_LAYER.expected(long_feeds(), operator, rows=CHECKED_ROWS)]
    return expected


@pytest.fixture(scope="module", params=GENERATIONS)
def generation(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    if name in EMULATED:
        if emulation.missing():
            pytest.skip(emulation.missing())
        return name
    if name not in native.kernels().compiled:
        pytest.skip(f"the {name} kernels were not compiled")
    if name not in native.kernels().here:
        pytest.skip(f"this CPU does not run the {name} kernels")
    return name


@pytest.fixture(scope="module")
def found(generation: str, folder: Path) -> Found:
    """What comes out, by operator, case and number of its batch."""
    output = folder / f"{generation}.found.npz"
    done = with_kernels(generation, run_cases.__file__, str(folder), str(output))
    assert done.returncode == 0, done.stderr
    with np.load(output) as arrays:
        return dict(arrays)


def with_kernels(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    if name in EMULATED:
        return emulation.run(*arguments, **{native.VARIABLE: name})
    environment = {**os.environ, native.VARIABLE: name}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=emulation.ROOT, capture_output=True, text=True, check=False
    )


def bound(generation: str, operator: str, *, kind: bool = False) -> float:
    if generation in IN_BFLOAT16:
        return (LARGEST_ERROR_OF_KINDS_IN_BFLOAT16 if kind else LARGEST_ERROR_IN_BFLOAT16)[operator]
    return (LARGEST_ERROR_OF_KINDS if kind else LARGEST_ERROR)[operator]


@pytest.mark.parametrize("operator", OPERATORS)
def test_it_is_the_layer(
    generation: str, operator: str, found: Found, references: dict[tuple[str, str], list[Exact]]
) -> None:
    shares = {}
    for name in (*CASES, LONG):
        for index, reference in enumerate(references[operator, name]):
            made = found[f"{operator}_{name}.{index:02}"]
            assert made.shape == reference.shape
            rows = slice(CHECKED_ROWS if name == LONG else None)
            made, expected = made[:, rows], reference[:, rows]
            assert not made[~expected.any(axis=-1)].any()  # padding
            if expected.any():
                shares[name, index] = error(made, expected) / bound(generation, operator, kind=name in KINDS)
    worst = max(shares, key=lambda key: shares[key])
    assert shares[worst] <= 1, worst


@pytest.mark.parametrize("operator", OPERATORS)
def test_the_bound_can_fail(generation: str, operator: str, found: Found) -> None:
    """One key fewer is another layer."""
    for name in ("mini", "padded_heads", "heads_of_32"):
        layer = CASES[name][0]
        feeds = layer.feeds([12], "right")
        other = layer.expected(feeds, operator, without=1)
        assert error(layer.expected(feeds, operator), other) > 3 * bound(generation, operator)


# What each kind would be by a mistake in one of its parts, and texts that tell.
MISTAKES: dict[str, tuple[str, dict[str, Any], list[int]]] = {
    "a key too many before": ("window_5", {"before": 6}, [40]),
    "a key too few behind": ("window_5", {"after": 4}, [40]),
    "a window of one side": ("modern_bert", {"before": -1}, [100]),
    "the next token, too": ("causal", {"after": 1}, [40]),
    "a wider window": ("embedding_gemma", {"before": 41}, [60]),
    "norms behind": ("before", {"norms": "after"}, [10]),
    "a first norm": ("modern_bert_first", {"first_norm": True}, [10]),
    "means taken off": ("qwen_3", {"normalization": "layer"}, [10]),
    "another activation": ("gated_relu", {"activation": "silu"}, [10]),
    "heads without norms": ("rotary_5_normed", {"head_norms": False}, [10]),
    "heads that do not turn": ("rotary_4", {"rotary": 0}, [10]),
    "scores that are not bent": ("gemma_2", {"soft_cap": 0.0}, [40]),
    "another cap": ("soft_cap", {"soft_cap": 0.6}, [40]),
}


@pytest.mark.parametrize("operator", OPERATORS)
def test_the_bound_of_kinds_can_fail(operator: str) -> None:
    """Each mistake is another layer, and so is turning the other way."""
    largest = LARGEST_ERROR_OF_KINDS_IN_BFLOAT16[operator]
    shares = {}
    for mistake, (name, changed, lengths) in MISTAKES.items():
        layer = layer_kinds.KINDS[name]
        feeds = layer.feeds(lengths, "right")
        made = dataclasses.replace(layer, **changed).expected(feeds, operator)
        shares[mistake] = error(made, layer.expected(feeds, operator)) / largest
    for name in ("modern_bert", "qwen_3", "embedding_gemma", "rotary_4", "rotary_24"):
        layer = layer_kinds.KINDS[name]
        feeds = layer.feeds([10], "right")
        made = layer.expected({**feeds, "sin": -feeds["sin"]}, operator)
        shares[f"{name} turned back"] = error(made, layer.expected(feeds, operator)) / largest
    least = min(shares, key=lambda key: shares[key])
    assert shares[least] > 1, shares


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("name", TOGETHER)
def test_a_text_comes_out_the_same_bit_by_bit_whatever_stands_beside_it(name: str, operator: str, found: Found) -> None:
    together = TOGETHER[name][1]
    made = found[f"{operator}_{name}.00"]
    for index, mask in enumerate(together["mask"]):
        assert np.array_equal(found[f"{operator}_{name}.{index + 1:02}"][0], made[index, mask != 0])


@pytest.mark.parametrize(("width", "zero_point"), LEVELS)
def test_levels_are_the_same_everywhere(width: int, zero_point: int, found: Found) -> None:
    for index, (layer, rows) in enumerate(rows_of(width, zero_point)):
        levels, scales = layer.rounded(rows)
        assert np.array_equal(found[f"levels.{width}_{zero_point}_{index}"], levels + zero_point)
        assert np.array_equal(found[f"levels.{width}_{zero_point}_{index}.scales"], scales)
    scaled = rows * layer.smooth
    assert (np.rint(scaled) != np.floor(scaled + 0.5)).any()  # half away from zero would be told apart


def test_narrower_kernels_are_taken_when_they_are_named(generation: str) -> None:
    done = with_kernels(generation, "-c", "from stcompile.kernels.native import generation; print(generation())")
    assert done.stdout.split() == [generation]


def test_without_a_name_the_widest_is_taken() -> None:
    done = with_kernels("", "-c", "from stcompile.kernels.native import generation; print(generation())")
    assert done.stdout.split() == [native.kernels().here[-1]]


REGISTER = """
import sys, onnxruntime
onnxruntime.SessionOptions().register_custom_ops_library(sys.argv[1])
"""


@pytest.mark.parametrize("name", ["altivec", "avx", "avx2 "])
def test_an_unknown_name_is_an_error_at_registration(name: str) -> None:
    sentence = f"STCOMPILE_KERNELS names {name}, which is none of the kernels compiled: {native.kernels().compiled[0]}"
    done = with_kernels(name, "-c", REGISTER, str(native.library()))
    assert done.returncode != 0
    assert sentence in done.stderr
    done = with_kernels(name, "-c", "from stcompile.kernels import native; native.library()")
    assert f"ProviderError: {sentence}" in done.stderr


def test_one_that_this_cpu_lacks_is_too() -> None:
    lacking = [name for name in native.kernels().compiled if name not in native.kernels().here]
    if not lacking:
        pytest.skip("this CPU runs all kernels that were compiled")
    done = with_kernels(lacking[0], "-c", REGISTER, str(native.library()))
    assert f"STCOMPILE_KERNELS names {lacking[0]}, which this CPU lacks" in done.stderr
