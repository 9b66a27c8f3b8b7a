"""The whole verdict for a program: `ParityReport` as `verify --json` prints it, and every text that was judged."""

from __future__ import annotations

import json
from typing import Any

from stcompile.compiler.parity.evidence import Verification


def as_json(found: Verification) -> str:
    """An object: `artifact`, `against`, `passed`, `seconds`, `parity`, and `texts` from the worst one on.

    `speed` is null where it was not asked for.
    """
    content: dict[str, Any] = {
        "artifact": found.artifact,
        "against": found.against,
        "passed": found.passed,
        "seconds": round(found.seconds, 1),
        "speed": found.speed.to_dict() if found.speed else None,
        "parity": found.parity.to_dict(),
        "texts": [
            {"text": one.text, "run": one.run, "max_abs_error": one.error, "cosine": one.cosine}
            for one in found.evidence.worst(len(found.evidence.judged))
        ],
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
