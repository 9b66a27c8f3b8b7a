"""A process that ends while daemon threads encode."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_SECONDS = 60

_SCRIPT = """
import sys, threading, time
import stcompile

encoder = stcompile.load(sys.argv[1], threads=1)

def encode_always():
    while True:
        encoder.encode(["a text", "and another one"])

for _ in range(8):
    threading.Thread(target=encode_always, daemon=True).start()
time.sleep(float(sys.argv[2]))
"""


def ended(artifact: Path, delay: float, before: str = "") -> subprocess.CompletedProcess[str]:
    """How it ended, so many seconds after its threads began; `before` is Python that it runs first."""
    command = [sys.executable, "-c", before + _SCRIPT, str(artifact), str(delay)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS)
