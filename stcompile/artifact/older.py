"""Older schemas. In 1 to 3, what runs and what was done stood in one file, the proof in another.

Here is what since changed its place or its meaning. What was only added has a default where it is defined.
"""

from __future__ import annotations

from typing import Any

from stcompile.artifact.target import FORMER

# The last schema of that kind, and where its proof is.
LAST = 3
PARITY_NAME = "parity.json"

# Before this one, 8-bit weights of one recipe were not scaled so that every CPU multiplies them exactly.
_EXACT_SINCE, _INEXACT = 3, "dynamic"

# Before this one, what has the package's own operators was a target of its own.
_NAMED_SINCE = 5

_MOVED = ("recipe", "provider", "source", "passes", "quantization", "notes", "versions")


def manifest_of(body: dict[str, Any]) -> dict[str, Any]:
    """Today's manifest of an older one's content, not yet checked; of today's, that itself."""
    if body["schema_version"] < _NAMED_SINCE and isinstance(body.get("target"), str):
        body = {**body, "target": FORMER.get(body["target"], body["target"])}
    engine, quantization = body.get("engine", {}), body.get("quantization")
    if body["schema_version"] >= _EXACT_SINCE or not isinstance(engine, dict) or not isinstance(quantization, dict):
        return body
    return {**body, "engine": {**engine, "saturates": quantization.get("scheme") == _INEXACT}}


def report_of(body: dict[str, Any], parity: Any) -> dict[str, Any]:
    """Today's report of the content of an older manifest that was read, and of its proof, not yet checked."""
    return {
        **{name: body[name] for name in _MOVED if name in body},
        "opsets": {graph["route"]: graph.get("opset") for graph in body["graphs"]},
        "distillation": body.get("distillation"),
        # Before there was a choice, and therefore not written down.
        "parity": {"reference": "stcompile's own modules", **parity} if isinstance(parity, dict) else parity,
    }
