"""Nothing as large as the result is held beside it: with equal texts, packed bits, and ranges of all rows."""

from __future__ import annotations

import errno
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from stcompile.errors import InputError, StcompileError
from stcompile.runtime import waiting
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


def _encoded(route: Any, texts: list[str], options: EncodeOptions, bar: _Bar) -> Vectors:
    found: Vectors = _embeddings([_Part(route, texts, None)], len(texts), options, bar)
    return found


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
        # The float32 rows wait for their ranges in a file.
        ("int8", _FLOATS // 4),
        ("uint8", _FLOATS // 4),
    ],
)
def test_equal_texts_and_precisions_hold_the_result_once(
    precision: Precision, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sentence_transformers.util import quantize_embeddings

    monkeypatch.setattr(waiting, "HELD", 1 << 20)
    texts = [str(number) for number in range(_COUNT - 2)]
    texts = [*texts, texts[5], texts[0]]
    route: Any = _Route()
    bar = _Bar()
    found, peak = _peak(lambda: _encoded(route, [*texts], EncodeOptions(precision=precision), bar))
    assert peak < limit + _OVERHEAD
    assert bar.total == _COUNT
    rows = np.stack([_vector(text) for text in texts])
    expected = rows if precision == "float32" else quantize_embeddings(rows, precision)
    assert found.dtype == expected.dtype
    # A float32 on the edge of a level may fall on its other side.
    assert np.abs(found.astype(np.float32) - expected.astype(np.float32)).max() <= (precision in ("int8", "uint8"))


@pytest.mark.parametrize("precision", ["int8", "uint8", "binary", "ubinary"])
def test_of_no_text_there_is_an_empty_result(precision: Precision) -> None:
    width = _DIM // 8 if "binary" in precision else _DIM
    route: Any = _Route()
    found = _encoded(route, [], EncodeOptions(precision=precision), _Bar())
    assert (found.shape, str(found.dtype)) == (
        (0, width),
        precision.replace("ubinary", "uint8").replace("binary", "int8"),
    )


@pytest.mark.parametrize("held", [1 << 20, 64 << 20])
def test_8_bits_are_the_same_in_memory_and_in_a_file(held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from sentence_transformers.util import quantize_embeddings

    monkeypatch.setattr(waiting, "HELD", held)
    texts = [str(number % 5000) for number in range(_COUNT)]
    route: Any = _Route()
    options = EncodeOptions(precision="uint8", truncate_dim=100, normalize_embeddings=True)
    found = _encoded(route, [*texts], options, _Bar())
    rows = np.stack([_vector(text)[:100] for text in texts])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    expected = quantize_embeddings(rows, "uint8")
    apart = np.abs(found.astype(np.int16) - expected.astype(np.int16))
    assert apart.max() <= 1
    assert (apart > 0).mean() < 1e-4


def test_a_temporary_folder_that_is_full_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "HELD", 1 << 20)
    monkeypatch.setattr(tempfile, "TemporaryFile", _Full)
    route: Any = _Route()
    with pytest.raises(StcompileError, match=r"no space left in the temporary folder .* TMPDIR"):
        _encoded(route, [str(number) for number in range(_COUNT)], EncodeOptions(precision="int8"), _Bar())


class _Full(BytesIO):
    def __init__(self, **_: object) -> None:
        super().__init__()

    def write(self, _: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_of_one_text_there_are_no_ranges_before_anything_is_computed() -> None:
    bar = _Bar()
    route: Any = _Route()
    with pytest.raises(InputError, match="needs at least two"):
        _encoded(route, ["1"], EncodeOptions(precision="int8"), bar)
    assert bar.total == 0


def test_ranges_are_those_of_texts_and_images_together(monkeypatch: pytest.MonkeyPatch) -> None:
    from sentence_transformers.util import quantize_embeddings

    monkeypatch.setattr(waiting, "HELD", 1 << 20)
    route: Any = _Route()
    parts = [_Part(route, ["1", "2", "1"], [4, 0, 2]), _Part(route, ["7", "8"], [1, 3])]
    found = _embeddings(parts, 5, EncodeOptions(precision="uint8"), _Bar())
    expected = quantize_embeddings(np.stack([_vector(text) for text in ("2", "7", "1", "8", "1")]), "uint8")
    assert np.abs(found.astype(np.int16) - expected.astype(np.int16)).max() <= 1
