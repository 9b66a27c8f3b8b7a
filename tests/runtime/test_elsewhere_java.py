"""The same file in Java: what docs/elsewhere.md shows, in standard operators and with the kernels."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

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

TOOLS = ("apt-get", "javac", "gcc")

pytestmark = [
    pytest.mark.elsewhere,
    pytest.mark.skipif(
        not all(map(shutil.which, TOOLS)), reason=f"wants {', '.join(TOOLS)} for ONNX Runtime's binding"
    ),
]

HERE = Path(__file__).parent / "elsewhere_java"
PAGE = Path(__file__).parents[2] / "docs" / "elsewhere.md"
# Of binding.sh: Debian did not give its sources.
NOT_FETCHED = 75


@pytest.fixture(scope="session")
def java(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ONNX Runtime's binding and the page's Java, compiled."""
    folder = tmp_path_factory.mktemp("java")
    made = subprocess.run([HERE / "binding.sh", folder, sys.executable], capture_output=True, text=True, check=False)
    if made.returncode == NOT_FETCHED:
        pytest.skip(f"ONNX Runtime's sources: {made.stderr.strip().splitlines()[-1]}")
    assert made.returncode == 0, made.stderr
    shown = re.search(r"```java\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert shown is not None
    source = folder / "Embed.java"
    around = (HERE / "Embed.java").read_text(encoding="utf-8")
    source.write_text(around.replace("// docs/elsewhere.md goes here", shown[1]), encoding="utf-8")
    subprocess.run(["javac", "-cp", folder / "classes", "-d", folder / "classes", source], check=True)
    return folder


def written(runs: list[Feeds]) -> bytes:
    """Token ids and masks of each run behind its shape, as Java's DataInputStream reads them."""
    whole = [np.array([len(runs)], dtype=">i4").tobytes()]
    for feeds in runs:
        whole += [np.array(feeds["input_ids"].shape, dtype=">i4").tobytes()]
        whole += [feeds[name].astype(">i8").tobytes() for name in ("input_ids", "attention_mask")]
    return b"".join(whole)


def vectors(java: Path, graph: Path, kernels: str, runs: list[Feeds], dim: int) -> npt.NDArray[np.float32]:
    """What Java makes of the runs, one vector a row."""
    ids, found = java / "ids", java / "found"
    ids.write_bytes(written(runs))
    words: list[str | Path] = ["java", "-cp", java / "classes", f"-Donnxruntime.native.path={java / 'lib'}"]
    done = subprocess.run([*words, "Embed", graph, kernels, ids, found], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return np.frombuffer(found.read_bytes(), dtype=">f4").astype(np.float32).reshape(-1, dim)


@pytest.mark.parametrize("kernels", [False, True])
@pytest.mark.parametrize("target", ["onnx-int8", "onnx-bf16", "onnx-fp32"])
@pytest.mark.parametrize("case", ["wide_bert", "full_stack"])
def test_java_gives_the_runtimes_vectors(case: str, target: str, kernels: bool, java: Path, quick: Quick) -> None:
    library = native.library()
    if kernels and library is None:
        pytest.skip("no kernels are compiled here")
    folder, known = quick(case, target).folder, load_case(case)
    texts = [text for text in known.texts if isinstance(text, str)]
    encoder = stcompile.load(folder, threads=1)
    (route,) = encoder._routes.values()
    runs = [feeds for _, feeds in route.batches(texts, None, 8)]
    ours = np.concatenate([route.infer(feeds, (SENTENCE,))[0] for feeds in runs])
    theirs = vectors(java, folder / "model.onnx", str(library) if kernels else "", runs, ours.shape[1])
    assert cosines(ours, theirs).min() >= AGREEMENT[target]
    if kernels:
        assert np.array_equal(ours, theirs), "the same kernels, other numbers"
