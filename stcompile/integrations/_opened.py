"""What an adapter is given as an artifact: its folder, or what was loaded of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stcompile.artifact.manifest import ENCODER, HYBRID, RERANKER
from stcompile.errors import InputError
from stcompile.runtime.loaded import ARTICLES, Loaded
from stcompile.runtime.loading import load
from stcompile.runtime.reranker import Reranker

DENSE = (ENCODER, HYBRID)
SCORES = (RERANKER,)


def opened(artifact: Any, kinds: tuple[str, ...], fingerprint: str | None = None, **options: Any) -> Any:
    """The artifact, loaded.

    Args:
        artifact: its folder, or what `stcompile.load` gave.
        kinds: what it may be.
        fingerprint: that a framework kept with its folder; another artifact there is refused.
        options: as of `stcompile.load`, where it is a folder.

    Raises:
        InputError: it is of another kind, or a reranker that gives a pair several scores, none of which ranks; or
            options are given of what is loaded already.
        ArtifactError, ProviderError, MissingExtraError: as `stcompile.load`.
    """
    if fingerprint is not None:
        options["expect_fingerprint"] = fingerprint
    if isinstance(artifact, Loaded) and options:
        raise InputError(f"{', '.join(options)} cannot change what is loaded: pass the folder, or tell stcompile.load")
    found = load(artifact, **options) if isinstance(artifact, (str, Path)) else artifact
    if not isinstance(found, Loaded) or found.kind not in kinds:
        kind = found.kind if isinstance(found, Loaded) else type(found).__name__
        wanted = " or ".join(f"{ARTICLES[name]} {name}" for name in kinds)
        raise InputError(f"this takes {wanted}, and got {ARTICLES.get(kind, 'a')} {kind}")
    if isinstance(found, Reranker) and found.num_labels != 1:
        raise InputError(f"this ranks by one score a pair, and the reranker gives {found.num_labels}")
    return found


def named(artifact: Any) -> str:
    """What a framework keeps of an artifact where it saves what it has: its folder, or name on the hub, as text."""
    return str(artifact.artifact.folder if isinstance(artifact, Loaded) else artifact)
