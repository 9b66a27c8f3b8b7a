"""A verdict as one page that needs nothing else: no script, no font, no address of another machine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape

from stcompile.artifact.report import LayerSummary, Report
from stcompile.compiler.parity.evidence import Verification
from stcompile.compiler.parity.probes import shortened
from stcompile.reports.measures import measures
from stcompile.reports.svg import boxes, histogram, scatter

_WORST = 20

# Characters of a text in a table.
_TEXT = 120

_STYLE = """
:root { color-scheme: light dark; --line: #8886; --good: #1a7f37; --bad: #cf222e; --bar: #0969da; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1080px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .6rem; text-align: left; vertical-align: top; }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
td.text { overflow-wrap: anywhere; min-width: 5rem; }
.passed { color: var(--good); } .failed { color: var(--bad); font-weight: 600; }
.pictures { display: flex; flex-wrap: wrap; gap: 1rem; } .wide { overflow-x: auto; }
svg { max-width: 100%; height: auto; } .wide svg { max-width: none; }
svg text { fill: currentColor; } svg .label { font-size: 11px; } svg .name { font-size: 13px; font-weight: 600; }
svg .axis, svg .box, svg .arrow { fill: none; stroke: currentColor; }
svg .bar { fill: var(--bar); } svg .point { fill: var(--bar); fill-opacity: .5; }
svg .diagonal { stroke: currentColor; stroke-dasharray: 4; }
details { margin-top: .5rem; } code { font-size: .85em; }
"""


def as_html(found: Verification) -> str:
    """The verdict, its numbers and pictures, the worst texts, and what was done to make the artifact."""
    parity, made = found.parity, found.compilation
    state = "passed" if found.passed else "failed"
    title = f"{found.artifact} against {found.against}: {state}"
    parts = [
        f"<h1>{escape(found.artifact)} <span class={state}>{state}</span></h1>",
        f"<p>{escape(parity.target)}, {parity.num_texts} texts, compared with {escape(parity.reference)} "
        f"({escape(found.against)}); {found.seconds:.0f} s.</p>",
        *_list([escape(failure) for failure in parity.failures], "failed"),
        "<h2>Module stack</h2>",
        f"<div class=wide>{boxes([(one.type, _about(one.config)) for one in made.source.modules])}</div>",
        "<h2>Parity</h2>",
        _table(
            ("measure", "value", "allowed", ""),
            (
                (escape(one.name), one.shown, escape(one.allowed), _mark(passed=one.passed, judged=bool(one.allowed)))
                for one in measures(parity)
            ),
        ),
        *([] if found.speed is None else ["<h2>Speed</h2>", f"<p>{escape(str(found.speed))}</p>"]),
        *_pictures(found),
        "<h2>Worst texts</h2>",
        _table(
            ("text", "run", "cosine", "max abs error"),
            (
                (
                    escape(shortened(one.text, _TEXT)),
                    escape(one.run),
                    "" if one.cosine is None else f"{one.cosine:.6f}",
                    f"{one.error:.2e}",
                )
                for one in found.evidence.worst(_WORST)
            ),
        ),
        *_compilation(made),
    ]
    return (
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n{chr(10).join(parts)}\n</body>\n</html>\n"
    )


def _pictures(found: Verification) -> Iterator[str]:
    drawn = [
        *([histogram(found.evidence.cosines)] if found.evidence.cosines else []),
        *map(scatter, found.evidence.scatters),
    ]
    if drawn:
        yield "<h2>Distances and similarities</h2>"
        yield f"<div class=pictures>{''.join(drawn)}</div>"


def _compilation(made: Report) -> Iterator[str]:
    facts = {
        "recipe": made.recipe,
        "shaped for": made.provider,
        "operator set": ", ".join(f"{route or 'graph'}: {opset}" for route, opset in made.opsets.items()),
        "source": f"{made.source.name}, fingerprint {made.source.fingerprint[:16]}",
        "versions": ", ".join(f"{name} {version}" for name, version in made.versions.items()),
        **{f"note {place}": note for place, note in enumerate(made.notes, start=1)},
    }
    yield "<h2>Compilation</h2>"
    yield _table(("fact", "value"), ((escape(name), escape(value)) for name, value in facts.items()))
    yield "<h2>Passes</h2>"
    yield _table(
        ("pass", "rewrites", "refused because"),
        ((escape(one.name), str(one.rewrites), "<br>".join(map(escape, one.refusals))) for one in made.passes),
    )
    if made.quantization is not None and made.quantization.layers:
        plan = made.quantization
        yield "<h2>Layer plan</h2>"
        counts = f"{plan.matmuls} matrix multiplications and {plan.embeddings} tables in 8 bits"
        yield f"<p>{escape(plan.scheme)}: {counts}.</p>"
        yield _table(
            ("layer", "computed as", "bits", "smoothing", "error", "sensitivity", "why not cheaper"),
            map(_layer, plan.layers),
        )


def _layer(row: LayerSummary) -> tuple[str, ...]:
    name = f"{row.route}: {row.name}" if row.route else row.name
    computed = ", ".join(filter(None, (row.scheme, row.observer)))
    numbers = [
        "" if value is None else format(value, form)
        for value, form in ((row.smoothing, "g"), (row.error, ".4f"), (row.sensitivity, ".1e"))
    ]
    return (escape(name), escape(computed), str(row.bits), *numbers, escape(row.reason))


def _about(config: dict[str, object]) -> str:
    return ", ".join(f"{key}={value}" for key, value in config.items() if value not in (None, "", [], {}))


def _mark(*, passed: bool, judged: bool) -> str:
    if not judged:
        return ""
    return "<span class=passed>passed</span>" if passed else "<span class=failed>failed</span>"


def _list(items: Sequence[str], kind: str) -> list[str]:
    return [f"<ul class={kind}>{''.join(f'<li>{item}</li>' for item in items)}</ul>"] if items else []


def _table(head: Sequence[str], rows: Iterable[tuple[str, ...]]) -> str:
    """Of cells that are HTML already."""
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = "".join(f"<tr>{''.join(f'<td class={_kind(cell)}>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<div class=wide><table><thead><tr>{names}</tr></thead><tbody>{lines}</tbody></table></div>"


def _kind(cell: str) -> str:
    return "number" if cell[:1].isdigit() or cell[:2] in (">=", "<=", "-1", "-0", "&l", "&g") else "text"
