"""Writes docs/versions.md: every row of the matrix, and what came of it where it ran.

python -m tests.versions.report
"""

from __future__ import annotations

from collections.abc import Iterable

from tests.versions import table
from tests.versions.results import Result, noted

PAGE = table.ROOT / "docs" / "versions.md"

HEAD = """\
# Versions that were tried

Made by `python -m tests.versions.report` of what `make test-versions-all` ran; the versions are those of
`tests/versions/table.py`. `make test-versions` runs a part of the rows, which still has every release of what the
runtime imports.

- `runtime`: golden models that are compiled today are encoded where the runtime's dependencies alone are installed, and
  compared with the vectors of sentence-transformers.
- `units`: tests of the runtime that need no torch, the artifacts of all earlier schemas among them.
- `oldest`: the oldest release that is declared of everything, for the runtime and for the compiler.
- `compiler`: golden models are read and compiled, and compared with the vectors of sentence-transformers; with torch
  2.13.0. Networks that a release of transformers does not know are left out.
- `torches`: the same with other releases of torch; 2.9 cannot trace Gemma 3 with windows, and says so.

Releases that are newer than these may be installed too: a weekly run tries the newest of everything, and then the
table gets them. Older ones are not declared, for reasons that were seen: Python 3.10 has ended, and ONNX Runtime has no
wheel for it since 1.24; transformers before 4.57 computes EmbeddingGemma's attention in one direction without a word;
onnxscript before 0.6 cannot export with torch 2.13.
"""


def main() -> None:
    """Writes the page."""
    found = {result.file.name: result for result in noted()}
    parts = [HEAD, "## Without a wheel\n", "pip has none of these, so they cannot be tried there:\n"]
    for python, packages in table.WITHOUT_WHEEL.items():
        lacking = [f"{name} {version}" for name, versions in packages.items() for version in versions]
        parts.append(f"- Python {python}: {', '.join(lacking) or 'all have one'}")
    first = table.PYTHONS[0]
    oldest = [table.pins(f"constraints-oldest{kind}.txt") for kind in ("", "-compile")]
    parts += _section(
        "runtime", ((python, row) for python in table.PYTHONS for row in table.runtime_rows(python)), found
    )
    parts += _section(
        "units", ((python, row) for python in table.PYTHONS for row in table.newest_runtime(python)), found
    )
    parts += _section("torches", ((first, row) for row in table.torch_rows()), found)
    parts += _section("oldest", ((first, row) for row in oldest), found)
    compiled = [
        python
        for python in table.PYTHONS
        if any((item.python, item.task) == (python, "compiler") for item in found.values())
    ]
    parts += _section(
        "compiler", ((python, row) for python in compiled or [first] for row in table.compiler_rows()), found
    )
    PAGE.write_text("\n".join(parts) + "\n", encoding="utf-8")


def _section(task: str, rows: Iterable[tuple[str, table.Row]], found: dict[str, Result]) -> list[str]:
    """A heading and a table, a line for each row."""
    lines = [f"\n## {task}\n", "| Python | versions | result |", "|---|---|---|"]
    for python, row in rows:
        asked = Result(python, task, row, "not run", 0)
        result = found.get(asked.file.name, asked).result.partition(" in ")[0]  # without pytest's seconds
        lines.append(f"| {python} | {', '.join(f'{name} {version}' for name, version in row.items())} | {result} |")
    return lines


if __name__ == "__main__":
    main()
