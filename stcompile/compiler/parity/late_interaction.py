"""Parity of multi-vector encoders: every vector of a text, and whether texts rank others alike by MaxSim."""

from __future__ import annotations

import dataclasses

import numpy as np

from stcompile.artifact.target import Target, Tolerance
from stcompile.compiler.metrics import NEIGHBOURS, Matrix
from stcompile.runtime.late_interaction import maxsim

# By the precision of a target, of a text's worst token: what pooling averages away shows here. Measured on tiny
# networks of random weights, which lose more than trained ones: error 1.3e-6 (fp32), min cosine from fp16 on 0.99998,
# 0.9996, 0.9893 (int8, of any scheme) and 0.638 (int4), mean cosine 0.99999, 0.99986, 0.9969 and 0.8615.
_TOLERANCES = {
    "fp32": Tolerance(max_abs_error=2e-6, min_cosine=0.999999, mean_cosine=0.999999, batch_invariance=0.999999),
    "fp16": Tolerance(max_abs_error=None, min_cosine=0.9999, mean_cosine=0.99995, batch_invariance=0.99999),
    "bf16": Tolerance(max_abs_error=None, min_cosine=0.999, mean_cosine=0.9996, batch_invariance=0.9999),
    "int8": Tolerance(max_abs_error=None, min_cosine=0.96, mean_cosine=0.99, batch_invariance=0.99999),
    "int4": Tolerance(max_abs_error=None, min_cosine=0.5, mean_cosine=0.8, batch_invariance=0.9999),
}

# Smallest cosine of a token's vector by kernels with that by the standard operators in their place. Measured on those:
# 1, 0.99966 and 0.9982.
AGREEMENT = {"onnx-fp32": 0.999999, "onnx-bf16": 0.999, "onnx-int8": 0.98}

# Texts that are ranked: every one against every other.
_MOST_TEXTS = 128


def token_tolerance(target: Target, min_cosine: float | None) -> Tolerance:
    """How far vectors of tokens may be from the reference's; the caller's least cosine in place of the target's."""
    found = _TOLERANCES[target.precision]
    if not target.batch_invariant:
        found = dataclasses.replace(found, batch_invariance=None)
    return found.accepting(min_cosine)


def rank_overlap(reference: Matrix, found: Matrix, count: int = NEIGHBOURS) -> float:
    """Mean share of each text's `count` best of the others, by MaxSim, that both sets of vectors agree on.

    Args:
        reference: of each text float32 `(tokens, dim)`.
        found: the same.
        count: how many of the best.
    """
    step = max(1, len(reference) // _MOST_TEXTS)
    left, right = list(reference[::step]), list(found[::step])
    count = min(count, len(left) - 1)
    if count < 1:
        return 1.0
    best = [_best(maxsim(side, side), count) for side in (left, right)]
    shared = sum(len({*one.tolist()} & {*other.tolist()}) for one, other in zip(*best, strict=True))
    return shared / (len(left) * count)


def _best(scores: Matrix, count: int) -> Matrix:
    np.fill_diagonal(scores, -np.inf)
    order: Matrix = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    return order
