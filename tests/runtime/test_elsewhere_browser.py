"""The same file in a browser: onnxruntime-web in WebAssembly, in Chromium without a window."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

import stcompile
from stcompile.artifact import Artifact
from stcompile.artifact.manifest import SENTENCE, GraphSpec
from stcompile.artifact.target import TARGETS
from stcompile.compiler.parity.verify import AGREEMENT
from stcompile.compiler.trace import serialize
from tests.compiler.export.test_targets_on_architectures import cosines
from tests.conftest import Case, Quick, load_case
from tests.runtime.test_elsewhere import as_json, install, rows_of

BROWSER = shutil.which("chromium")

pytestmark = [
    pytest.mark.elsewhere,
    pytest.mark.skipif(shutil.which("npm") is None, reason="there is no npm to install onnxruntime-web with"),
    pytest.mark.skipif(BROWSER is None, reason="there is no browser: apt-get install chromium"),
]

# Pinned, so that a new release is no surprise here.
VERSION = "1.30.0"

PAGES = Path(__file__).parent / "elsewhere_pages"

# Seconds until a page that posts nothing is given up; one takes two.
_PATIENCE = 120

# A kind of network each, and every scheme of numbers.
PAIRS = [
    *((case, target) for case in ("wide_bert", "backbone_modernbert") for target in ("onnx-fp32", "onnx-int8")),
    *(("wide_bert", f"onnx-{scheme}") for scheme in ("bf16", "fp16", "int8-weights", "int4-weights")),
    *(("static", target) for target in ("onnx-fp32", "onnx-int8")),
    ("wordemb_lstm_bi", "onnx-fp32"),
]


@pytest.fixture(scope="session")
def web(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of onnxruntime-web that a page is given."""
    folder = tmp_path_factory.mktemp("web")
    install(f"onnxruntime-web@{VERSION}", folder)
    return folder / "node_modules" / "onnxruntime-web" / "dist"


@pytest.mark.parametrize(("case", "target"), PAIRS)
def test_a_browser_gives_the_models_vectors(case: str, target: str, web: Path, quick: Quick, tmp_path: Path) -> None:
    artifact = quick(case, target)
    (spec,) = artifact.manifest.graphs
    _judge(load_case(case), artifact, spec, web, tmp_path)


@pytest.mark.parametrize("target", ["onnx-fp32", "onnx-int8"])
def test_weights_in_a_file_of_their_own(
    target: str, web: Path, quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serialize, "EXTERNAL_ABOVE", 1000)
    artifact = quick("wide_bert", target, tmp_path / "artifact")
    (spec,) = artifact.manifest.graphs
    assert spec.external_data == "model.onnx.data"
    _judge(load_case("wide_bert"), artifact, spec, web, tmp_path)


def test_graphs_that_share_a_file_of_weights(web: Path, quick: Quick, tmp_path: Path) -> None:
    artifact = quick("router_two_encoders", "onnx-fp32")
    for spec in artifact.manifest.graphs:
        assert spec.external_data == "weights.data"
        _judge(load_case("router_two_encoders"), artifact, spec, web, tmp_path, f"encode_{spec.route}")


def _judge(case: Case, artifact: Artifact, spec: GraphSpec, web: Path, profile: Path, run: str = "default") -> None:
    """One graph in the browser, beside sentence-transformers' vectors of a run and the artifact's own."""
    route = stcompile.load(artifact.folder, threads=1)._routes[spec.route]
    batches = [*route.batches(case.texts, None, 8)]
    job = {
        "graph": spec.file,
        "weights": [spec.external_data] if spec.external_data else [],
        "runs": [as_json(feeds) for _, feeds in batches],
    }
    answer = _in_browser(artifact.folder, job, web, profile)
    assert "error" not in answer, answer["error"]
    assert answer["version"] == VERSION
    tolerance = TARGETS[artifact.manifest.target].tolerance
    agreement = AGREEMENT.get(artifact.manifest.target, tolerance.min_cosine)
    places = [place for batch, _ in batches for place in batch]
    rows = np.concatenate([rows_of(found) for found in answer["found"]])
    own = np.concatenate([route.infer(feeds, (SENTENCE,))[0] for _, feeds in batches])
    assert rows.shape == own.shape
    assert np.array_equal(np.isfinite(rows), np.isfinite(own))
    assert cosines(case.expected(run)[places], rows).min() >= tolerance.min_cosine
    assert cosines(own, rows).min() >= agreement


def _in_browser(artifact: Path, job: dict[str, Any], web: Path, profile: Path) -> dict[str, Any]:
    """What the page posts when it has done a job."""
    assert BROWSER is not None
    with _served(artifact, job, web) as (address, found):
        words = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile / 'profile'}"]
        browser = subprocess.Popen(
            [*words, address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            return found.get(timeout=_PATIENCE)
        finally:
            os.killpg(browser.pid, signal.SIGKILL)
            browser.wait()


@contextmanager
def _served(artifact: Path, job: dict[str, Any], web: Path) -> Iterator[tuple[str, Queue[dict[str, Any]]]]:
    """The address of the page, and where what it posts arrives."""
    found: Queue[dict[str, Any]] = Queue()
    rooms = {"ort": web, "artifact": artifact, "page": PAGES}

    class Handler(SimpleHTTPRequestHandler):
        def translate_path(self, path: str) -> str:
            room, _, name = urlsplit(path).path.lstrip("/").partition("/")
            return str(rooms[room] / Path(name).name) if room in rooms else "/nowhere"

        def guess_type(self, path: Any) -> str:
            # A module is refused by another type than this, which not every machine's table has.
            return "text/javascript" if str(path).endswith(".mjs") else super().guess_type(path)

        def do_GET(self) -> None:
            if self.path == "/job.json":
                self._answer(json.dumps(job).encode())
            else:
                super().do_GET()

        def do_POST(self) -> None:
            found.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self._answer(b"")

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/page/run.html", found
        finally:
            server.shutdown()
            thread.join()
