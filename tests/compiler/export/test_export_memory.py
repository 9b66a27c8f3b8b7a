"""What an export holds in memory: the weights once, and of everything else what one layer needs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import MODELS

# Above what the process had before it was traced, in weights: most of the weights were read by then, the table was not.
# Measured on a busy machine: 1.5 and 3.0; of copies in messages, sessions and plans 4.6 and 5.6.
ALLOWED = {"onnx-fp32": 2.5, "onnx-int8": 4.0}

# Wide, so that what is copied shows beside what the process takes in any case.
SHAPE = {"vocab_size": 40_000, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 2}

CHILD = """
import json, sys
from pathlib import Path

from stcompile.compiler.export import export_model
from stcompile.compiler.quantize.calibration import default_set


def memory(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


class Step:
    def __init__(self, name):
        # Torch's first run, which reads most weights and much of torch itself, is over.
        if name.startswith("Tracing"):
            print(json.dumps(memory("VmRSS")))
        # What judges it has a network and a process of its own.
        if name.startswith("Proving"):
            print(json.dumps(memory("VmHWM")), flush=True)
            sys.exit()

    def __enter__(self):
        return lambda _: None

    def __exit__(self, *_):
        return None


model, destination, target = sys.argv[1:]
options = {"calibration": default_set().texts[::4]} if "int8" in target else {}
export_model(model, destination, target, step=Step, **options)
"""


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A golden folder with a network of another shape."""
    import torch
    from transformers import AutoConfig, AutoModel

    folder = tmp_path_factory.mktemp("wide") / "model"
    shutil.copytree(MODELS / "wide_bert", folder)
    config = AutoConfig.from_pretrained(folder)
    for name, value in SHAPE.items():
        setattr(config, name, value)
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(folder)
    pooling = folder / "1_Pooling" / "config.json"
    about = json.loads(pooling.read_text())
    widths = {name: SHAPE["hidden_size"] for name in about if name.endswith("dimension")}
    pooling.write_text(json.dumps({**about, **widths}))
    return folder


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="memory is read from /proc")
@pytest.mark.memory
@pytest.mark.parametrize("target", [*ALLOWED])
def test_the_weights_are_in_memory_once(target: str, wide: Path, tmp_path: Path) -> None:
    weights = (wide / "model.safetensors").stat().st_size
    command = [sys.executable, "-c", CHILD, str(wide), str(tmp_path / "out"), target]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    before, peak = (json.loads(line) for line in done.stdout.splitlines())
    assert peak - before <= ALLOWED[target] * weights
