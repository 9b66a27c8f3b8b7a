"""The table of targets, and what asking for one that is not in it says."""

from __future__ import annotations

import pytest

from stcompile import target as target_module
from stcompile.errors import TargetError
from stcompile.quantize import RECIPES
from stcompile.target import TARGETS, Target


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_is_found_by_its_name(name: str) -> None:
    assert Target.parse(name).name == name
    assert Target.parse(name).recipe in RECIPES


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("onnx-int4", "did you mean onnx-int8"),
        ("int8", "did you mean onnx-int8"),
        ("onnx-fp61", "did you mean onnx-fp16"),
        ("ONNX-INT8", r"^unknown target 'ONNX-INT8': Known targets: onnx-fp32, onnx-fp16, onnx-int8"),
        ("", r"^unknown target '': Known targets: onnx-fp32"),
    ],
)
def test_an_unknown_target_names_the_nearest(name: str, reason: str) -> None:
    with pytest.raises(TargetError, match=reason):
        Target.parse(name)


def test_a_recommended_recipe_is_one_that_has_a_name() -> None:
    recommended, named = Target.parse("onnx-int8"), Target.parse("onnx-int8-dynamic")
    assert (recommended.recipe, recommended.tolerance) == (named.recipe, named.tolerance)


@pytest.mark.parametrize("name", TARGETS)
def test_only_a_target_with_a_bound_calls_itself_batch_invariant(name: str) -> None:
    # one activation scale per batch ties every text to its batch mates
    assert Target.parse(name).batch_invariant is (Target.parse(name).recipe != "dynamic")


@pytest.mark.parametrize("name", TARGETS)
def test_less_precision_is_allowed_no_smaller_an_error(name: str) -> None:
    exact, chosen = Target.parse("onnx-fp32").tolerance, Target.parse(name).tolerance
    assert 0 < chosen.min_cosine <= chosen.mean_cosine <= exact.mean_cosine <= 1


def test_a_machine_without_the_engine_says_which_line_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Target.parse("onnx-int8").refusals() == ()
    monkeypatch.setattr(target_module, "find_spec", lambda _: None)
    (refusal,) = Target.parse("onnx-int8").refusals()
    assert refusal == "onnxruntime is not installed: pip install 'stcompile[cpu]'"
