"""The table of recipes holds together, its measures can fail, and the page has every row, one that failed too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.peers import adapters
from benchmarks.peers.adapters.batches import BATCH_SIZE, feeds_of
from benchmarks.peers.contenders import SOURCE, Prepared
from benchmarks.peers.environments import ENVIRONMENTS
from benchmarks.peers.preparation import Ready
from benchmarks.peers.processes import reason
from benchmarks.recipes import making, measures, page
from benchmarks.recipes.making import Cost, Made
from benchmarks.recipes.measures import Judge, Judged
from benchmarks.recipes.table import BASES, COMPILER, KINDS, OURS, RECIPES, REFERENCE
from stcompile.artifact.target import TARGETS

ADAPTERS = {file.stem for file in Path(adapters.__path__[0]).glob("*.py")}


@pytest.mark.parametrize("name", RECIPES)
def test_what_a_recipe_names_is_there(name: str) -> None:
    recipe = RECIPES[name]
    assert recipe.kind in KINDS
    assert recipe.environment in ENVIRONMENTS
    assert recipe.adapter in ADAPTERS
    assert (recipe.library == OURS) == bool(recipe.target)
    if recipe.target:
        assert recipe.target in TARGETS
    if recipe.maker is not None:
        assert recipe.maker.environment in {*ENVIRONMENTS, COMPILER}
        assert recipe.maker.adapter in ADAPTERS
        assert recipe.maker.of in {SOURCE, *BASES}


def test_no_two_recipes_are_one() -> None:
    assert len({repr(recipe) for recipe in RECIPES.values()}) == len(RECIPES)
    assert RECIPES[REFERENCE].maker is None


def test_a_name_of_what_is_made_changes_with_what_makes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = making.who("st-onnx", "optimum_files")
    assert before == making.who("st-onnx", "optimum_files") != making.who("st-onnx", "nncf_quantizer")
    monkeypatch.setitem(ENVIRONMENTS, "st-onnx", ENVIRONMENTS["st-openvino"])
    assert making.who("st-onnx", "optimum_files") != before


def test_steps_add_up_but_for_their_memory() -> None:
    assert Cost(1, 2, 30).then(Cost(4, 5, 20)) == Cost(5, 7, 30)


def test_feeds_are_padded_to_the_longest() -> None:
    feeds = feeds_of([[7, 8, 9], [5]])
    assert feeds["input_ids"].tolist() == [[7, 8, 9], [5, 0, 0]]
    assert feeds["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert {str(array.dtype) for array in feeds.values()} == {"int64"}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("a warning\nTraceback (most recent call last):\n  File x\nValueError: first\nsecond\n", "ValueError: first"),
        ("no traceback\nKilled\n", "Killed"),
        ("", "no message"),
    ],
)
def test_the_reason_of_a_failure_is_the_first_line_of_its_error(said: str, expected: str) -> None:
    assert reason(said) == expected


class Engine:
    """In a process's place: vectors of the length of a text, and, where it is told to, of its batch's longest."""

    def __init__(self, *, ties: bool) -> None:
        self.ties = ties
        self.asked = 0

    def ask(self, do: str, file: Path, *, save: str, together: int = 0) -> None:
        self.asked += 1
        texts = json.loads(file.read_text(encoding="utf-8"))
        size = together or len(texts)
        found = []
        for start in range(0, len(texts), size):
            batch = texts[start : start + size]
            longest = max(map(len, batch)) if self.ties else 1
            found += [[len(text), longest] for text in batch]
        np.save(save, np.array(found, dtype=np.float32))

    def close(self) -> None:
        pass


@pytest.fixture(params=[False, True], ids=["own", "tied"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Engine:
    made = Engine(ties=request.param)
    monkeypatch.setattr(measures, "Process", lambda *_: made)
    return made


def test_a_vector_that_depends_on_its_batch_is_noticed_and_measured_once(engine: Engine, tmp_path: Path) -> None:
    texts = ["a" * (1 + place % 7) for place in range(2 * BATCH_SIZE)]
    judge = Judge(Judged(texts[:5], texts, None), tmp_path)
    ready, made = Ready(Path("python"), {"adapter": "", "model": "", "options": {}}), Made(tmp_path, Cost(), "key")
    expected = np.array([[len(text), 1] for text in texts[:5]], dtype=np.float32)
    found = judge.of(REFERENCE, ready, made, expected)
    assert (found["min_invariance"] < page.INVARIANT) == engine.ties
    assert (found["min_cosine"] < 0.9999999) == engine.ties
    before = engine.asked
    assert judge.of(REFERENCE, ready, made, expected) == found
    assert engine.asked == before
    assert judge.of(REFERENCE, ready, made, -expected)["mean_cosine"] < 0


def _row(who: str, **found: Any) -> dict[str, Any]:
    recipe = RECIPES[who]
    return {"who": who, "kind": recipe.kind, "library": recipe.library, "call": recipe.call, **found}


def test_the_page_says_what_is_bad_and_what_did_not_work() -> None:
    good = {"mean_cosine": 0.999, "min_cosine": 0.99, "mean_invariance": 1.0, "min_invariance": 1.0, "ndcg": 64.0}
    bad = {**good, "min_cosine": 0.5, "min_invariance": 0.9, "ndcg": 32.0}
    rows = [
        _row(REFERENCE, megabytes=90.9, **good),
        _row("stcompile onnx-int8", megabytes=23.4, cpu_seconds=60.0, wall_seconds=60.0, peak_mb=900, **good),
        _row("onnxruntime dynamic", megabytes=23.0, cpu_seconds=9.0, wall_seconds=9.0, peak_mb=900, **bad),
        _row("torchao dynamic", failed="it could not be made: ValueError: no | way"),
    ]
    settings = {"sentences": 4, "mates": 4, "queries": 3, "documents": 9, "calibration_texts": 2, "model": "MiniLM"}
    text = page.written({"rows": rows, "speed": None}, settings, {"cpu": "some CPU", "cpu_flags": []})
    (line,) = [line for line in text.splitlines() if line.startswith("| torchao dynamic | not here")]
    assert "no \\| way" in line
    assert all(f"| {page._name(row)} |" in text for row in rows)
    for said in ("another vector", "further from torch", "search keeps"):
        (line,) = [line for line in text.splitlines() if line.startswith("- ") and said in line]
        assert "onnxruntime dynamic" in line
        assert "onnx-int8" not in line
    assert "nearest to torch is **stcompile onnx-int8**" in text


def test_prepared_options_are_what_json_carries() -> None:
    for prepared in (*BASES.values(), *(item.maker for item in RECIPES.values() if item.maker is not None)):
        assert isinstance(prepared, Prepared)
        assert json.loads(json.dumps(dict(prepared.options), default=dict)) == dict(prepared.options)
