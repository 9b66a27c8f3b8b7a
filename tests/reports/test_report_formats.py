"""Every format says the same of a verdict, whatever the texts are, and needs nothing else to be read."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as xml

import pytest

from stcompile.compiler.parity.evidence import Verification
from stcompile.errors import InputError
from stcompile.reports import FORMATS, report_as
from stcompile.reports.measures import measures

# Of HTML, what has no end.
_VOID = ("meta", "br")


class _Page(HTMLParser):
    """Whether every element that begins ends, and what there is."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        assert not {"src", "href", "onload"} & dict(attrs).keys()
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.mark.parametrize("which", ["passed", "failed", "odd"])
def test_a_page_is_whole_and_alone(which: str, request: pytest.FixtureRequest) -> None:
    found: Verification = request.getfixturevalue(which)
    page = _Page()
    content = report_as("html", found)
    page.feed(content)
    assert page.open == []
    assert "script" not in page.seen
    assert "http" not in content.replace("&", "")
    assert page.seen.count("svg") == 3  # stack, histogram, scatter
    said = " ".join(page.text)
    for expected in ("Module stack", "Pooling", "Worst texts", "Passes", "Layer plan", found.artifact):
        assert expected in said
    for failure in found.parity.failures:
        assert failure in said
    for one in measures(found.parity):
        assert one.name in said


@pytest.mark.parametrize("which", ["passed", "failed", "odd"])
def test_junit_is_a_suite(which: str, request: pytest.FixtureRequest) -> None:
    found: Verification = request.getfixturevalue(which)
    suite = xml.fromstring(report_as("junit", found))
    cases = suite.findall("testcase")
    failures = [case for case in cases if case.find("failure") is not None]
    assert (suite.get("tests"), suite.get("failures")) == (str(len(cases)), str(len(failures)))
    assert {case.get("name") for case in cases} >= {"min cosine", "mean cosine", "verdict"}
    assert bool(failures) == (not found.passed)
    if failures:
        assert found.evidence.worst(1)[0].run in str(failures[0].find("failure").text)  # type: ignore[union-attr]
        assert [case.get("name") for case in failures][-1] == "verdict"


@pytest.mark.parametrize("which", ["passed", "failed", "odd"])
def test_markdown_has_whole_tables(which: str, request: pytest.FixtureRequest) -> None:
    found: Verification = request.getfixturevalue(which)
    tables = re.split(r"\n(?!\|)", report_as("markdown", found))
    for table in (part for part in tables if part.lstrip().startswith("|")):
        # An escaped pipe is no end of a cell.
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.strip().splitlines()}
        assert len(widths) == 1
    assert ("FAILED" in tables[0]) == (not found.passed)


def test_json_has_every_text(failed: Verification) -> None:
    content = json.loads(report_as("json", failed))
    assert (content["passed"], content["parity"]["passed"]) == (False, False)
    assert {row["text"] for row in content["texts"]} == {one.text for one in failed.evidence.judged}
    assert content["texts"][0]["cosine"] == min(row["cosine"] for row in content["texts"])


def test_an_unknown_format_is_refused(passed: Verification) -> None:
    with pytest.raises(InputError, match="unknown report 'pdf': choose one of html, json, junit, markdown"):
        report_as("pdf", passed)
    assert all(report_as(name, passed) == report_as(name, passed) for name in FORMATS)


@pytest.mark.elsewhere
@pytest.mark.parametrize("which", ["passed", "odd"])
def test_a_browser_shows_it(which: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("there is no Chromium: install chromium")
    found: Verification = request.getfixturevalue(which)
    (tmp_path / "page.html").write_text(report_as("html", found), encoding="utf-8")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    asked = [*command, "--dump-dom", (tmp_path / "page.html").as_uri()]
    seen = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=120).stdout
    assert seen.count("<svg") == 3
    assert "<circle" in seen
    assert "<script" not in seen
    picture = tmp_path / "page.png"
    shot = [*command, "--window-size=1100,1600", f"--screenshot={picture}", (tmp_path / "page.html").as_uri()]
    subprocess.run(shot, capture_output=True, check=True, timeout=120)
    from PIL import Image

    with Image.open(picture) as opened:
        assert opened.size == (1100, 1600)
        assert len(opened.convert("RGB").getcolors(1 << 24) or ()) > 50


def test_speed_is_shown_where_it_was_measured(passed: Verification, failed: Verification) -> None:
    assert passed.speed is not None
    said = str(passed.speed)
    assert said in report_as("html", passed)
    assert "Speed: " in report_as("markdown", passed)
    assert json.loads(report_as("json", passed))["speed"]["ratio"]["median"] > 0
    assert "Speed" not in report_as("html", failed) + report_as("markdown", failed)
    assert json.loads(report_as("json", failed))["speed"] is None
