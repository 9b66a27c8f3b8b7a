"""What the wheel for ARM64 encodes, with the kernels of its CPU and on one that they are not for; emulated."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import stcompile
from stcompile.compiler.parity.verify import AGREEMENT
from tests.compiler.export.test_targets_on_architectures import cosines
from tests.conftest import Quick, load_case
from tests.kernels import emulation

pytestmark = [
    pytest.mark.cross,
    pytest.mark.skipif(bool(emulation.missing()), reason=emulation.missing() or "there is"),
]

ENCODE = """
import json, sys
import numpy as np
import stcompile
artifact, texts, output = sys.argv[1:]
encoder = stcompile.load(artifact, threads=1)
np.save(output, encoder.encode(json.loads(texts)))
print(encoder.kernels)
"""


# As QEMU calls them: a CPU with all that it knows, one of ARMv8.2, and one of ARMv8.0.
@pytest.mark.parametrize(("cpu", "kernels"), [("max", "neon_i8mm"), ("neoverse-n1", "neon"), ("cortex-a72", "body")])
@pytest.mark.parametrize("target", ["onnx-int8", "onnx-bf16", "onnx-fp32"])
def test_it_encodes_as_this_machine_does(target: str, cpu: str, kernels: str, quick: Quick, tmp_path: Path) -> None:
    artifact, texts = quick("wide_bert", target).folder, [str(text) for text in load_case("wide_bert").texts]
    output = tmp_path / "found.npy"
    done = emulation.run("-c", ENCODE, str(artifact), json.dumps(texts), str(output), cpu=cpu)
    assert done.stdout.split() == [kernels], done.stderr
    here = stcompile.load(artifact, threads=1).encode(texts)
    assert cosines(here, np.load(output)).min() >= AGREEMENT[target]


def test_a_cpu_without_the_dot_product_is_told_so() -> None:
    done = emulation.run("-c", "from stcompile.kernels import native; print(native.refusals())", cpu="cortex-a72")
    assert "the fused operators need the dot product of ARMv8.2" in done.stdout
