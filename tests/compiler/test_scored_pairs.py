"""Scored pairs from files, and the rank correlation they are for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from scipy.stats import spearmanr

from stcompile.compiler.metrics import spearman
from stcompile.compiler.scored_pairs import read_scored_pairs
from stcompile.errors import InputError

PAIRS = [("a cat", "two, dogs", 4.5), ("你好\nworld", "", -1.0)]

# Both sum up in float64, in another order.
ROUNDING = 1e-9


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("pairs.csv", 'a cat,"two, dogs",4.5\n"你好\nworld",,-1\n'),
        ("pairs.csv", 'sentence1,sentence2,score\na cat,"two, dogs",4.5\n"你好\nworld",,-1\n'),
        ("pairs.csv", '\ufeffScore, Sentence2 ,id,SENTENCE1\r\n4.5,"two, dogs",7,a cat\r\n-1,,8,"你好\nworld"\r\n'),
        ("pairs.csv", 'a cat,"two, dogs",4.5,more\n\n"你好\nworld",,-1e0\n\n'),
        ("PAIRS.CSV", 'a cat,"two, dogs",4.5\n"你好\nworld",,-1\n'),
        ("pairs.jsonl", '{"sentence1": "a cat", "sentence2": "two, dogs", "score": 4.5}\n\n'),
        ("pairs.ndjson", '{"score": "4.5", "id": 7, "sentence2": "two, dogs", "sentence1": "a cat"}\n'),
    ],
)
def test_pairs_of_every_format(name: str, content: str, tmp_path: Path) -> None:
    if "json" in name:
        content += '{"sentence1": "你好\\nworld", "sentence2": "", "score": -1}'
    path = tmp_path / name
    path.write_bytes(content.encode())
    assert read_scored_pairs(str(path)) == PAIRS


def test_a_quote_in_tsv_is_a_letter(tmp_path: Path) -> None:
    """As STS-B has them; taken for quotes, they make one pair of several."""
    path = tmp_path / "pairs.tsv"
    path.write_text('"a cat\ttwo, dogs\t4.5\n"b" c\td"\t1\n', encoding="utf-8")
    assert read_scored_pairs(str(path)) == [('"a cat', "two, dogs", 4.5), ('"b" c', 'd"', 1.0)]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("pairs.txt", b"a,b,1\n", r"name it \.csv, \.tsv or \.jsonl"),
        ("pairs", b"a,b,1\n", r"name it \.csv, \.tsv or \.jsonl"),
        ("pairs.csv", b"", "holds 0 scored pairs"),
        ("pairs.csv", b"sentence1,sentence2,score\n", "holds 0 scored pairs"),
        ("pairs.csv", b"a,b,1\n", "holds 1 scored pairs: a rank correlation needs at least two"),
        ("pairs.csv", b"a,b,1\nc,d,much\n", "line 2 of .* is not sentence1, sentence2, score"),
        ("pairs.csv", b"a,b,1\nc,d\n", "line 2 of .* is not sentence1, sentence2, score"),
        ("pairs.csv", b"a,b,1\nc,d,\n", "line 2 of .* is not sentence1, sentence2, score"),
        ("pairs.csv", b"a,b,1\nc,d,nan\n", "line 2 of .* is not sentence1, sentence2, score"),
        ("pairs.csv", b"first,second,score\na,b,1\n", "line 1 of .* is not sentence1, sentence2, score"),
        ("pairs.csv", b"a\tb\t1\nc\td\t2\n", "line 1 of .* is not sentence1, sentence2, score"),
        ("pairs.tsv", b"a,b,1\nc,d,2\n", "line 1 of .* is not sentence1, sentence2, score"),
        ("pairs.csv", b"a,\xff,1\n", "is not UTF-8 text"),
        ("pairs.csv", b'a,"' + b"b" * 200_000 + b'",1\n', "holds 1 scored pairs"),
        ("pairs.csv", b'a,b,1\nc,"d,2\ne,f,3\n', "cannot be read"),
        ("pairs.csv", b"score,sentence1,sentence2\n1,a,b, and c\n", "row 2 of .* has 4 values for 3 columns"),
        ("pairs.jsonl", b"{", "cannot be read"),
        ("pairs.jsonl", b"[" * 100_000, "cannot be read"),
        ("pairs.jsonl", b"[1, 2, 3]\n", "line 1 of .* is not sentence1, sentence2, score"),
        ("pairs.jsonl", b'{"sentence1": "a", "sentence2": 2, "score": 1}\n', "line 1 of .* is not sentence1"),
        ("pairs.jsonl", b'{"sentence1": "a", "sentence2": "b", "score": null}\n', "line 1 of .* is not sentence1"),
        ("pairs.jsonl", b'{"sentence1": "a", "sentence2": "b", "score": NaN}\n', "line 1 of .* is not sentence1"),
    ],
)
def test_what_is_no_pair_is_one_clear_error(name: str, content: bytes, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        read_scored_pairs(str(path))


@pytest.mark.parametrize("name", ["nowhere.csv", "folder.csv"])
def test_a_file_that_cannot_be_opened_is_one_clear_error(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        read_scored_pairs(str(tmp_path / name))


@settings(derandomize=True, deadline=None, max_examples=50, database=None)
@given(
    pairs=some.lists(
        some.tuples(some.integers(-3, 3), some.floats(-1e6, 1e6, allow_subnormal=False)), min_size=2, max_size=40
    )
)
def test_rank_correlation_is_that_of_scipy(pairs: list[tuple[int, float]]) -> None:
    left, right = (np.array(side, dtype=np.float64) for side in zip(*pairs, strict=True))
    if (left == left[0]).all() or (right == right[0]).all():
        # scipy has no number for it
        assert spearman(left, right) == 0
    else:
        assert spearman(left, right) == pytest.approx(spearmanr(left, right).statistic, abs=ROUNDING)


def test_rank_correlation_sees_the_order_alone() -> None:
    scores = [0.1, 5.0, 2.0, 3.0]
    assert spearman(scores, np.exp(scores)) == pytest.approx(1)
    assert spearman(scores, [-score for score in scores]) == pytest.approx(-1)
    assert spearman([1.0], [2.0]) == 0


def test_columns_of_other_names(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("gold,left,right\n1,a,b\n2,c,d\n")
    columns = ("left", "right", "gold")
    assert read_scored_pairs(str(tmp_path / "p.csv"), columns) == [("a", "b", 1.0), ("c", "d", 2.0)]
    with pytest.raises(InputError, match="has no columns left, right, grade in its first row: name three"):
        read_scored_pairs(str(tmp_path / "p.csv"), ("left", "right", "grade"))
    (tmp_path / "p.jsonl").write_text('{"left": "a", "right": "b"}\n')
    with pytest.raises(InputError, match=r"line 1 of .* is not left, right, gold: two texts and a number"):
        read_scored_pairs(str(tmp_path / "p.jsonl"), columns)
