"""Parity of sparse vectors: which of their numbers are not zero, beside what cosines say of their values."""

from __future__ import annotations

import dataclasses

import numpy as np

from stcompile.artifact.target import Target, Tolerance
from stcompile.compiler.metrics import Matrix

# Numbers that are the difference of larger ones are rounded in proportion to those.
_ROUNDING = 1e-5

# Smallest mean share of the numbers that are not zero in both vectors, by the precision of a target: a number near zero
# is in one and not in the other. Measured on tiny networks of random weights, half of whose numbers are not zero: 1,
# 0.9995, 0.998, 0.989 and 0.962.
_LEAST = {"fp32": 0.9995, "fp16": 0.995, "bf16": 0.98, "int8": 0.9, "int4": 0.8}


def sparse_tolerance(target: Target, found: Tolerance, min_cosine: float | None) -> Tolerance:
    """How far sparse vectors may be from the reference's.

    Args:
        target: the target.
        found: what is allowed of dense vectors.
        min_cosine: what the caller accepts in place of the target's own; fewer numbers need be the same then, too.
    """
    error = None if found.max_abs_error is None else max(found.max_abs_error, _ROUNDING)
    least = _LEAST[target.precision]
    return dataclasses.replace(
        found, max_abs_error=error, active_overlap=least if min_cosine is None else min(least, min_cosine)
    )


def active_overlap(reference: Matrix, found: Matrix) -> float:
    """Mean over texts of how many numbers are not zero in both vectors, among those that are not in either."""
    ours, theirs = found != 0, reference != 0
    either = (ours | theirs).sum(axis=1)
    return float(np.where(either == 0, 1.0, (ours & theirs).sum(axis=1) / np.maximum(either, 1)).mean())
