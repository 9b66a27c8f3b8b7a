"""Nothing as large as the result is held beside it: with equal texts, packed bits, and ranges of all rows."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from stcompile.runtime import postprocess
from stcompile.runtime.encoder import _embeddings, _Part
from stcompile.runtime.options import EncodeOptions, Precision

_COUNT, _DIM, _BATCH = 8192, 256, 64
_FLOATS = _COUNT * _DIM * 4

# Lists, positions and a tile of numbers in between: small beside the 8 MB of all vectors in float32.
_OVERHEAD = 3 << 20

Vectors = npt.NDArray[Any]


class _Route:
    """Vectors of any text, batch by batch, and none kept."""

    dim = _DIM

    def run(self, texts: Sequence[str], *_: object) -> Iterator[tuple[list[int], dict[str, Any], Vectors]]:
        for start in range(0, len(texts), _BATCH):
            rows = list(range(start, min(start + _BATCH, len(texts))))
            yield rows, {}, np.stack([_vector(texts[row]) for row in rows])


class _Bar:
    total = 0

    def update(self, count: int) -> None:
        self.total += count


def _vector(text: str) -> npt.NDArray[np.float32]:
    return np.random.default_rng(int(text)).normal(size=_DIM).astype(np.float32)


def _peak(make: Callable[[], Vectors]) -> tuple[Vectors, int]:
    tracemalloc.start()
    try:
        return make(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("precision", "limit"),
    [
        ("float32", _FLOATS),
        ("binary", _FLOATS // 32),
        ("ubinary", _FLOATS // 32),
        # The float32 rows, for their ranges, and the result.
        ("int8", _FLOATS + _FLOATS // 4),
        ("uint8", _FLOATS + _FLOATS // 4),
    ],
)
def test_equal_texts_and_precisions_hold_the_result_once(precision: Precision, limit: int) -> None:
    from sentence_transformers.util import quantize_embeddings

    texts = [str(number) for number in range(_COUNT - 2)]
    texts = [*texts, texts[5], texts[0]]
    route: Any = _Route()
    bar = _Bar()
    found, peak = _peak(
        lambda: _embeddings([_Part(route, [*texts], None)], _COUNT, EncodeOptions(precision=precision), bar)
    )
    assert peak < limit + _OVERHEAD
    assert bar.total == _COUNT
    rows = np.stack([_vector(text) for text in texts])
    expected = rows if precision == "float32" else quantize_embeddings(rows, precision)
    assert found.dtype == expected.dtype
    # A float32 on the edge of a level may fall on its other side.
    assert np.abs(found.astype(np.float32) - expected.astype(np.float32)).max() <= (precision in ("int8", "uint8"))


@pytest.mark.parametrize("precision", ["int8", "uint8", "binary", "ubinary"])
def test_of_no_text_there_is_an_empty_result(precision: str) -> None:
    width = _DIM // 8 if "binary" in precision else _DIM
    found = postprocess.quantize(np.empty((0, _DIM), dtype=np.float32), precision)
    assert (found.shape, str(found.dtype)) == (
        (0, width),
        precision.replace("ubinary", "uint8").replace("binary", "int8"),
    )
