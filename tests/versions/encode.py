"""Encodes with artifacts that `compile.py` made, and compares with the vectors of sentence-transformers.

    python -m tests.versions.encode FOLDER

It runs where the runtime's dependencies alone are installed, each in a release that `table.py` lists.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import stcompile
from stcompile.artifact.target import Target
from stcompile.compiler.metrics import distance

EXPECTED = Path(__file__).parents[2] / "golden" / "expected"

FORBIDDEN = ("torch", "transformers", "onnx")

# Less than this is no text's vector, whatever the recipe; what a float32 graph computes is exact but for rounding.
# Measured: fp32 0.9999999, 8 bits 0.997, 4 bits 0.98.
EXACT, LEAST = 0.999999, 0.97


def main(folder: Path) -> int:
    """Encodes with every artifact; prints a line for each, and returns how many are wrong."""
    wrong = 0
    artifacts = sorted(path.parent for path in folder.glob("*/*/manifest.json"))
    for artifact in artifacts:
        name = f"{artifact.parent.name} {artifact.name}"
        needed = "openvino" if Target.parse(artifact.name).is_openvino else "onnxruntime"
        try:
            cosine = _cosine(artifact)
        except Exception as error:  # whatever an old release raises is what is looked for
            cosine, needed = float("nan"), f"{needed}: {type(error).__name__}: {error}"
        right = cosine >= (EXACT if "fp32" in artifact.name else LEAST)
        wrong += not right
        print(f"{'right' if right else 'WRONG'} {name}: cosine {cosine:.7f} {'' if right else needed}")  # noqa: T201
    loaded = [name for name in FORBIDDEN if name in sys.modules]
    used = filter(find_spec, ("numpy", "tokenizers", "onnxruntime", "openvino"))
    versions = [f"stcompile {stcompile.__version__}", *(f"{name} {version(name)}" for name in used)]
    print(", ".join(versions))  # noqa: T201
    print(f"{len(artifacts) - wrong} of {len(artifacts)} right", *(f"{name} was imported" for name in loaded))  # noqa: T201
    return wrong + len(loaded) + (not artifacts)


def _cosine(artifact: Path) -> float:
    """The smallest of any golden text to its vector by sentence-transformers; NaN where a vector has one."""
    expected = EXPECTED / artifact.parent.name
    about: dict[str, Any] = json.loads((expected / "case.json").read_text(encoding="utf-8"))
    texts = json.loads((EXPECTED / about["inputs"]).read_text(encoding="utf-8"))
    run = next(run for run in about["runs"] if run["method"] == "encode" and "output_value" not in run["kwargs"])
    # One by one: the dynamic recipe gives a text another vector in another batch.
    found = stcompile.load(artifact, threads=1).encode(texts, **{**run["kwargs"], "batch_size": 1})
    return float(distance(np.load(expected / run["file"]), found).cosine.min())


if __name__ == "__main__":
    sys.exit(bool(main(Path(sys.argv[1]))))
