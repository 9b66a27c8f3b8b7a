"""Which options, and which files, are of which kind of encoder: for whoever takes those of all kinds in one call."""

from __future__ import annotations

from collections.abc import Mapping

from stcompile.artifact.manifest import ENCODER, HYBRID, MULTI_VECTOR, SPARSE
from stcompile.errors import InputError
from stcompile.runtime.loaded import ARTICLES

# Options by their names in Python, and formats by the ends of their files.
TAKEN: Mapping[str, tuple[str, ...]] = {
    ENCODER: ("precision", "normalize_embeddings", "truncate_dim", ".npy"),
    SPARSE: ("max_active_dims", "token_weights", ".npz"),
    MULTI_VECTOR: ("normalize_embeddings", ".npz"),
    HYBRID: ("outputs", "token_weights", ".npz"),
}

_REMEDIES = {HYBRID: ", or ask for dense vectors alone (--outputs dense)"}
_FORMATS = (".npy", ".npz")


def check_of_kind(kind: str, asked: Mapping[str, str]) -> None:
    """Whether all that was asked for is of a kind of artifact.

    Args:
        kind: of the artifact; a hybrid encoder that makes dense vectors alone is an `encoder`.
        asked: options and formats that differ from their defaults, as `TAKEN` has them, to what the caller calls them.

    Raises:
        InputError: some are of other kinds; names each with those that it is of.
    """
    wrong = {name: called for name, called in asked.items() if name not in TAKEN[kind]}
    if not wrong:
        return
    said = [f"{called} is of {_kinds_with(name)}" for name, called in wrong.items()]
    remedy = "write JSONL" if wrong.keys() <= {*_FORMATS} else "leave it out" if len(wrong) == 1 else "leave them out"
    raise InputError(
        f"this artifact is {ARTICLES[kind]} {kind}, and {', '.join(said)}: {remedy}{_REMEDIES.get(kind, '')}"
    )


def _kinds_with(name: str) -> str:
    return " or ".join(f"{ARTICLES[kind]} {kind}" for kind, taken in TAKEN.items() if name in taken)
