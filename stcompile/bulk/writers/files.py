"""Writers of plain files put them in place and say what they are."""

from __future__ import annotations

import hashlib
from typing import Any

from stcompile.bulk.store import Store


def put(store: Store, name: str, content: Any) -> dict[str, Any]:
    """Writes a file and describes it, for the journal."""
    store.put(name, content)
    return {"name": name, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
