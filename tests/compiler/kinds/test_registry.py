"""The table of module types: what their names on disk mean, and that each builds what it says."""

from __future__ import annotations

import subprocess
import sys

import pytest

from stcompile.compiler.kinds import registry
from stcompile.compiler.kinds.base import ModuleType
from stcompile.compiler.kinds.registry import KINDS
from stcompile.compiler.modules import InputModule, Module
from tests.conftest import MODELS

# Of every kind of model: each module type but code of its own is in one of them.
_INSPECTED = """
import sys
from pathlib import Path
from stcompile.compiler.inspection import inspect
found = set()
for model in sorted(Path(sys.argv[1]).iterdir()):
    described = inspect(model, trust_remote_code=True)
    for module in described["modules"]:
        found |= {module["type"], *(inner["type"] for route in module.get("routes", {}).values() for inner in route)}
heavy = sorted({"torch", "transformers", "onnx", "safetensors"} & set(sys.modules))
print(",".join(heavy), ",".join(sorted(found)))
"""


@pytest.mark.parametrize(
    "path",
    [
        "sentence_transformers.models.Pooling",
        "sentence_transformers.models.Pooling.Pooling",
        "sentence_transformers.sentence_transformer.modules.Pooling",
        "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
    ],
)
def test_type_paths_of_every_generation(path: str) -> None:
    kind, refusal = registry.resolve(path)
    assert (kind, refusal) == (registry.KINDS["Pooling"], "")


@pytest.mark.parametrize("release", ["base", "sentence_transformer"])
def test_normalize_moved_between_packages(release: str) -> None:
    kind, _ = registry.resolve(f"sentence_transformers.{release}.modules.normalize.Normalize")
    assert kind is registry.KINDS["Normalize"]


@pytest.mark.parametrize("name", ["BERT", "RoBERTa", "XLMRoBERTa"])
def test_the_first_releases_named_a_transformer_after_its_network(name: str) -> None:
    kind, _ = registry.resolve(f"sentence_transformers.models.{name}")
    assert kind is registry.KINDS["Transformer"]


@pytest.mark.parametrize("name", sorted(registry.REFUSED))
def test_what_is_not_supported_is_refused_by_name(name: str) -> None:
    kind, refusal = registry.resolve(f"sentence_transformers.models.{name}")
    assert kind is None
    assert ":" in refusal, "a refusal ends in its remedy"


def test_foreign_code_is_never_imported() -> None:
    assert registry.is_custom("os.system")
    kind, refusal = registry.resolve("os.system")
    assert kind is None
    assert "not a module stcompile knows" in refusal


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_a_descriptor_and_its_module_know_each_other(kind: ModuleType) -> None:
    builder = kind.imported()
    assert issubclass(builder, Module)
    assert issubclass(builder, InputModule) == kind.reads_text
    if kind.config_files:
        assert builder.config_file == kind.config_files[0]


def test_a_folder_is_inspected_without_torch() -> None:
    done = subprocess.run([sys.executable, "-c", _INSPECTED, str(MODELS)], check=True, capture_output=True, text=True)
    assert done.stdout.split(" ") == ["", ",".join(sorted({*KINDS, "Scores"})) + "\n"]
