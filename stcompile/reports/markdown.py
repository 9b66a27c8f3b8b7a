"""A verdict as GitHub-flavoured Markdown: for a job's summary, or a comment on a pull request."""

from __future__ import annotations

from collections.abc import Sequence

from stcompile.compiler.parity.evidence import Verification
from stcompile.compiler.parity.probes import shortened
from stcompile.reports.measures import measures

_WORST = 5

# What would end a cell, a line or a word of code, or begin markup.
_ESCAPED = str.maketrans({**{sign: f"\\{sign}" for sign in "\\`*_{}[]<>#|~"}, "\n": " ", "\r": " "})


def as_markdown(found: Verification) -> str:
    """A heading, what failed, the numbers, and the worst texts."""
    parity = found.parity
    verdict = "passed" if found.passed else "FAILED"
    lines = [
        f"### {plain(found.artifact)} against {plain(found.against)}: {verdict}",
        "",
        f"Target {plain(parity.target)}, {parity.num_texts} texts, compared with {plain(parity.reference)}, "
        f"{found.seconds:.0f} s.",
        "",
        *(f"- **{plain(failure)}**" for failure in parity.failures),
        *([""] if parity.failures else []),
        *table(
            ("measure", "value", "allowed", ""),
            [(one.name, one.shown, one.allowed, "" if one.passed else "**failed**") for one in measures(parity)],
        ),
        "",
        *([f"Speed: {plain(str(found.speed))}.", ""] if found.speed else []),
        "Worst texts:",
        "",
        *table(
            ("text", "run", "cosine", "max abs error"),
            [
                (
                    plain(shortened(one.text)),
                    plain(one.run),
                    "" if one.cosine is None else f"{one.cosine:.6f}",
                    f"{one.error:.2e}",
                )
                for one in found.evidence.worst(_WORST)
            ],
        ),
    ]
    return "\n".join(lines) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table; cells are Markdown already."""
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return text.translate(_ESCAPED)
