"""Which vectors compare with which: the fingerprint of an artifact's vector space."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from stcompile.artifact.fields import Dim, Rule, one_of
from stcompile.errors import ArtifactError, InputError

_PART = re.compile(r"[0-9a-f]{8}")

# Eight hexadecimal digits: they tell models apart by accident, not by intent; `files[].sha256` do that.
Part = Annotated[str, Rule("8 hexadecimal digits", lambda value: _PART.fullmatch(value) is not None)]

# As `Target.precision` has them.
_PRECISIONS = ("fp32", "fp16", "bf16", "int8", "int4", "adopted")

# What stands for any part of a fingerprint that is expected.
ANY: Final = "*"


@dataclass(frozen=True)
class VectorSpace:
    """What two artifacts have in common where the vectors of one compare with those of the other.

    Attributes:
        weights: of the network's weights, whatever number type, order and names they were stored in.
        modules: of what is made of the network's output (pooling, projections, normalization), and which task takes
            which route.
        tokens: of the token ids that fixed texts become, and of the longest text.
        prompts: of the prompts by name, and which is the default.
        dim: width of a vector by default.
        precision: what its numbers were rounded to when it was compiled.
    """

    weights: Part
    modules: Part
    tokens: Part
    prompts: Part
    dim: Dim
    precision: Annotated[str, one_of(*_PRECISIONS)]

    @property
    def fingerprint(self) -> str:
        """All of it on one line, e.g. `1f0c9a3e.77b0d1c2.90ab12cd.44136fa3.384.int8`."""
        return ".".join(map(str, dataclasses.astuple(self)))


# What it means that a part is another one, in the order of the parts.
_DIFFERENCES = (
    "its network has other weights",
    "other modules follow its network (pooling, projections, normalization, routes)",
    "texts become other tokens",
    "its prompts are others",
    "its vectors have {found} dimensions, not {expected}",
    "it was compiled to {found}, not {expected}",
)


def check_space(space: VectorSpace | None, expected: str, folder: Path) -> None:
    """Whether an artifact's vectors compare with those of the artifact whose fingerprint is expected.

    Args:
        space: the artifact's.
        expected: a fingerprint; `*` in the place of a part takes any.
        folder: what to call the artifact.

    Raises:
        InputError: it is no fingerprint.
        ArtifactError: it differs; says in what.
    """
    wanted = expected.split(".") if isinstance(expected, str) else []
    if len(wanted) != len(_DIFFERENCES):
        raise InputError(
            f"a fingerprint has {len(_DIFFERENCES)} parts, as stcompile inspect and Encoder.fingerprint give it, got "
            f"{expected!r}"
        )
    if space is None:
        raise ArtifactError(
            f"{folder} has no fingerprint, it was exported before there were any: export its model again"
        )
    found = space.fingerprint.split(".")
    told = [
        sentence.format(found=one, expected=other)
        for sentence, one, other in zip(_DIFFERENCES, found, wanted, strict=True)
        if other not in (one, ANY)
    ]
    if told:
        raise ArtifactError(
            f"vectors of {folder} do not compare with those of {expected}: {'; '.join(told)}. Encode everything with "
            f"one of the two, or put {ANY} in the place of a part that may differ"
        )
