"""The runtime stands alone: no torch, no compiler, no command line, and nothing at all before it is asked for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Compiled, load_case

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

_WITHOUT = f"""
import sys

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {_NOT_IN_PRODUCTION!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, NotInstalled())
"""

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


def test_the_recorded_vectors_without_the_compiler(compiled: Compiled, tmp_path: Path) -> None:
    case = load_case("pool_mean_with_prompt")
    runs = {"query": "encode_query", "plain": "none"}
    files = {key: str(tmp_path / f"{key}.npy") for key in runs}
    _python(_WITHOUT + _ENCODE, json.dumps({"artifact": str(compiled(case.name)), "texts": case.texts, **files}))
    for key, run in runs.items():
        expected = case.expected(run)
        atol = 2e-6 * float(np.linalg.norm(expected[0]))
        np.testing.assert_allclose(np.load(files[key]), expected, rtol=0, atol=atol)


def test_the_import_alone_brings_neither_numpy_nor_an_engine() -> None:
    imported = set(json.loads(_python("import sys\n" + _IMPORT)))
    assert "stcompile" in imported
    assert not imported & {"numpy", "onnxruntime", "tokenizers", *_NOT_IN_PRODUCTION}


@pytest.mark.parametrize("call", ["load_stack('model')", "export_model('model', 'artifact')", "ModuleStack([])"])
def test_what_needs_the_compiler_names_the_extra(call: str) -> None:
    caught = f"import stcompile\ntry:\n    stcompile.{call}\nexcept stcompile.MissingExtraError as error:\n"
    assert "pip install 'stcompile[compile]'" in _python(_WITHOUT + caught + "    print(error)")
