"""Text front ends of word models and static models: the rules of module-stack spec, sections 9 and 10."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from sentence_transformers.sentence_transformer.modules import tokenizer as reference
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from stcompile.artifact.manifest import TextSpec
from stcompile.errors import ArtifactError, InputError, MissingExtraError
from stcompile.runtime.text.splitters import (
    PhraseSplitter,
    Splitter,
    TokenizerSplitter,
    WhitespaceSplitter,
    splitter_from_json,
)
from stcompile.runtime.text.static import StaticText
from stcompile.runtime.text.words import BowText, WordsText

VOCAB = ["pad", "fox", "Fox", "new_york", "New_York_City", "(x)", "", "it", "'s", "fox"]
TEXTS = [
    "",
    " \t\n\u00a0\u2003 ",
    "fox Fox FOX (fox) FOX! ((",
    "New York City, new york; NEW YORK city new_york",
    "(x) x it's It's STOP Stop stop (Stop)",
    "?! -- ``quoted'' \"text\" can't gonna 1,000.50 a.b. end.",
    "fox\u3000fox\u200bfox Straße İstanbul fox\x00fox",
]


def tokenizer() -> Tokenizer:
    made = Tokenizer(models.WordLevel({"[UNK]": 0, "[CLS]": 1, "fox": 2, "new": 3}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 1)])
    return made


@pytest.mark.parametrize("lower", [False, True])
def test_words_between_white_space_are_those_of_sentence_transformers(lower: bool) -> None:
    ours = WhitespaceSplitter(VOCAB, ["stop", "Stop"], lower)
    theirs = reference.WhitespaceTokenizer(VOCAB, ["stop", "Stop"], lower)
    assert [ours(text) for text in TEXTS] == [theirs.tokenize(text) for text in TEXTS]
    # As it is, then stripped, then in lower case; of a repeated word the last id; unknown words leave none.
    assert WhitespaceSplitter(["fox", "(Fox)", "fox"], ["Stop"])("(Fox) (FOX) (Stop) Stop! cat") == [1, 2]


@pytest.mark.parametrize(("separator", "longest"), [("_", 5), ("_", 2), (" ", 3), (None, 5)])
def test_phrases_are_those_of_sentence_transformers(separator: str | None, longest: int) -> None:
    vocab = [*VOCAB, "a__b", "can", "not", "1,000.50", "``"]
    ours = PhraseSplitter(vocab, ["stop"], False, separator, longest)
    theirs = reference.PhraseTokenizer(vocab, ["stop"], False, separator, longest)
    assert [ours(text) for text in TEXTS] == [theirs.tokenize(text) for text in TEXTS]


def test_long_phrases_are_joined_first() -> None:
    splitter = PhraseSplitter(["new", "new_york", "New_York_City", "a_b_c_d_e_f"], [])
    # A window that is no phrase as it is may be one in lower case.
    assert splitter("New York City") == [2]
    assert splitter("NEW YORK new york") == [1, 1]
    # Six words are more than a phrase may have.
    assert splitter("a b c d e f") == []


def test_nothing_but_the_pip_line_without_nltk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nltk", None)
    with pytest.raises(MissingExtraError, match=r"needs nltk.*stcompile\[phrases\]"):
        PhraseSplitter(VOCAB)


def test_a_whole_tokenizer_keeps_its_special_tokens_and_cuts_nothing() -> None:
    limited = tokenizer()
    limited.enable_truncation(2)
    limited.enable_padding(length=9)
    assert TokenizerSplitter(limited.to_str())("fox new fox") == [1, 2, 3, 2]
    with pytest.raises(InputError, match="cannot read"):
        TokenizerSplitter("{}")


@pytest.mark.parametrize(
    "splitter",
    [
        WhitespaceSplitter(VOCAB, ["stop"], True),
        PhraseSplitter(VOCAB, ["stop"], max_ngram_length=3),
        TokenizerSplitter(tokenizer().to_str()),
    ],
)
def test_a_splitter_comes_back_from_its_file(splitter: Splitter) -> None:
    again = splitter_from_json(json.loads(json.dumps(splitter.to_json())))
    assert type(again) is type(splitter)
    assert [again(text) for text in TEXTS] == [splitter(text) for text in TEXTS]


def front_end(kind: Any, folder: Path, inputs: list[str], **settings: Any) -> Any:
    content = json.dumps(WhitespaceSplitter(["pad", "fox", "new"]).to_json())
    (folder / "words.json").write_text(content, encoding="utf-8")
    return kind(folder, TextSpec("words", "words.json", **{"max_seq_length": 3, **settings}), inputs)


def test_rows_of_words_are_cut_and_padded(tmp_path: Path) -> None:
    text = front_end(WordsText, tmp_path, ["attention_mask", "input_ids"], min_seq_length=2)
    rows = text.tokenize(["fox new fox fox", "", "cat"], "new ")
    assert [row.ids.tolist() for row in rows] == [[2, 1, 2], [2], [2]]
    feeds = text.collate(rows[1:], "new ")
    assert {name: (str(value.dtype), value.tolist()) for name, value in feeds.items()} == {
        "attention_mask": ("int64", [[1, 0], [1, 0]]),
        "input_ids": ("int64", [[2, 0], [2, 0]]),
    }
    assert text.collate(text.tokenize(["", "cat"], None), None)["attention_mask"].tolist() == [[0, 0], [0, 0]]
    assert not text.takes_pairs


def test_bags_of_words_lie_behind_each_other(tmp_path: Path) -> None:
    text = front_end(BowText, tmp_path, ["input_ids", "offsets"], max_seq_length=None)
    feeds = text.collate(text.tokenize(["", "fox new", "cat", "new"], None), None)
    assert {name: value.tolist() for name, value in feeds.items()} == {"input_ids": [1, 2, 2], "offsets": [0, 0, 2, 2]}


@pytest.mark.parametrize("content", [None, "{", "[]", '{"kind": "none"}', '{"kind": "whitespace", "vocab": "fox"}'])
def test_a_broken_file_is_the_artifacts_fault(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "words.json").write_text(content, encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"words\.json .*export the model again"):
        WordsText(tmp_path, TextSpec("words", "words.json", None), ["input_ids"])
    with pytest.raises(ArtifactError, match=r"words\.json"):
        StaticText(tmp_path, TextSpec("static", "words.json", None), ["input_ids"])


@pytest.mark.parametrize(
    ("limit", "side", "expected"), [(None, "right", [2, 3, 0, 2]), (2, "right", [2, 3]), (2, "left", [0, 2])]
)
def test_static_texts_have_no_special_tokens(limit: int | None, side: str, expected: list[int], tmp_path: Path) -> None:
    padded = tokenizer()
    padded.enable_padding(length=9)
    padded.save(str(tmp_path / "tokenizer.json"))
    spec = TextSpec("static", "tokenizer.json", limit, truncation_side=side)
    text = StaticText(tmp_path, spec, ["input_ids", "offsets"])
    rows = text.tokenize(["", "new cat fox"], "fox ")
    assert rows[1].ids.tolist() == expected
    feeds = text.collate(text.tokenize(["", "fox", ""], None), None)
    assert {name: value.tolist() for name, value in feeds.items()} == {"input_ids": [2], "offsets": [0, 0, 1]}
