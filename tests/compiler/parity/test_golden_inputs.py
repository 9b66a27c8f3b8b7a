"""What of a verdict an artifact carries: the same bytes whatever torch is told, and no number that JSON has not."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from stcompile.compiler.metrics import as_ragged
from stcompile.compiler.parity import golden, plan
from stcompile.compiler.parity.golden import (
    Answered,
    golden_of,
    golden_pairs,
    golden_texts,
    on_one_thread,
    self_test_of,
)
from tests.conftest import Quick, load_case


def test_torch_adds_up_on_one_thread_and_then_on_as_many_as_before() -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with on_one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_what_is_stored_is_asked_for_on_one_thread(quick: Quick, tmp_path: Any, monkeypatch: Any) -> None:
    inside: list[bool] = []

    class Noted:
        def __enter__(self) -> None:
            inside.append(True)

        def __exit__(self, *_: object) -> None:
            inside.append(False)

    monkeypatch.setattr(plan, "on_one_thread", Noted)
    quick("full_stack", "onnx-fp32", tmp_path / "artifact", texts=load_case("full_stack").texts[:3])
    assert inside == [True, False]


def test_what_has_no_number_is_left_out() -> None:
    rows = np.array([[1, 2], [np.nan, 0], [-np.inf, 1]], np.float32)
    found = golden_of([["a"], ["b"], ["c"]], "query", rows)
    assert [(item.inputs, item.task, item.values) for item in found] == [(("a",), "query", (1.0, 2.0))]


def test_a_sparse_vector_is_its_places_and_several_vectors_lie_behind_each_other() -> None:
    (sparse,) = golden_of([["a"]], None, np.array([[0, 0.5, 0, 2]], np.float32), sparse=True)
    assert (sparse.places, sparse.values) == ((1, 3), (0.5, 2.0))
    (several,) = golden_of([["a"]], None, as_ragged([np.array([[1, 2], [3, 4]], np.float32)]))
    assert several.values == (1.0, 2.0, 3.0, 4.0)


def test_what_is_allowed_is_what_was_or_twice_as_far_as_was_reached() -> None:
    class Parity:
        reference = "the reference"

        class tolerance:
            min_cosine = 0.99

    def least(cosine: float) -> float:
        return self_test_of([Answered((), cosine)], Parity()).min_cosine  # type: ignore[arg-type]

    assert (least(1.0), least(0.995), least(0.97)) == (0.99, 0.99, 0.94)


def test_there_are_texts_whatever_a_model_knows() -> None:
    assert golden_texts([]) == list(golden.TEXTS)
    assert golden_texts(["own"])[-1] == "own"
    assert len(set(golden_pairs())) == 8
