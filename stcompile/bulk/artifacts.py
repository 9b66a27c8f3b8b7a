"""An artifact where an engine can open it: one in an object store is copied to this machine first."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from stcompile.artifact.manifest import MANIFEST_NAME
from stcompile.artifact.writing import written
from stcompile.bulk.store import is_local, opened, reached
from stcompile.errors import ArtifactError
from stcompile.extras import require


def digest_of(address: str) -> str:
    """sha256 of an artifact's manifest, which has those of all its files.

    Raises:
        ArtifactError: there is no artifact.
    """
    fs, path = opened(address)
    try:
        with reached(address):
            content: bytes = fs.cat_file(f"{path.rstrip('/')}/{MANIFEST_NAME}")
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{address} is no artifact: it has no {MANIFEST_NAME} that can be read") from error
    return hashlib.sha256(content).hexdigest()


def local_artifact(address: str) -> Path:
    """The folder of an artifact on this machine; loading it compares every file with its sha256.

    Raises:
        ArtifactError: there is none, or it cannot be copied.
    """
    fs, path = opened(address)
    if is_local(fs):
        return Path(path)
    filelock = require("filelock", "Encoding files")
    digest = digest_of(address)
    place = Path(tempfile.gettempdir()) / f"stcompile-artifact-{os.getuid()}-{digest[:32]}"
    with reached(address), written(place), filelock.FileLock(f"{place}.lock"):
        if not place.is_dir():
            partial = Path(tempfile.mkdtemp(prefix=f"{place.name}.partial-", dir=place.parent))
            fs.get(path.rstrip("/") + "/", f"{partial}/", recursive=True)
            partial.rename(place)
    return place
