"""Text to vector through the torch-free runtime, against vectors that sentence-transformers itself made."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import stcompile
from stcompile.compiler.kinds.base import ModuleEntry
from stcompile.compiler.kinds.dense import ACTIVATION_NAMES
from stcompile.compiler.kinds.pooling import POOLING_MODES
from stcompile.compiler.kinds.registry import KINDS
from stcompile.compiler.stack.describe import describe
from tests.conftest import EXPECTED, MODELS, Case, Compiled, cases_of, load_case
from tests.tiers import COMPILED_OFTEN

# The other classes, each with tests of its own.
OTHERS = ("CrossEncoder", "SparseEncoder", "MultiVectorEncoder")

CASES = cases_of("SentenceTransformer")

# Largest difference of a component, on rows scaled to the length of the expected row. Measured over all cases but
# those below: 7.3e-7 (two dozen float32 operations a layer, in another order).
FLOAT32_ROUNDING = 1e-6

# sentence-transformers computes these folders in float16, as they say; onnx-fp32 computes the same
# weights in float32, which is what is asked of it. Measured: 9.4e-4 and 2.4e-4, float16's own rounding.
HALF_PRECISION = {"weights_float16": 2e-3, "static_float16": 5e-4}

# Of what is compiled alone. T5 does not scale its scores, and softmax enlarges what they are rounded by: torch is
# 8.0e-7 from its own float64, kernels 4.8e-7, onnxruntime 7.4e-7, kernels and torch 1.06e-6 from each other. Of one
# text of the router torch is 5.9e-7 from its float64, kernels beside onnxruntime 1.23.0 4.5e-7.
COMPILED_ROUNDING = {"backbone_t5_full_checkpoint": 1.5e-6, "router_first_static_query": 1.5e-6}

# Vectors of 8 bits are cut at float boundaries: a rounding error away from one, a level differs by one. Measured: two
# of the 896 levels of `postprocessing`, on one CPU of three.
LARGEST_SHARE_OF_OTHER_LEVELS = 0.004

REFUSED = {"dense_untrusted_activation": "some_package.activations.Custom"}


@pytest.mark.parametrize("name", [name for name in CASES if name not in REFUSED])
def test_vectors_are_those_of_sentence_transformers(name: str, compiled: Compiled) -> None:
    case = load_case(name)
    assert_recorded_runs(case, stcompile.load(compiled(name, "onnx-fp32", outputs_of(case))))


@pytest.mark.parametrize("name", [name for name in CASES if name not in (*COMPILED_OFTEN, *REFUSED)])
def test_what_is_read_gives_the_vectors_of_sentence_transformers(name: str) -> None:
    """In torch, where a folder takes a tenth of a second: one that is misread has other weights, pooling or texts."""
    case = load_case(name)
    stack = stcompile.load_stack(case.model)
    plain = {"batch_size", "prompt_name"}
    runs = [run for run in case.runs.values() if run["kwargs"].keys() <= plain and not run.keys() & {"key", "images"}]
    assert runs
    for run in runs:
        method = run["method"].removeprefix("encode").removeprefix("_")
        prompt = stack.prompts.get(run["kwargs"].get("prompt_name") or method or stack.default_prompt_name or "")
        rows = stack.encode(case.texts, prompt, run["kwargs"].get("batch_size", 32), task=method or None)
        found = rows[:, : stack.truncate_dim]
        assert_close(case, run, case.expected(run["name"]), found)
    for run in case.runs.values():
        if "images" in run and not run["kwargs"]:
            assert stack.image is not None
            assert_close(case, run, case.expected(run["name"]), stack.image.encode(case.inputs_of(run)))


def outputs_of(case: Case) -> tuple[str, ...]:
    """The graph's outputs that the recorded runs of a case need."""
    tokens = any(run["kwargs"].get("output_value") for run in case.runs.values())
    return ("sentence_embedding", "token_embeddings") if tokens else ("sentence_embedding",)


