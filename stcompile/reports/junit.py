"""A verdict as JUnit XML, which CI systems show as tests: one for each number that is judged."""

from __future__ import annotations

import re
from xml.etree import ElementTree as xml

from stcompile.compiler.parity.evidence import Verification
from stcompile.reports.measures import measures

_WORST = 5

# Characters that XML 1.0 cannot hold, however they are written: texts have some.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def as_junit(found: Verification) -> str:
    """A suite of the artifact's name; a failure's text names the worst texts.

    What failed and is no number of its own, a misread folder for one, is a test of the name `verdict`.
    """
    parity = found.parity
    tests = [(one.name, f"{one.shown}, allowed {one.allowed}", one.passed) for one in measures(parity) if one.allowed]
    failed = sum(not passed for *_, passed in tests)
    suite = xml.Element(
        "testsuite",
        name=_clean(f"stcompile verify {found.artifact}"),
        tests=str(len(tests) + 1),
        failures=str(failed + (not found.passed)),
        errors="0",
        time=f"{found.seconds:.3f}",
    )
    worst = "\n".join(
        _clean(
            f"{one.run}: {one.text!r} "
            + (f"error {one.error:.2e}" if one.cosine is None else f"cosine {one.cosine:.6f}, error {one.error:.2e}")
        )
        for one in found.evidence.worst(_WORST)
    )
    classname = _clean(f"stcompile.{parity.target}.{found.artifact}")
    for name, said, passed in tests:
        case = xml.SubElement(suite, "testcase", classname=classname, name=_clean(name), time="0")
        if not passed:
            xml.SubElement(case, "failure", message=_clean(said)).text = worst
    case = xml.SubElement(suite, "testcase", classname=classname, name="verdict", time=f"{found.seconds:.3f}")
    if not found.passed:
        xml.SubElement(case, "failure", message=_clean("; ".join(parity.failures))).text = worst
    xml.indent(suite)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + xml.tostring(suite, encoding="unicode") + "\n"


def _clean(text: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
