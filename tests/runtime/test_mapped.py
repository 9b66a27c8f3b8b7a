"""What an engine has mapped and read once is not resident any longer, and is there when it is read again."""

from __future__ import annotations

import mmap
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import stcompile
from stcompile.runtime.engines.mapped import let_go
from tests.conftest import Compiled

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")


def resident(file: Path) -> int:
    """Bytes of this process's mappings of a file that lie in memory."""
    found, inside = 0, False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            inside = line.endswith(f" {file}")
        elif inside and line.startswith("Rss:"):
            found += int(line.split()[1]) * 1024
    return found


@pytest.mark.parametrize("name", ["weights.bin", "with a space ä.bin"])
def test_pages_go_and_come_back(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    numbers = np.arange(1 << 18)
    numbers.tofile(file)
    mapped = np.memmap(file, numbers.dtype, mode="r")
    assert mapped.sum() == numbers.sum()
    assert resident(file) == numbers.nbytes
    let_go(file)
    assert resident(file) == 0
    np.testing.assert_array_equal(mapped, numbers)


def test_what_was_written_stays(tmp_path: Path) -> None:
    """A private mapping's own pages are nowhere else."""
    file = tmp_path / "weights.bin"
    file.write_bytes(bytes(mmap.PAGESIZE))
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
        mapped[:4] = b"kept"
        let_go(file)
        assert mapped[:4] == b"kept"


def test_a_file_that_nobody_mapped(tmp_path: Path) -> None:
    let_go(tmp_path / "nothing")


def test_weights_that_openvino_compiled_are_let_go(compiled: Compiled) -> None:
    folder = compiled("full_stack", "openvino-fp32")
    encoder = stcompile.load(folder, threads=1)
    assert "model.bin" in Path("/proc/self/maps").read_text(encoding="utf-8")
    assert resident(folder / "model.bin") == 0
    first = encoder.encode(["a text"])
    np.testing.assert_array_equal(encoder.encode(["a text"]), first)
