"""The runtime stands alone: no torch, no compiler, no command line, and nothing at all before it is asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import stcompile
from tests.conftest import Compiled, Quick, load_case

_NOT_IN_PRODUCTION = (
    "torch",
    "transformers",
    "onnx",
    "onnx_ir",
    "onnxscript",
    "sentence_transformers",
    "nncf",
    "safetensors",
    "huggingface_hub",
    "typer",
    "rich",
)


def _without(*packages: str) -> str:
    """What makes Python say that some packages are not installed."""
    return f"""
import sys

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {packages!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, NotInstalled())
"""


_WITHOUT = _without(*_NOT_IN_PRODUCTION)

# The other engine is not there either.
_ENGINES = {"onnx-fp32": "openvino", "openvino-fp32": "onnxruntime"}

_ENCODE = """
import json, numpy, stcompile
job = json.load(sys.stdin)
encoder = stcompile.load(job["artifact"])
numpy.save(job["query"], encoder.encode_query(job["texts"]))
numpy.save(job["plain"], encoder.encode(job["texts"]))
encoder.similarity(encoder.encode("a"), encoder.encode("b"))
"""

_IMPORT = """
import json, stcompile
dir(stcompile), stcompile.__version__
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def _python(script: str, stdin: str = "") -> str:
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("target", _ENGINES)
def test_the_recorded_vectors_without_the_compiler(target: str, quick: Quick, tmp_path: Path) -> None:
    case = load_case("pool_mean_with_prompt")
    runs = {"query": "encode_query", "plain": "none"}
    files = {key: str(tmp_path / f"{key}.npy") for key in runs}
    job = {"artifact": str(quick(case.name, target).folder), "texts": case.texts, **files}
    _python(_without(*_NOT_IN_PRODUCTION, _ENGINES[target]) + _ENCODE, json.dumps(job))
    for key, run in runs.items():
        expected = case.expected(run)
        atol = 2e-6 * float(np.linalg.norm(expected[0]))
        np.testing.assert_allclose(np.load(files[key]), expected, rtol=0, atol=atol)


def test_the_import_alone_brings_neither_numpy_nor_an_engine() -> None:
    imported = set(json.loads(_python("import sys\n" + _IMPORT)))
    assert "stcompile" in imported
    assert not imported & {"numpy", "onnxruntime", "openvino", "tokenizers", *_NOT_IN_PRODUCTION}


@pytest.mark.parametrize(
    ("target", "engine", "extra"), [("onnx-fp32", "onnxruntime", "cpu"), ("openvino-fp32", "openvino", "openvino")]
)
def test_without_its_engine_an_artifact_names_the_extra(target: str, engine: str, extra: str, quick: Quick) -> None:
    folder = quick("pool_mean_with_prompt", target).folder
    load = (
        f"import stcompile\ntry:\n    stcompile.load({str(folder)!r})\nexcept stcompile.MissingExtraError as error:\n"
    )
    assert f"pip install 'stcompile[{extra}]'" in _python(_without(engine) + load + "    print(error)")


@pytest.mark.parametrize("call", ["load_stack('model')", "export_model('model', 'artifact')", "ModuleStack([])"])
def test_what_needs_the_compiler_names_the_extra(call: str) -> None:
    caught = f"import stcompile\ntry:\n    stcompile.{call}\nexcept stcompile.MissingExtraError as error:\n"
    assert "pip install 'stcompile[compile]'" in _python(_WITHOUT + caught + "    print(error)")


_LOOK = """
import inspect, stcompile
names = dict(inspect.getmembers(stcompile))
assert all(hasattr(stcompile, name) and name in names for name in dir(stcompile))
from stcompile import *
from stcompile import export_model as export
assert export.__name__ == "export_model" and "stcompile[compile]" in export.__doc__
try:
    export("model", "artifact")
except MissingExtraError as error:
    print(error)
try:
    stcompile.nothing
except AttributeError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        (_NOT_IN_PRODUCTION, "torch"),
        (("transformers",), "transformers"),
        pytest.param(("onnx_ir", "onnxscript"), "onnx_ir", marks=pytest.mark.processes),
    ],
)
def test_looking_at_what_needs_the_compiler_is_no_error(missing: tuple[str, ...], named: str) -> None:
    refused, unknown = _python(_without(*missing) + _LOOK).splitlines()
    assert refused.startswith(f"stcompile.export_model needs {named}, which is not installed: pip install")
    assert refused.endswith("pip install 'stcompile[compile]'")
    assert unknown == "module 'stcompile' has no attribute 'nothing'"


_BASELINE = """
import json
from stcompile.testing import assert_parity
folder = json.load(sys.stdin)
print(assert_parity(folder, baseline=folder, texts=["hello", "a dog"]).passed)
"""


def test_two_artifacts_are_compared_without_torch(compiled: Compiled) -> None:
    compilers = ("torch", "transformers", "onnx", "onnx_ir", "sentence_transformers", "safetensors")
    for case in ("pool_mean", "reranker_bert"):
        assert _python(_without(*compilers) + _BASELINE, json.dumps(str(compiled(case)))) == "True\n"


_TENSOR = """
import stcompile
encoder = stcompile.load(json.load(sys.stdin), threads=1)
assert encoder.encode("a", convert_to_numpy=True).shape == (32,)
try:
    encoder.encode("a", convert_to_tensor=True)
except stcompile.MissingExtraError as error:
    print(error)
"""


def test_a_tensor_without_torch_is_one_sentence(quick: Quick) -> None:
    folder = str(quick("pool_mean_with_prompt", "onnx-fp32").folder)
    printed = _python(_WITHOUT + "import json" + _TENSOR, json.dumps(folder))
    assert printed == (
        "convert_to_tensor=True needs torch, which is not installed: leave it out for numpy, or pip install torch\n"
    )


def test_a_package_in_a_zip_file_has_all_its_files(tmp_path: Path) -> None:
    home = Path(stcompile.__file__).parent
    with zipfile.ZipFile(tmp_path / "stcompile.zip", "w") as archive:
        for file in home.rglob("*"):
            if file.suffix in (".py", ".html", ".js", ".json"):
                archive.write(file, file.relative_to(home.parent))
    code = (
        "from stcompile.compiler.parity.probes import probe_texts\n"
        "from stcompile.server import app\n"
        "print(len(probe_texts()), *(len(app._PAGES.joinpath(f'{name}.html').read_bytes()) "
        "for name in ('playground', 'docs')))"
    )
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "stcompile.zip")}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert all(int(count) > 100 for count in done.stdout.split())
