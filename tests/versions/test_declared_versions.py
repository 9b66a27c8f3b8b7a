"""The oldest declared versions are those that are tried, and no graph has an operator that they cannot run."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest

from stcompile.kernels.native import DOMAIN
from tests.conftest import Quick
from tests.versions import table

HERE = Path(__file__)
ROOT = HERE.parents[2]

# `domain::operator` to the versions of it that the oldest onnxruntime has a CPU kernel for; `kernels.py` wrote it.
KERNELS: dict[str, list[list[int]]] = json.loads(HERE.with_name("kernels.json").read_text(encoding="utf-8"))

# What production may install, and what compiles: transformers itself asks for newer tokenizers than the runtime does.
TRIED = {
    "constraints-oldest.txt": ("dependencies", "cpu", "openvino", "cli", "phrases"),
    "constraints-oldest-compile.txt": ("cpu", "cli", "compile"),
}


@pytest.mark.parametrize("file", TRIED)
def test_the_oldest_declared_versions_are_those_that_are_tried(file: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {"dependencies": project["dependencies"], **project["optional-dependencies"]}
    lines = [line for group in TRIED[file] for line in groups[group] if not line.startswith("stcompile[")]
    declared = dict(line.split(",")[0].split(">=") for line in lines)
    pins = re.findall(r"^([\w-]+)==([\d.]+)$", (ROOT / file).read_text(), re.MULTILINE)
    if "torch" in declared:  # gigabytes each: rows of its own
        assert release(declared.pop("torch"))[:2] == release(table.TORCHES[0])[:2]
        pins.remove(("torch", table.pins("constraints.txt")["torch"]))
    assert {name: release(version) for name, version in pins} == {
        name: release(version) for name, version in declared.items()
    }


def test_the_pythons_declared_are_those_that_are_tried() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    tried = [f"Programming Language :: Python :: {python}" for python in table.PYTHONS]
    assert [line for line in project["classifiers"] if re.search(r":: 3\.\d+$", line)] == tried
    assert project["requires-python"] == f">={table.PYTHONS[0]}"
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert json.loads(re.findall(r"python: (\[.*\])", workflow)[0]) == list(table.PYTHONS)


@pytest.mark.parametrize(
    ("package", "oldest"),
    [
        *((package, "constraints-oldest.txt") for package in table.RUNTIME),
        *((package, "constraints-oldest-compile.txt") for package in table.COMPILER),
    ],
)
def test_releases_from_the_oldest_declared_to_the_pinned_newest_are_tried(package: str, oldest: str) -> None:
    versions = ({**table.RUNTIME, **table.COMPILER})[package]
    assert sorted(versions, key=release) == list(versions)
    assert len({release(version)[:2] for version in versions}) == len(versions)
    assert release(versions[0])[:2] == release(table.pins(oldest)[package])[:2]
    assert release(versions[-1]) >= release(table.pins("constraints.txt")[package])


def test_other_releases_of_torch_are_tried_around_the_pinned_one() -> None:
    pinned = table.pins("constraints.txt")["torch"]
    minors = [release(version)[1] for version in sorted({*table.TORCHES, pinned}, key=release)]
    assert minors == list(range(minors[0], minors[-1] + 1))


def test_the_few_rows_have_every_release_that_production_may_install() -> None:
    rows = [row for python in table.PYTHONS for row in table.few_runtime_rows(python)]
    assert {package: {row[package] for row in rows} for package in table.RUNTIME} == {
        package: set(versions) for package, versions in table.RUNTIME.items()
    }


def release(version: str) -> tuple[int, ...]:
    """`1.26` and `1.26.0` are one."""
    numbers = tuple(int(part) for part in version.split("."))
    return (*numbers, 0, 0)[:3]


def lacking(model: ir.Model) -> set[str]:
    """The operators of a graph, and of its functions, that the oldest onnxruntime has no kernel for."""
    found = set()
    for node in (*model.graph, *(node for function in model.functions.values() for node in function)):
        if node.op_type == "Constant":  # read when a graph is loaded, and run by nobody
            continue
        version = 1
        if not node.domain:
            opset = model.graph.opset_imports[""]
            version = onnx.defs.get_schema(node.op_type, opset, "").since_version
        name = f"{node.domain}::{node.op_type}"
        if node.domain != DOMAIN and not any(first <= version <= last for first, last in KERNELS.get(name, [])):
            found.add(f"{name} {version}")
    return found


@pytest.mark.parametrize(
    ("case", "target"),
    [
        ("full_stack", "onnx-fp32"),
        ("full_stack", "onnx-fp16"),
        ("full_stack", "onnx-int8"),
        ("full_stack", "onnx-int8-dynamic"),
        ("full_stack", "onnx-int4-weights"),
        ("wide_bert", "onnx-int8"),
        ("backbone_qwen3_lasttoken", "onnx-int8"),
        ("static_normalize", "onnx-fp32"),
    ],
)
def test_the_oldest_onnxruntime_has_every_operator(case: str, target: str, quick: Quick) -> None:
    assert not lacking(ir.load(quick(case, target).folder / "model.onnx"))


def test_an_operator_it_lacks_is_seen() -> None:
    """Of opset 23, onnxruntime has QuantizeLinear since 1.24."""
    x, scale, zero, y = (ir.val(name) for name in ("x", "scale", "zero", "y"))
    node = ir.node("QuantizeLinear", [x, scale, zero], outputs=[y])
    graph = ir.Graph([x, scale, zero], [y], nodes=[node], opset_imports={"": 23})
    assert lacking(ir.Model(graph, ir_version=10)) == {"::QuantizeLinear 23"}
