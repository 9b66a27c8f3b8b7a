"""What came of each row of the matrix that ran: a file each, which `report.py` makes a page of."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.versions.table import Row

FOLDER = Path(__file__).parents[2] / "artifacts" / "versions"

FAILED = "FAILED"


@dataclass(frozen=True)
class Result:
    """One row on one Python: what it was asked to do, and what came of it."""

    python: str
    task: str
    row: Row
    result: str
    seconds: int

    @property
    def file(self) -> Path:
        """Another run of the same row on the same Python takes its place."""
        key = json.dumps([self.python, self.task, self.row], sort_keys=True)
        return FOLDER / "results" / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"

    def note(self) -> None:
        """Keeps it."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")


def noted() -> list[Result]:
    """All that ran, in no order."""
    files = (FOLDER / "results").glob("*.json")
    return [Result(**json.loads(file.read_text(encoding="utf-8"))) for file in files]
