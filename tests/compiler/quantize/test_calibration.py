"""Calibration: every text at its own length, each prompt in its turn, and never a position of padding."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from stcompile.compiler.parity.probes import probe_texts
from stcompile.compiler.quantize.calibration import Calibration, CalibrationSet, calibration_set, default_set, unpadded
from stcompile.compiler.stack.load import load_stack
from stcompile.compiler.stack.module_stack import ModuleStack
from stcompile.errors import InputError
from tests.conftest import MODELS, load_case

TEXTS = ("hello", "", "the quick brown fox jumps over the lazy dog", "hello world", "a", "New York city " * 60)

# How many tokens a text may have: the tokenizer's word, and the network's.
LIMITS = {
    "sentence_bert_config.json": "max_seq_length",
    "tokenizer_config.json": "model_max_length",
    "config.json": "max_position_embeddings",
}

# The manifest records it: other texts under one name would be a lie.
DEFAULT_SHA256 = "db06405e09749cd16d293bdcd87b550fd2413e95e4fc4df13268504a1f6f08f6"


@pytest.fixture(scope="module")
def stack() -> ModuleStack:
    return load_stack(MODELS / "pool_mean_with_prompt")


def tokens_of(case: str, texts: list[str]) -> list[int]:
    """Lengths that the tokenizer itself gives, cut to the model's limit."""
    folder = MODELS / case
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    limits = [json.loads((folder / file).read_text(encoding="utf-8")).get(key) for file, key in LIMITS.items()]
    tokenizer.enable_truncation(min(limit for limit in limits if limit is not None))
    return [len(encoding.ids) for encoding in tokenizer.encode_batch(texts)]


def test_the_projects_texts_are_many_and_no_probe_texts() -> None:
    chosen = default_set()
    assert chosen.is_default
    assert len(chosen.texts) == len(set(chosen.texts)) >= 400
    # The empty text is the same in both
    assert {" ".join(text.split()).casefold() for text in chosen.texts} & {
        " ".join(text.split()).casefold() for text in probe_texts()
    } == {""}
    words = [len(text.split()) for text in chosen.texts]
    assert sorted(words)[:2] == [0, 1]
    assert max(words) > 200
    # Latin, Greek, Cyrillic, Hebrew, Arabic, Devanagari, Thai, Hangul, kana, Han, emoji
    for first, last in ("az", "αω", "ая", "את", "اي", "कह", "กฮ", "가힣", "あん", "一龥", "😀🙏"):
        assert any(first <= char <= last for text in chosen.texts for char in text), first


def test_their_hash_is_that_of_the_texts() -> None:
    assert default_set().sha256 == default_set().sha256 == DEFAULT_SHA256
    one, other = CalibrationSet("x", ("a", "b")), CalibrationSet("y", ("b", "a"))
    assert one.sha256 == CalibrationSet("z", ("a", "b")).sha256 != other.sha256
    assert CalibrationSet("x", ("ab",)).sha256 != CalibrationSet("x", ("a", "b")).sha256


