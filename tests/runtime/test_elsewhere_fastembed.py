"""An artifact of the layout of transformers.js in fastembed, in an environment where the package is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stcompile.artifact.target import TARGETS
from tests.apart import ROOT, run_apart
from tests.conftest import EXPECTED, Quick, load_case

pytestmark = pytest.mark.elsewhere

SCRIPT = ROOT / "tests" / "integrations" / "scripts" / "fastembed_folder.py"

# Pinned, so that a new release is no surprise here.
PACKAGE = "fastembed==0.9.1"

# Mean pooling and the last token's vector, padding on either side, rotary positions; our operators by their bodies.
PAIRS = [
    *(("wide_bert", target) for target in ("onnx-fp32", "onnx-int8", "onnx-int8-weights")),
    *(("backbone_modernbert", target) for target in ("onnx-fp32", "onnx-int8")),
    *((case, "onnx-fp32") for case in ("backbone_qwen3_lasttoken", "pool_lasttoken_leftpad")),
]


def test_a_custom_model_gives_the_models_vectors(quick: Quick, tmp_path: Path) -> None:
    jobs = [
        {
            "name": f"{case}-{target}",
            "artifact": str(quick(case, target, layout="transformers.js").folder),
            "texts": load_case(case).texts,
            "expected": str(EXPECTED / case / load_case(case).runs["default"]["file"]),
            "least": TARGETS[target].tolerance.min_cosine,
        }
        for case, target in PAIRS
    ]
    (tmp_path / "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")
    run_apart(SCRIPT, (PACKAGE,), [str(tmp_path / "jobs.json")], tmp_path, ours=False)
