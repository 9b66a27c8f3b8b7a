"""A verdict of `stcompile verify` for who reads it: a page, a CI system, a pull request, a program."""

from __future__ import annotations

from collections.abc import Callable

from stcompile.compiler.parity.evidence import Verification
from stcompile.errors import InputError
from stcompile.reports.as_json import as_json
from stcompile.reports.html import as_html
from stcompile.reports.junit import as_junit
from stcompile.reports.markdown import as_markdown

# What a report may be, and what writes it.
FORMATS: dict[str, Callable[[Verification], str]] = {
    "html": as_html,
    "json": as_json,
    "junit": as_junit,
    "markdown": as_markdown,
}


def report_as(name: str, found: Verification) -> str:
    """The report in one of `FORMATS`, as text.

    Raises:
        InputError: there is no such format.
    """
    if name not in FORMATS:
        raise InputError(f"unknown report {name!r}: choose one of {', '.join(FORMATS)}")
    return FORMATS[name](found)
