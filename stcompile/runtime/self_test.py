"""Whether an artifact makes on this machine what it was proved to make where it was exported."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcompile.artifact.manifest import MULTI_VECTOR, RERANKER, SPARSE
from stcompile.artifact.self_test import SELF_TEST_NAME, Golden, SelfTest, read_self_test
from stcompile.errors import ArtifactError, ParityError
from stcompile.runtime.answers import answered
from stcompile.runtime.loaded import Loaded
from stcompile.runtime.multi_vector_encoder import MultiVectorEncoder

Numbers = NDArray[np.float64]

_SHOWN = 60


def check_self_test(loaded: Loaded) -> float:
    """Encodes the artifact's golden inputs one by one, and compares with what the reference made of them.

    What is read of them is what `encode` reads, on the device and by the kernels that the caller's own inputs get.
    Pictures are left out where Pillow, which reads them, is not installed.

    Returns:
        the least cosine.

    Raises:
        ParityError: an input is further from the reference than the artifact was published within.
        ArtifactError: the artifact has no golden inputs, because it is of schema 8 or older, or they do not fit it.
    """
    test = read_self_test(loaded.artifact)
    with _whole(loaded) as whole:
        cosines = [pair for golden in _groups(test) for pair in _compared(whole, golden)]
    if not cosines:
        return 1.0
    inputs, worst = min(cosines, key=lambda pair: pair[1])
    if worst < test.min_cosine:
        shown = " | ".join(inputs)
        raise ParityError(
            f"{loaded.artifact.folder} failed its self-test on this machine: of {len(cosines)} inputs "
            f"{sum(cosine < test.min_cosine for _, cosine in cosines)} are further from {test.reference} than the "
            f"artifact was published within (cosine {worst:.6f}, at least {test.min_cosine:g} is right; worst: "
            f"{shown if len(shown) <= _SHOWN else shown[: _SHOWN - 1] + '…'!r}; kernels: {loaded.kernels or 'none'}). "
            "Please report it with what stcompile doctor prints, and use the artifact elsewhere"
        )
    return worst


@contextmanager
def _whole(loaded: Loaded) -> Iterator[Loaded]:
    """The artifact with all vectors of a text, as they were judged: of a multi-vector encoder opened once more."""
    if not isinstance(loaded, MultiVectorEncoder):
        yield loaded
        return
    with MultiVectorEncoder(loaded.artifact, device=str(loaded.device), threads=loaded.threads) as other:
        other.keep_all()
        yield other


def _groups(test: SelfTest) -> Iterator[list[Golden]]:
    """What goes through one call: inputs of one task, pictures apart."""
    reads = find_spec("PIL") is not None
    for (is_picture, _), items in groupby(test.golden, key=lambda item: (_is_picture(item), item.task)):
        if reads or not is_picture:
            yield list(items)


def _is_picture(item: Golden) -> bool:
    return item.inputs[0].startswith("data:image/")


def _compared(loaded: Loaded, golden: Sequence[Golden]) -> list[tuple[tuple[str, ...], float]]:
    """Each input with the cosine of what it becomes and what it should; of scores one, about their mean."""
    kind, first = loaded.kind, golden[0]
    texts = [item.inputs if len(item.inputs) > 1 else item.inputs[0] for item in golden]
    options: dict[str, Any] = {"batch_size": 1}
    if kind == RERANKER:
        options |= {"activation_fn": "identity"}
    else:
        options |= {"task": first.task}
    if not _is_picture(first):
        options |= {"prompt": ""}
    if kind == SPARSE:
        options |= {"max_active_dims": loaded.artifact.manifest.dim}
    elif kind not in (RERANKER, MULTI_VECTOR):
        options |= {"truncate_dim": len(first.values)}
    made = answered(loaded, texts, options)
    if kind == SPARSE:
        made = made.toarray()
    known = [_known(item, np.shape(row), kind) for item, row in zip(golden, made, strict=True)]
    found = [np.asarray(row, np.float64).reshape(rows.shape) for row, rows in zip(made, known, strict=True)]
    if kind == RERANKER:
        return [(first.inputs, cosine_of_scores(np.concatenate(known), np.concatenate(found)))]
    return [(item.inputs, _cosine(*rows)) for item, *rows in zip(golden, known, found, strict=True)]


def cosine_of_scores(known: NDArray[Any], found: NDArray[Any]) -> float:
    """The cosine of scores `(n, labels)` about the mean that is known of each label, so that an offset counts, too."""
    mean = known.mean(axis=0)
    sides = [(np.asarray(rows, np.float64) - mean).reshape(1, -1) for rows in (known, found)]
    return _cosine(*sides)


def _known(item: Golden, shape: tuple[int, ...], kind: str) -> Numbers:
    """What the reference made of an input, in rows as wide as the artifact's."""
    values = np.array(item.values, np.float64)
    if kind == SPARSE and item.places is not None and max(item.places, default=0) < shape[0]:
        full = np.zeros((1, shape[0]))
        full[0, list(item.places)] = values
        return full
    if kind == SPARSE or values.size != np.prod(shape):
        raise ArtifactError(
            f"{SELF_TEST_NAME} has {values.size} numbers where the artifact makes {np.prod(shape):.0f}: export the "
            "model again"
        )
    return values.reshape(-1, shape[-1]) if len(shape) > 1 else values.reshape(1, -1)


def _cosine(known: Numbers, found: Numbers) -> float:
    """The least of any row: 1 where both are zero, -1 where a number is none."""
    if not np.isfinite(found).all():
        return -1.0
    lengths = np.linalg.norm(known, axis=1) * np.linalg.norm(found, axis=1)
    products = (known * found).sum(axis=1)
    both_zero = np.asarray(~known.any(axis=1) & ~found.any(axis=1), np.float64)
    cosines = np.divide(products, lengths, out=both_zero, where=lengths > 0)
    return float(min(cosines, default=1.0))