def test_own_texts_are_taken_as_they_are() -> None:
    assert calibration_set(None) == default_set()
    assert calibration_set(["b", "", "a", "b"]) == CalibrationSet("texts", ("b", "", "a", "b"))
    assert calibration_set(["b"], "mine.csv").name == "mine.csv"
    chosen = CalibrationSet("mine", ("a",))
    assert calibration_set(chosen) is chosen


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        ([], "no text to calibrate on"),
        ((), "no text to calibrate on"),
        ("hello", "must be a list of strings"),
        (["hello", 3], "must be a list of strings"),
        ([None], "must be a list of strings"),
        ([["hello"]], "must be a list of strings"),
        (b"hello", "must be a list of strings"),
        # read once to be checked, it would be empty when it is used
        ((text for text in ["hello"]), "must be a list of strings"),
        (3, "must be a list of strings"),
    ],
)
def test_what_are_no_texts_is_one_clear_error(texts: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        calibration_set(texts)


@pytest.mark.parametrize(
    "case", ["pool_mean_with_prompt", "backbone_qwen3_lasttoken", "backbone_t5", "text_pairs", "wordemb_lstm_bi"]
)
def test_nothing_is_padding(case: str) -> None:
    """Padding would teach the ranges what no text holds; this model's tokenizer pads on the left."""
    stack = load_stack(MODELS / case)
    calibration = Calibration(default_set(), stack.routes[""], tuple(stack.prompts.values()))
    assert len(calibration) >= len(default_set().texts)
    for batch in calibration.batches:
        if batch.feeds["attention_mask"].shape[1] > 1:
            assert (batch.feeds["attention_mask"] == 1).all()
        assert len(batch.feeds["input_ids"]) == len(batch.rows)
    rows = sorted(row for batch in calibration.batches for row in batch.rows)
    assert rows == list(range(len(calibration)))


@pytest.mark.parametrize("case", ["pool_mean", "backbone_xlmr"])
def test_each_text_has_its_natural_length(case: str) -> None:
    calibration = Calibration(CalibrationSet("texts", TEXTS), load_stack(MODELS / case).routes[""])
    lengths = {row: batch.feeds["input_ids"].shape[1] for batch in calibration.batches for row in batch.rows}
    expected = tokens_of(case, list(TEXTS))
    assert [lengths[row] for row in range(len(TEXTS))] == expected
    assert calibration.tokens == sum(expected)


def test_texts_of_one_length_share_a_batch_of_bounded_size(stack: ModuleStack) -> None:
    texts = ["hello"] * 1000 + ["hello world"] * 2
    batches = list(unpadded(stack.routes[""], texts, [""] * len(texts)))
    assert len(batches) < 10
    assert max(batch.feeds["input_ids"].size for batch in batches) <= 1024
    for batch in batches:
        assert len({texts[row] for row in batch.rows}) == 1
        assert (batch.feeds["input_ids"] == batch.feeds["input_ids"][0]).all()


def test_prompts_take_turns_with_none(stack: ModuleStack) -> None:
    """Texts are calibrated as they are used: with the model's prompts, and without."""
    prompts = tuple(stack.prompts.values())
    turns = list(dict.fromkeys(("", *prompts)))
    assert len(turns) > 2
    route = stack.routes[""]
    calibration = Calibration(CalibrationSet("texts", ("hello",) * (2 * len(turns))), route, prompts)
    found = {}
    for batch in calibration.batches:
        for index, row in enumerate(batch.rows):
            found[row] = batch.feeds["input_ids"][index].tolist()
    for row, ids in found.items():
        assert ids == route.feeds([turns[row % len(turns)] + "hello"], "")["input_ids"][0].tolist()
    assert len({tuple(ids) for ids in found.values()}) == len(turns)


def test_a_prompt_that_pooling_leaves_out_is_told_to_the_graph() -> None:
    case = load_case("pool_mean_exclude_prompt")
    stack = load_stack(case.model)
    prompts = tuple(stack.prompts.values()) or ("query: ",)
    texts = CalibrationSet("texts", ("hello", "hello", "world", "world"))
    lengths = set()
    for batch in Calibration(texts, stack.routes[""], prompts).batches:
        assert batch.feeds["prompt_length"].shape == ()
        lengths.add((int(batch.feeds["prompt_length"]) > 0, batch.rows[0] % (1 + len(prompts)) > 0))
    assert lengths == {(False, False), (True, True)}


def test_texts_that_lie_flat_are_run_one_by_one() -> None:
    stack = load_stack(MODELS / "static")
    calibration = Calibration(CalibrationSet("texts", ("hello world", "", "hello")), stack.routes[""])
    assert [batch.rows for batch in calibration.batches] == [(0,), (1,), (2,)]
    assert all(batch.feeds["offsets"].tolist() == [0] for batch in calibration.batches)


def test_the_projects_texts_come_with_some_of_the_models_own_words() -> None:
    """A bag of words may know none of everyday's."""
    route = load_stack(MODELS / "bow_binary").routes[""]
    own = route.front.probe_texts()
    assert own
    assert Calibration(default_set(), route).texts == (*default_set().texts, *own)
    assert Calibration(CalibrationSet("mine", ("hello",)), route).texts == ("hello",)


def test_the_summary_is_what_was_run(stack: ModuleStack) -> None:
    chosen = CalibrationSet("mine.txt", TEXTS)
    summary = Calibration(chosen, stack.routes[""]).summary()
    tokens = sum(tokens_of("pool_mean_with_prompt", list(TEXTS)))
    assert (summary.name, summary.texts, summary.tokens, summary.sha256) == ("mine.txt", 6, tokens, chosen.sha256)


def test_a_sample_is_spread_over_the_texts(stack: ModuleStack) -> None:
    calibration = Calibration(default_set(), stack.routes[""])
    some = calibration.some(48)
    rows = [row for batch in some.batches for row in batch.rows]
    assert len(rows) >= 48
    assert len(some.batches) <= len(calibration.batches)
    assert {row % 10 for row in rows} >= {0}
    assert max(rows) > 0.9 * len(calibration)
    assert calibration.some(10**6).batches == calibration.batches


def test_a_batch_is_what_its_texts_are_alone(stack: ModuleStack) -> None:
    route = stack.routes[""]
    for batch in Calibration(CalibrationSet("texts", TEXTS), route).batches:
        for index, row in enumerate(batch.rows):
            alone = route.feeds([TEXTS[row]], "")
            assert set(alone) == set(batch.feeds)
            for name, array in alone.items():
                assert np.array_equal(batch.feeds[name][index] if array.ndim else batch.feeds[name], array[0])


def test_an_even_sample_has_about_as_many_tokens_as_asked_for() -> None:
    route = load_stack(MODELS / "full_stack").routes[""]
    whole = Calibration(default_set(), route)
    part = whole.within(-(-whole.tokens // 3))
    assert 0.2 <= part.tokens / whole.tokens <= 0.45
    rows = sorted(row for batch in part.batches for row in batch.rows)
    assert rows == [*range(0, len(whole), 3)]
    assert (part.summary().texts, part.summary().tokens) == (len(rows), part.tokens)
    assert part.summary().sha256 == whole.summary().sha256
    fed = {row: ids for batch in whole.batches for row, ids in zip(batch.rows, batch.feeds["input_ids"], strict=True)}
    for batch in part.batches:
        for row, ids in zip(batch.rows, batch.feeds["input_ids"], strict=True):
            assert np.array_equal(ids, fed[row])
    assert whole.within(whole.tokens) is whole
    mine = Calibration(CalibrationSet("mine", ("hello world",) * 50), route)
    assert mine.within(10) is mine
