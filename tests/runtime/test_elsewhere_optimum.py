"""Artifacts of optimum's layout, loaded by optimum and by sentence-transformers, where the package is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stcompile.artifact.target import TARGETS
from tests.apart import ROOT, run_apart
from tests.conftest import EXPECTED, MODELS, Quick, load_case

pytestmark = pytest.mark.elsewhere

SCRIPT = ROOT / "tests" / "integrations" / "scripts" / "optimum_folder.py"

# Pinned, so that a new release is no surprise here. The newest that can be installed together.
PACKAGES = {
    "onnx": (
        *("sentence-transformers==5.7.0", "optimum-onnx==0.1.0", "optimum==2.1.0", "transformers==4.57.6"),
        *("onnxruntime==1.32.0", "torch==2.13.0"),
    ),
    "openvino": (
        *("sentence-transformers==6.2.0", "optimum-intel==2.2.0", "optimum==2.3.0", "transformers==5.5.4"),
        *("openvino==2026.4.1", "nncf==3.4.0", "torch==2.13.0"),
    ),
}

# Mean, CLS and the last token's vector, padding on either side, rotary positions, a Dense behind; our operators by
# their bodies.
CASES = {
    "onnx": [
        *(("wide_bert", target) for target in ("onnx-fp32", "onnx-int8", "onnx-int8-weights")),
        *(("backbone_modernbert", target) for target in ("onnx-fp32", "onnx-int8")),
        *((case, "onnx-fp32") for case in ("backbone_qwen3_lasttoken", "pool_lasttoken_leftpad", "dense_tanh")),
    ],
    "openvino": [("wide_bert", "openvino-fp32"), ("wide_bert", "openvino-int8"), ("pool_cls", "openvino-fp32")],
}

# Of a token's vector: nothing is averaged. Measured on these: 0.9999999 in float32, 0.9998 in 8 bits with CLS pooling.
LEAST_OF_TOKENS = {"fp32": 0.999999, "int8": 0.99}


@pytest.mark.parametrize("backend", PACKAGES)
def test_both_loaders_give_the_models_vectors(backend: str, quick: Quick, tmp_path: Path) -> None:
    jobs = [
        {
            "name": f"{case}-{target}",
            "backend": backend,
            "model": str(MODELS / case),
            "artifact": str(quick(case, target, layout="optimum").folder),
            "texts": load_case(case).texts,
            "expected": str(EXPECTED / case / load_case(case).runs["default"]["file"]),
            "least": TARGETS[target].tolerance.min_cosine,
            "least_of_tokens": LEAST_OF_TOKENS[TARGETS[target].precision],
        }
        for case, target in CASES[backend]
    ]
    (tmp_path / "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")
    run_apart(SCRIPT, PACKAGES[backend], [str(tmp_path / "jobs.json")], tmp_path, ours=False, without="torchvision")
