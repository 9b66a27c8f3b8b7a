"""`export --layout transformers.js`, read by that library, in Node: the vectors of the package's own runtime."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import stcompile
from stcompile.compiler.parity.verify import AGREEMENT
from tests.compiler.export.test_targets_on_architectures import cosines
from tests.conftest import Quick, load_case
from tests.runtime.test_elsewhere import install

pytestmark = [
    pytest.mark.elsewhere,
    pytest.mark.skipif(shutil.which("npm") is None, reason="there is no npm to install transformers.js with"),
]

# Pinned, so that a new release is no surprise here.
PACKAGE = "@huggingface/transformers@4.3.2"

SCRIPT = Path(__file__).parent / "elsewhere_pages" / "transformers_js.mjs"


@pytest.fixture(scope="session")
def transformers_js(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the library."""
    folder = tmp_path_factory.mktemp("transformers-js")
    install(PACKAGE, folder)
    shutil.copy(SCRIPT, folder)
    return folder


@pytest.mark.parametrize("target", ["onnx-fp32", "onnx-int8"])
@pytest.mark.parametrize("case", ["wide_bert", "backbone_modernbert", "backbone_qwen3_lasttoken", "static"])
def test_its_vectors_are_ours(case: str, target: str, transformers_js: Path, quick: Quick) -> None:
    folder = quick(case, target, layout="transformers.js").folder
    known = load_case(case)
    # At the end of a word JavaScript lowers the Greek letter to another one than tokenizers does.
    kept = [place for place, text in enumerate(known.texts) if isinstance(text, str) and "Σ" not in text]
    texts = [known.texts[place] for place in kept]
    job = transformers_js / f"{case}-{target}.json"
    job.write_text(json.dumps({"folder": str(folder), "texts": texts, "flat": case == "static"}), encoding="utf-8")
    command = ["node", str(transformers_js / SCRIPT.name), str(job)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = np.array(json.loads(done.stdout), dtype=np.float32)
    ours = stcompile.load(folder, threads=1).encode(texts)
    assert cosines(ours, found).min() >= AGREEMENT[target]
    if target == "onnx-fp32":
        assert cosines(known.expected()[kept], found).min() >= AGREEMENT[target]
