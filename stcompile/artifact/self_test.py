"""`self_test.json`: what the reference makes of a few inputs, to check on any machine that an artifact still does."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from stcompile.artifact.fields import Count, Real, Rule, built, canonical, read_json
from stcompile.artifact.folder import Artifact, read_text
from stcompile.errors import ArtifactError

SELF_TEST_NAME: Final = "self_test.json"

_MOST = 2

Inputs = Annotated[tuple[str, ...], Rule("a text or two", lambda value: 1 <= len(value) <= _MOST)]


@dataclass(frozen=True)
class Golden:
    """One input and what the reference makes of it.

    Attributes:
        inputs: a text, both texts of a pair, or a picture as a `data:` address.
        task: as of `encode`.
        values: the vector; of several vectors one behind the other; of a pair its logits.
        places: of a sparse vector where those stand; None of all others.
    """

    inputs: Inputs
    task: str | None
    values: tuple[Real, ...]
    places: tuple[Count, ...] | None = None


@dataclass(frozen=True)
class SelfTest:
    """Inputs that were judged when the artifact was exported, none of them a user's.

    Attributes:
        reference: who says what is right, as the parity report has it.
        min_cosine: the least cosine of what an input becomes with what it should: what was allowed at export, or of
            scores what was reached.
        golden: the inputs.
    """

    reference: str
    min_cosine: Real
    golden: tuple[Golden, ...]


def write_self_test(folder: Path, test: SelfTest) -> None:
    """Writes it into an artifact that is being made."""
    # A number a line would be most of the file.
    (folder / SELF_TEST_NAME).write_bytes(canonical(dataclasses.asdict(test)))


def read_self_test(artifact: Artifact) -> SelfTest:
    """That of an opened artifact.

    Raises:
        ArtifactError: it has none, because it is of schema 8 or older, or it is malformed.
    """
    if SELF_TEST_NAME not in {entry.path for entry in artifact.manifest.files}:
        raise ArtifactError(
            f"{artifact.folder} has no {SELF_TEST_NAME}, it was exported before there was one: export its model again, "
            "or check it with stcompile verify"
        )
    body: Any = read_json(read_text(artifact.folder / SELF_TEST_NAME), SELF_TEST_NAME)
    found = built(SelfTest, body, SELF_TEST_NAME)
    for item in found.golden:
        if item.places is not None and len(item.places) != len(item.values):
            raise ArtifactError(f"{SELF_TEST_NAME} is malformed (values without a place): export the model again")
    return found
