"""`python -m reliability.fuzz TARGET COUNTS`: one target in this process, under libFuzzer, whose own options follow.

It ends with libFuzzer's exit code: 0, or that of a crash, a hang or too much memory, with the input in a file. COUNTS
is a JSON file of how many inputs ended how.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from types import ModuleType

# Seconds between two writes of the counts: libFuzzer ends the process by itself, at any moment.
_EVERY = 0.5


def main(name: str, counts: Path, options: list[str]) -> None:
    """Fuzzes until an option ends it."""
    atheris = _instrumented()
    # Packages warn of what they read; that is no outcome.
    warnings.simplefilter("ignore")
    os.environ["HF_HUB_OFFLINE"] = "1"
    home = Path(tempfile.mkdtemp(prefix="stcompile-fuzz-"))
    from reliability.fuzz.targets import TARGETS, outcome_of

    target = TARGETS[name](home)
    found: Counter[str] = Counter()
    written = time.monotonic()

    def attempt(content: bytes) -> None:
        nonlocal written
        found[outcome_of(target, atheris.FuzzedDataProvider(content))] += 1
        if time.monotonic() - written > _EVERY:
            counts.write_text(json.dumps(found), "utf-8")
            written = time.monotonic()

    atheris.Setup([sys.argv[0], *options], attempt)
    atheris.Fuzz()


def _instrumented() -> ModuleType:
    """atheris, once it has seen all of this package and so knows what is new."""
    import atheris

    with atheris.instrument_imports(include=["stcompile"]):
        import stcompile.cli.app
        import stcompile.compiler.inspection
        import stcompile.runtime.loading  # noqa: F401
    found: ModuleType = atheris
    return found


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
