"""What an adapter is given as an artifact: its folder, or what was loaded of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stcompile.artifact.manifest import ENCODER, HYBRID, RERANKER
from stcompile.errors import InputError
from stcompile.runtime.loaded import ARTICLES, Loaded
from stcompile.runtime.loading import load

DENSE = (ENCODER, HYBRID)
SCORES = (RERANKER,)


def opened(artifact: Any, kinds: tuple[str, ...], **options: Any) -> Any:
    """The artifact, loaded.

    Args:
        artifact: its folder, or what `stcompile.load` gave.
        kinds: what it may be.
        options: as of `stcompile.load`, where it is a folder.

    Raises:
        InputError: it is of another kind.
        ArtifactError, ProviderError, MissingExtraError: as `stcompile.load`.
    """
    found = load(artifact, **options) if isinstance(artifact, (str, Path)) else artifact
    if not isinstance(found, Loaded) or found.kind not in kinds:
        kind = found.kind if isinstance(found, Loaded) else type(found).__name__
        wanted = " or ".join(f"{ARTICLES[name]} {name}" for name in kinds)
        raise InputError(f"this takes {wanted}, and got {ARTICLES.get(kind, 'a')} {kind}")
    return found
