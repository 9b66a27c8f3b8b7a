"""Compiles golden models for many targets into a folder: what `encode.py` loads beside other releases of all else.

python -m tests.versions.compile FOLDER
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from stcompile.artifact.target import TARGETS
from tests.conftest import _Quick
from tests.traces import Traces

# Every kind of front end and of graph.
EVERY_TARGET = "wide_bert"
EXACT = (
    *("static_normalize", "wordemb_mean", "wordemb_phrase_tokenizer", "bow_dense_normalize", "clip_text"),
    "router_two_encoders",
)
EIGHT_BITS = ("backbone_t5", "backbone_modernbert", "backbone_qwen3_lasttoken", "backbone_gemma3_windows")


def main(folder: Path) -> None:
    """Exports each pair of a case and a target to `FOLDER/CASE/TARGET`."""
    here = [target.name for target in TARGETS.values() if not target.distills and not target.refusals()]
    pairs = [
        *((EVERY_TARGET, target) for target in here),
        *((case, target) for case in EXACT for target in ("onnx-fp32", "openvino-fp32")),
        *((case, target) for case in EIGHT_BITS for target in ("onnx-int8", "openvino-int8")),
    ]
    with tempfile.TemporaryDirectory() as traces:
        quick = _Quick(folder, Traces(Path(traces)))
        for case, target in pairs:
            quick(case, target, folder / case / target)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