def assert_recorded_runs(case: Case, encoder: stcompile.Encoder) -> None:
    """Every run of a case gives what sentence-transformers gave, within float32 rounding."""
    for run in case.runs.values():
        vectors = getattr(encoder, run["method"])(case.inputs_of(run), **run["kwargs"])
        if isinstance(vectors, list):
            assert_close_tokens(case, run, vectors)
        else:
            allowed = COMPILED_ROUNDING.get(case.name, FLOAT32_ROUNDING)
            assert_close(case, run, case.expected(run["name"]), vectors, allowed)


def assert_close_tokens(case: Case, run: dict[str, Any], vectors: list[npt.NDArray[Any]]) -> None:
    expected = case.ragged(run["name"])
    assert [rows.shape for rows in vectors] == [rows.shape for rows in expected]
    # Left padding stays in place in sentence-transformers' answer. What attention makes of those rows depends on
    # the kernel, so only the rows of real tokens are compared.
    ids = json.loads((EXPECTED / case.name / "tokens.json").read_text(encoding="utf-8"))[run["tokens"]]
    for real, left, right in zip(ids, expected, vectors, strict=True):
        assert_close(case, run, left[-len(real) :], right[-len(real) :])


def assert_close(
    case: Case,
    run: dict[str, Any],
    expected: npt.NDArray[Any],
    vectors: npt.NDArray[Any],
    rounding: float = FLOAT32_ROUNDING,
) -> None:
    assert vectors.shape == expected.shape
    assert vectors.dtype == expected.dtype
    if expected.dtype != np.float32:
        other = vectors != expected
        assert other.mean() <= LARGEST_SHARE_OF_OTHER_LEVELS
        return
    error = scaled_error(expected, vectors)
    allowed = HALF_PRECISION.get(case.name, rounding)
    worst = int(error.argmax())
    assert error[worst] <= allowed, f"run {run['name']}: {error[worst]:.1e} in row {worst}"


def scaled_error(expected: npt.NDArray[Any], vectors: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Largest difference per row; rows of infinities, which max pooling makes of nothing, must be equal."""
    left, right = expected.astype(np.float64), vectors.astype(np.float64)
    equal = np.isinf(left) & (left == right)
    lengths = np.linalg.norm(np.where(np.isfinite(left), left, 0), axis=1)
    difference = np.where(equal, 0, np.abs(np.where(equal, 0, left) - np.where(equal, 0, right)))
    result: npt.NDArray[np.float64] = difference.max(axis=1) / np.where(lengths > 0, lengths, 1)
    return np.nan_to_num(result, nan=np.inf)


@pytest.mark.parametrize(("name", "reason"), REFUSED.items())
def test_what_sentence_transformers_replaces_silently_is_refused(name: str, reason: str) -> None:
    with pytest.raises(stcompile.UnsupportedError, match=reason):
        stcompile.load_stack(MODELS / name)


def test_the_comparison_can_fail() -> None:
    case = load_case("pool_mean")
    expected = case.expected()
    moved = expected.copy()
    moved[3, 5] += 3e-6 * np.linalg.norm(moved[3])
    with pytest.raises(AssertionError, match="run default"):
        assert_close(case, case.runs["default"], expected, moved)


def test_everything_supported_has_a_golden() -> None:
    """A module, a pooling mode or an activation without a golden is not supported: it is hoped for."""
    entries = [row for name in CASES if name not in REFUSED for row in stack_of(name)]
    entries += [row for kind in OTHERS for name in cases_of(kind) for row in stack_of(name)]
    assert {type_ for type_, _ in entries} == {*KINDS, "Scores"}
    modes = [config["pooling_mode"] for type_, config in entries if type_ == "Pooling"]
    assert {mode for item in modes for mode in ([item] if isinstance(item, str) else item)} == set(POOLING_MODES)
    paths = [config.get("activation_function", "Tanh") for type_, config in entries if type_ == "Dense"]
    assert {path.rpartition(".")[2] for path in paths} == set(ACTIVATION_NAMES)


def stack_of(name: str) -> list[tuple[str, dict[str, Any]]]:
    trusted = load_case(name).trusted
    return list(every(describe(MODELS / name, trust_remote_code=trusted).entries))


def every(entries: Iterable[ModuleEntry]) -> Iterator[tuple[str, dict[str, Any]]]:
    for entry in entries:
        yield entry.kind.name, entry.config
        for route in entry.routes.values():
            yield from every(route)
