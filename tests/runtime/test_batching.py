"""Which texts run together: every one once, nothing larger than allowed, longest first."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stcompile.runtime import batching
from stcompile.runtime.batching import Limits

_LENGTHS = st.lists(st.integers(1, 300), max_size=200)
_LIMITS = st.builds(Limits, st.none() | st.integers(1, 40), st.none() | st.integers(1, 600))


@given(_LENGTHS, _LIMITS, st.booleans())
def test_padded_batches_hold_every_text_once_and_no_more_than_allowed(
    lengths: list[int], limits: Limits, same_length_only: bool
) -> None:
    def width_of(length: int) -> int:
        return max(8, -(-length // 16) * 16)

    batches = list(batching.by_length(lengths, width_of, limits, same_length_only=same_length_only))
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    for batch in batches:
        _assert_within(len(batch), len(batch) * width_of(max(lengths[place] for place in batch)), limits)
        assert not same_length_only or len({lengths[place] for place in batch}) == 1
    widths = [max(lengths[place] for place in batch) for batch in batches]
    assert widths == sorted(widths, reverse=True)


@given(_LENGTHS, _LIMITS)
def test_flat_batches_keep_the_order(lengths: list[int], limits: Limits) -> None:
    batches = list(batching.by_tokens(lengths, limits))
    assert [place for batch in batches for place in batch] == list(range(len(lengths)))
    for batch in batches:
        _assert_within(len(batch), sum(lengths[place] for place in batch), limits)


def _assert_within(texts: int, tokens: int, limits: Limits) -> None:
    assert texts >= 1
    if texts > 1:  # a text by itself always may run
        assert limits.texts is None or texts <= limits.texts
        assert limits.tokens is None or tokens <= limits.tokens


@pytest.mark.parametrize(
    ("limits", "width", "texts"),
    [
        (Limits(32, None), 1000, 32),
        (Limits(None, 512), 100, 5),
        (Limits(3, 512), 100, 3),
        (Limits(None, 512), 513, 1),
        (Limits(None, 512), 0, 512),
    ],
)
def test_texts_of_a_width(limits: Limits, width: int, texts: int) -> None:
    assert limits.texts_of(width) == texts


def test_small_batches_are_filled() -> None:
    assert [len(batch) for batch in batching.by_length([10] * 100, abs, Limits(None, 300))] == [30, 30, 30, 10]


@pytest.mark.parametrize("count", [0, 1, batching.WINDOW, batching.WINDOW + 1])
def test_windows_cover_everything_once(count: int) -> None:
    found = [index for window in batching.windows(count) for index in window]
    assert found == list(range(count))
