"""The same file in another runtime, which knows no operator of the package: ONNX Runtime as npm carries it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import stcompile
from stcompile.artifact.manifest import SENTENCE
from stcompile.compiler.parity.verify import AGREEMENT
from stcompile.kernels import native
from stcompile.runtime.text.base import Feeds
from tests.compiler.export.test_targets_on_architectures import cosines
from tests.conftest import Quick, load_case

pytestmark = [
    pytest.mark.elsewhere,
    pytest.mark.skipif(shutil.which("npm") is None, reason="there is no npm to install onnxruntime-node with"),
]

# Pinned, so that a new release is no surprise here.
PACKAGE = "onnxruntime-node@1.30.0"

SCRIPT = """
const ort = require('onnxruntime-node');
const {graph, runs} = JSON.parse(require('fs').readFileSync(process.argv[2], 'utf8'));
(async () => {
  const session = await ort.InferenceSession.create(graph);
  const found = [];
  for (const feeds of runs) {
    const tensors = {};
    for (const name of session.inputNames) {
      const {shape, values} = feeds[name];
      tensors[name] = new ort.Tensor('int64', BigInt64Array.from(values.map(BigInt)), shape);
    }
    const {data, dims} = (await session.run(tensors)).sentence_embedding;
    found.push({shape: dims, values: Array.from(data)});
  }
  process.stdout.write(JSON.stringify(found));
})();
"""


def install(package: str, folder: Path) -> None:
    """Puts a package of npm into a folder. No script of it has to run: the binaries are in the package."""
    words = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(folder), package]
    subprocess.run(words, check=True, capture_output=True)


def as_json(feeds: Feeds) -> dict[str, Any]:
    """The inputs of one run, for a script."""
    return {name: {"shape": array.shape, "values": array.reshape(-1).tolist()} for name, array in feeds.items()}


def rows_of(found: dict[str, Any]) -> npt.NDArray[np.float32]:
    """What a script gives back."""
    return np.array(found["values"], dtype=np.float32).reshape(found["shape"])


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with onnxruntime-node."""
    folder = tmp_path_factory.mktemp("node")
    install(PACKAGE, folder)
    (folder / "run.js").write_text(SCRIPT, encoding="utf-8")
    return folder


@pytest.mark.parametrize("target", ["onnx-int8", "onnx-bf16", "onnx-fp32"])
@pytest.mark.parametrize("case", ["wide_bert", "wide_mpnet", "full_stack"])
def test_onnxruntime_node_gives_the_kernels_vectors(case: str, target: str, node: Path, quick: Quick) -> None:
    folder, known = quick(case, target).folder, load_case(case)
    texts = [text for text in known.texts if isinstance(text, str)]
    encoder = stcompile.load(folder, threads=1)
    assert (encoder.kernels == "body") is (native.library() is None)
    (route,) = encoder._routes.values()
    batches = [*route.batches(texts, None, 8)]
    runs = [as_json(feeds) for _, feeds in batches]
    job = node / f"{case}-{target}.json"
    job.write_text(json.dumps({"graph": str(folder / "model.onnx"), "runs": runs}), encoding="utf-8")
    done = subprocess.run(["node", str(node / "run.js"), str(job)], check=True, capture_output=True, text=True)
    for (places, feeds), found in zip(batches, json.loads(done.stdout), strict=True):
        assert cosines(route.infer(feeds, (SENTENCE,))[0], rows_of(found)).min() >= AGREEMENT[target], places
