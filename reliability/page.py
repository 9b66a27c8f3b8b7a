"""docs/reliability.md, of what was run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reliability.faults import FAULTS
from reliability.fuzz.run import MEGABYTES, SECONDS_OF_ONE
from reliability.fuzz.targets import TARGETS

_HEAD = f"""# Reliability

What was done to stcompile to see it fail, and what came of it. This page is written by `python -m reliability`, which
does all of it again; `--seconds` is how long each fuzz target runs. What is trusted, and what is bounded, is in
[SECURITY.md](../SECURITY.md).

## Hostile input

Real files with changes that coverage of the package's own code chooses (atheris, libFuzzer), with hashes and digests
that fit them again, as somebody writes them who wants them believed. An input is right where it works, or is refused by
one of stcompile's own errors with a sentence; anything else that is raised, a crash, more than {SECONDS_OF_ONE} seconds
or {MEGABYTES >> 10} GB ends the run and is kept.
"""

_FAULTS = """
## Faults

On all-MiniLM-L6-v2, at moments drawn from a seed.
"""


def written(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """The page's text, of the rows that `python -m reliability` keeps."""
    fuzzed = _table(
        ("input", "tried", "worked", "refused", "outcome", "command"),
        [
            (
                row["about"],
                f"{row['iterations']:,}",
                f"{row['counts'].get('worked', 0):,}",
                f"{row['counts'].get('refused', 0):,}",
                row["outcome"],
                f"`{row['command']}`",
            )
            for row in (rows[name] for name in TARGETS if name in rows)
        ],
    )
    faults = _table(
        ("fault", "times", "what happened", "outcome", "command"),
        [
            (
                row["about"],
                f"{row['iterations']:,}",
                ", ".join(f"{what}: {count:,}" for what, count in row["counts"].items()),
                row["outcome"],
                f"`{row['command']}`",
            )
            for row in (rows[name] for name in FAULTS if name in rows)
        ],
    )
    where = sorted({f"{row['machine']}, {row['date']}" for row in rows.values()})
    return f"{_HEAD}\n{fuzzed}{_FAULTS}\n{faults}\nRun on: {'; '.join(where)}.\n"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)
