"""Fingerprints of vector spaces: what they tell apart, and what is said of one that is not the expected one."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from stcompile.artifact.space import VectorSpace, check_space
from stcompile.errors import ArtifactError, InputError

SPACE = VectorSpace("00000001", "00000002", "00000003", "00000004", 384, "int8")
FINGERPRINT = "00000001.00000002.00000003.00000004.384.int8"
FOLDER = Path("artifact")

OTHERS: dict[str, tuple[Any, str]] = {
    "weights": ("ffffffff", "its network has other weights"),
    "modules": ("ffffffff", "other modules follow its network"),
    "tokens": ("ffffffff", "texts become other tokens"),
    "prompts": ("ffffffff", "its prompts are others"),
    "dim": (256, "its vectors have 256 dimensions, not 384"),
    "precision": ("fp32", "it was compiled to fp32, not int8"),
}


def test_a_fingerprint_is_its_parts_on_one_line() -> None:
    assert SPACE.fingerprint == FINGERPRINT
    check_space(SPACE, FINGERPRINT, FOLDER)


def test_every_part_is_named_where_it_differs() -> None:
    assert OTHERS.keys() == {field.name for field in dataclasses.fields(VectorSpace)}


@pytest.mark.parametrize("part", OTHERS)
def test_what_differs_is_said_and_may_be_allowed(part: str) -> None:
    value, sentence = OTHERS[part]
    other = dataclasses.replace(SPACE, **{part: value})
    with pytest.raises(ArtifactError, match=sentence) as caught:
        check_space(other, FINGERPRINT, FOLDER)
    assert sum(said.split("{")[0] in str(caught.value) for _, said in OTHERS.values()) == 1
    place = [*OTHERS].index(part)
    allowed = [*FINGERPRINT.split(".")[:place], "*", *FINGERPRINT.split(".")[place + 1 :]]
    check_space(other, ".".join(allowed), FOLDER)


def test_all_differences_are_said_at_once() -> None:
    other = dataclasses.replace(SPACE, **{part: value for part, (value, _) in OTHERS.items()})
    with pytest.raises(ArtifactError) as caught:
        check_space(other, FINGERPRINT, FOLDER)
    assert all(sentence in str(caught.value) for _, sentence in OTHERS.values())


@pytest.mark.parametrize("expected", ["", "minilm", FINGERPRINT + ".", FINGERPRINT[:-5], 5])
def test_what_is_no_fingerprint_is_refused(expected: Any) -> None:
    with pytest.raises(InputError, match="a fingerprint has 6 parts"):
        check_space(SPACE, expected, FOLDER)


def test_an_artifact_without_a_fingerprint_is_refused() -> None:
    with pytest.raises(ArtifactError, match=r"has no fingerprint.*export its model again"):
        check_space(None, FINGERPRINT, FOLDER)
