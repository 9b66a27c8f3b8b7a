"""The table of targets, and what asking for one that is not in it, or not for this machine, says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stcompile.artifact import target as target_module
from stcompile.artifact.target import TARGETS, Target
from stcompile.compiler.export import export_model
from stcompile.compiler.quantize import RECIPES
from stcompile.errors import TargetError
from tests.conftest import MODELS

# What scripts of users name. A new target needs no line here.
PUBLISHED = (
    "onnx-fp32",
    "onnx-fp16",
    "onnx-int8",
    "onnx-bf16",
    "onnx-int8-dynamic",
    "onnx-int8-weights",
    "onnx-int4-weights",
    "openvino-fp32",
    "openvino-bf16",
    "openvino-fp16",
    "openvino-int8",
    "openvino-int8-weights",
    "openvino-int4-weights",
    "openvino-int8-nncf",
    "openvino-int4-nncf",
    "static",
)


@pytest.mark.parametrize("precision", ["int8", "bf16", "fp32"])
def test_a_former_name_says_what_it_is_now(precision: str) -> None:
    with pytest.raises(TargetError, match=f"target onnx-{precision}-fused is onnx-{precision} now"):
        Target.parse(f"onnx-{precision}-fused")


def test_published_names_stay_in_their_order() -> None:
    assert tuple(name for name in TARGETS if name in PUBLISHED) == PUBLISHED


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
        ("openvino-int9", "did you mean openvino-int8"),
        ("ONNX-INT8", r"^unknown target 'ONNX-INT8': Known targets: onnx-fp32, onnx-fp16, onnx-int8"),
        ("", r"^unknown target '': Known targets: onnx-fp32"),
    ],
)
def test_an_unknown_target_names_the_nearest(name: str, reason: str) -> None:
    with pytest.raises(TargetError, match=reason):
        Target.parse(name)


def test_a_recommended_recipe_is_calibrated_and_batch_invariant() -> None:
    for runtime in ("onnx", "openvino"):
        recommended = Target.parse(f"{runtime}-int8")
        assert recommended.scheme == ""
        assert recommended.calibrates
        assert recommended.batch_invariant
        assert "recommended" in recommended.purpose
    named = Target.parse("onnx-int8-dynamic")
    assert not named.calibrates
    assert named.tolerance.min_cosine < Target.parse("onnx-int8").tolerance.min_cosine


@pytest.mark.parametrize("name", TARGETS)
def test_what_calibrates_has_layers_in_fewer_bits(name: str) -> None:
    """Only then is there anything to choose, and a budget to steer it."""
    target = Target.parse(name)
    assert target.calibrates is (target.precision in ("int8", "int4") and target.recipe != "dynamic")


@pytest.mark.parametrize("name", TARGETS)
def test_only_a_target_with_a_bound_calls_itself_batch_invariant(name: str) -> None:
    # one activation scale per batch ties every text to its batch mates
    assert Target.parse(name).batch_invariant is (Target.parse(name).recipe != "dynamic")


@pytest.mark.parametrize("name", TARGETS)
def test_less_precision_is_allowed_no_smaller_an_error(name: str) -> None:
    exact, chosen = Target.parse("onnx-fp32").tolerance, Target.parse(name).tolerance
    assert 0 < chosen.min_cosine <= chosen.mean_cosine <= exact.mean_cosine <= 1


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_fewer_bits_are_allowed_a_larger_error(runtime: str) -> None:
    names = [f"{runtime}-{rest}" for rest in ("fp32", "fp16", "int8-weights", "int8", "int4-weights")]
    least = [Target.parse(name).tolerance.min_cosine for name in names]
    assert least == sorted(least, reverse=True)
    assert len(set(least)) == len(least)


def test_only_bf16_computes_in_bfloat16() -> None:
    assert [name for name, target in TARGETS.items() if target.computes_in != "float32"] == ["openvino-bf16"]
    assert [name for name, target in TARGETS.items() if target.is_openvino] == [
        name for name in TARGETS if name.startswith("openvino-")
    ]


@pytest.mark.parametrize(
    ("name", "package", "line"),
    [
        ("onnx-int8", "onnxruntime", "pip install 'stcompile[cpu]'"),
        ("static", "onnxruntime", "pip install 'stcompile[cpu]'"),
        ("openvino-int8", "openvino", "pip install 'stcompile[openvino]'"),
    ],
)
def test_a_machine_without_the_engine_says_which_line_to_run(
    name: str, package: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Target.parse(name).refusals() == ()
    asked: list[str] = []
    monkeypatch.setattr(target_module, "find_spec", asked.append)
    (refusal,) = Target.parse(name).refusals()
    assert refusal == f"{package} is not installed: {line}"
    assert asked == [package]


@pytest.mark.parametrize("name", ["openvino-int8-nncf", "openvino-int4-nncf"])
def test_what_nncf_makes_is_refused_without_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target_module, "find_spec", lambda package: None if package == "nncf" else True)
    assert Target.parse(name).refusals() == ("nncf is not installed: pip install 'stcompile[nncf]'",)
    assert Target.parse("openvino-int8").refusals() == ()


@pytest.mark.parametrize(("found", "refused"), [(True, False), (False, True), (None, False)])
def test_bfloat16_is_refused_where_the_cpu_is_known_not_to_have_it(
    found: bool | None, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target_module, "computes_bfloat16", lambda: found)
    refusals = Target.parse("openvino-bf16").refusals()
    assert bool(refusals) is refused
    assert all("AVX512-BF16 or AMX" in refusal and "openvino-fp32" in refusal for refusal in refusals)
    for name in TARGETS:
        assert name == "openvino-bf16" or Target.parse(name).refusals() == ()


def test_a_target_this_machine_cannot_run_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model's folder does not even have to be there."""
    monkeypatch.setattr(target_module, "computes_bfloat16", lambda: False)
    with pytest.raises(TargetError, match="cannot run openvino-bf16: this CPU does not compute in bfloat16"):
        export_model(MODELS / "nowhere", tmp_path / "artifact", "openvino-bf16")
    with pytest.raises(TargetError, match="openvino-fp32 runs on CPU, not on cuda: choose another onnx target"):
        export_model(MODELS / "nowhere", tmp_path / "artifact", "openvino-fp32", provider="cuda")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", TARGETS)
def test_a_cpu_without_vnni_is_told_what_it_does_not_gain(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    in_few_bits = re.search(r"int[48]", name) is not None
    for found in (True, None):
        monkeypatch.setattr(target_module, "adds_int8_products", lambda found=found: found)
        assert Target.parse(name).caveats() == ()
    monkeypatch.setattr(target_module, "adds_int8_products", lambda: False)
    caveats = Target.parse(name).caveats()
    assert len(caveats) == in_few_bits
    assert all("VNNI" in caveat for caveat in caveats)
