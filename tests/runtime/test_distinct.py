"""Equal texts are computed once, and everyone gets a vector."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import stcompile
from stcompile.runtime.distinct import Distinct
from stcompile.runtime.text.base import Feeds
from tests.conftest import Compiled, load_case


def test_all_different_is_left_as_it_is() -> None:
    texts: list[Any] = ["b", "a", ("a", "b"), ("b", "a")]
    found = Distinct.of(texts)
    assert found.texts is texts
    assert found.places is None
    result = np.zeros((4, 1))
    assert found.write([0, 2], np.array([[1], [2]]), result) == 2
    assert result.tolist() == [[1], [0], [2], [0]]


def test_equal_ones_are_once_and_are_written_to_every_place() -> None:
    found = Distinct.of(["b", "a", "b", ("a", "b"), "b", ("a", "b")])
    assert found.texts == ["b", "a", ("a", "b")]
    result = np.zeros((6, 1))
    assert found.write([0], np.array([[1]]), result) == 3
    assert found.write([2, 1], np.array([[3], [2]]), result) == 3
    assert result[:, 0].tolist() == [1, 2, 1, 3, 1, 3]


@pytest.fixture(scope="module")
def encoder(compiled: Compiled) -> stcompile.Encoder:
    outputs = ("sentence_embedding", "token_embeddings")
    return stcompile.Encoder.load(compiled("postprocessing", outputs=outputs), threads=1)


def test_each_runs_once_and_every_text_has_its_vector(
    encoder: stcompile.Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = load_case("postprocessing").texts[:6]
    expected = load_case("postprocessing").expected()[:6]
    route = encoder._routes[""]
    ran: list[int] = []
    infer = route.infer

    def counted(feeds: Feeds, outputs: tuple[str, ...]) -> list[npt.NDArray[np.float32]]:
        ran.append(len(feeds["input_ids"]))
        return infer(feeds, outputs)

    monkeypatch.setattr(route, "infer", counted)
    found = encoder.encode([*texts, *texts[::-1], texts[0]])
    assert sum(ran) == len(texts)
    np.testing.assert_allclose(found, [*expected, *expected[::-1], expected[0]], atol=1e-6)


def test_token_rows_of_equal_texts_are_not_the_same_memory(encoder: stcompile.Encoder) -> None:
    first, second = encoder.encode(["hello world", "hello world"], output_value="token_embeddings")
    assert np.array_equal(first, second)
    first[:] = 0
    assert second.any()


def test_the_bar_counts_texts_and_not_runs(encoder: stcompile.Encoder, capsys: pytest.CaptureFixture[str]) -> None:
    encoder.encode(["a", "b", "a", "a"], show_progress_bar=True)
    assert "4/4" in capsys.readouterr().err
