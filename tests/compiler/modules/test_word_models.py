"""Word models compute what sentence-transformers computes, from its folders and into them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from sentence_transformers.sentence_transformer import modules as st
from sentence_transformers.sentence_transformer.modules import tokenizer as st_tokenizers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn
from transformers import PreTrainedTokenizerFast

from stcompile.compiler.modules import CNN, LSTM, BoW, WeightedLayerPooling, WordEmbeddings, WordWeights
from stcompile.compiler.modules.base import InputModule, Module
from stcompile.compiler.modules.word_tokenizers import PhraseTokenizer, WhitespaceTokenizer, tokenizer_class
from stcompile.errors import InputError, ModelFolderError, UnsupportedError

HIDDEN = 8
VOCAB = ["PADDING_TOKEN", "new", "york", "New_York", "fox", "quick", "the", "Café", "it's"]
TEXTS = ["", "the quick fox", "New York, (new) YORK!", "?! fox Café it's new_york", "unknown words"]


def features() -> dict[str, Any]:
    """Three rows of five positions: a full one, a short one, one without any token."""
    generator = torch.Generator().manual_seed(3)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0]])
    return {
        "input_ids": torch.randint(0, len(VOCAB), (3, 5), generator=generator),
        "attention_mask": mask,
        "sentence_lengths": mask.sum(dim=1),
        "token_embeddings": torch.randn(3, 5, HIDDEN, generator=generator),
        "all_layer_embeddings": tuple(torch.randn(4, 3, 5, HIDDEN, generator=generator)),
    }


BLOCKS: dict[str, tuple[type[Module], Callable[[], Any]]] = {
    "cnn": (CNN, lambda: st.CNN(HIDDEN, out_channels=4)),
    "cnn-even-stride": (CNN, lambda: st.CNN(HIDDEN, out_channels=4, kernel_sizes=[2, 4], stride_sizes=[2, 2])),
    "lstm": (LSTM, lambda: st.LSTM(HIDDEN, 6)),
    "lstm-forward-layers": (LSTM, lambda: st.LSTM(HIDDEN, 6, num_layers=3, bidirectional=False)),
    "word-weights": (WordWeights, lambda: st.WordWeights(VOCAB, {"new": 2.5, "the": 0, "café": -1}, 0.5)),
    "layers": (
        WeightedLayerPooling,
        lambda: st.WeightedLayerPooling(
            HIDDEN, 3, layer_start=1, layer_weights=nn.Parameter(torch.tensor([1.0, 3, -2]))
        ),
    ),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_computes_and_saves_like_sentence_transformers(name: str, tmp_path: Path) -> None:
    ours, build = BLOCKS[name]
    theirs, given, saved = build(), tmp_path / "theirs", tmp_path / "ours"
    given.mkdir()
    theirs.save(str(given))
    config = json.loads((given / ours.config_file).read_text(encoding="utf-8"))
    loaded = ours.load(given, config)
    loaded.save(saved)
    again = type(theirs).load(str(saved))
    with torch.no_grad():
        expected, found, reloaded = theirs(features()), loaded(features()), again(features())
    for key in ("token_embeddings", *(["token_weights_sum"] if name == "word-weights" else [])):
        torch.testing.assert_close(found[key], expected[key], atol=1e-6, rtol=0)
        torch.testing.assert_close(reloaded[key], expected[key], atol=1e-6, rtol=0)


def test_layers_that_are_not_shown_change_nothing_and_a_wrong_number_is_named() -> None:
    block = WeightedLayerPooling(HIDDEN, num_hidden_layers=3, layer_start=1)
    without = {key: value for key, value in features().items() if key != "all_layer_embeddings"}
    assert torch.equal(block(without)["token_embeddings"], without["token_embeddings"])
    with pytest.raises(UnsupportedError, match=r"says 5 layers, but the network shows 3"):
        WeightedLayerPooling(HIDDEN, num_hidden_layers=5)(features())


def test_word_weights_do_not_read_their_table(tmp_path: Path) -> None:
    block = WordWeights(VOCAB, {"fox": 3.0})
    nn.init.constant_(block.emb_layer.weight, 7.0)
    block.save(tmp_path)
    loaded = WordWeights.load(tmp_path, block.get_config())
    assert loaded.emb_layer.weight.flatten().tolist() == [3.0 if word == "fox" else 1.0 for word in VOCAB]


def transformers_tokenizer() -> Any:
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(dict.fromkeys(VOCAB))}, unk_token="the"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="new $A york", special_tokens=[("new", 1), ("york", 2)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="the")


TOKENIZERS: dict[str, Callable[[], Any]] = {
    "default-stop-words": lambda: st_tokenizers.WhitespaceTokenizer(VOCAB),
    "lower-case": lambda: st_tokenizers.WhitespaceTokenizer(VOCAB, stop_words=["new"], do_lower_case=True),
    "phrases": lambda: st_tokenizers.PhraseTokenizer(VOCAB, stop_words=["quick"]),
    "transformers": lambda: st_tokenizers.TransformersTokenizerWrapper(transformers_tokenizer()),
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_word_embeddings_cut_texts_like_sentence_transformers(name: str, tmp_path: Path) -> None:
    table = torch.randn(len(VOCAB), HIDDEN, dtype=torch.float64)
    theirs = st.WordEmbeddings(TOKENIZERS[name](), table.float(), max_seq_length=4)
    given, saved = tmp_path / "theirs", tmp_path / "ours"
    given.mkdir()
    theirs.save(str(given))
    loaded = WordEmbeddings.load(given, json.loads((given / WordEmbeddings.config_file).read_text(encoding="utf-8")))
    loaded.save(saved)
    again = st.WordEmbeddings.load(str(saved))
    for prompt in (None, "fox "):
        expected = theirs(theirs.preprocess(TEXTS, prompt=prompt))
        for found in (loaded(loaded.tokenize(TEXTS, prompt)), again(again.preprocess(TEXTS, prompt=prompt))):
            for key in ("input_ids", "attention_mask", "sentence_lengths", "token_embeddings"):
                assert torch.equal(found[key], expected[key]), key


def test_a_repeated_word_keeps_its_row_when_it_is_saved(tmp_path: Path) -> None:
    # sentence-transformers drops repeated words as it saves, and so moves every id behind them.
    WordEmbeddings(WhitespaceTokenizer(["a", "b", "a", "c"], stop_words=()), torch.eye(4)).save(tmp_path)
    theirs = st.WordEmbeddings.load(str(tmp_path))
    assert theirs.tokenizer.tokenize("a b c") == [2, 1, 3]


def test_a_batch_without_any_word_has_one_masked_position() -> None:
    block = WordEmbeddings(WhitespaceTokenizer(["a"], stop_words=()), torch.ones(1, 2))
    assert {key: value.tolist() for key, value in block.tokenize(["", "b"], None).items()} == {
        "input_ids": [[0], [0]],
        "attention_mask": [[0], [0]],
    }
    with pytest.raises(InputError, match="pairs"):
        block.tokenize([("a", "a")], None)


@pytest.mark.parametrize(
    "path",
    [
        "sentence_transformers.models.tokenizer.PhraseTokenizer",
        "sentence_transformers.models.tokenizer.PhraseTokenizer.PhraseTokenizer",
        "sentence_transformers.sentence_transformer.modules.tokenizer.PhraseTokenizer",
        "sentence_transformers.sentence_transformer.modules.tokenizer.phrase.PhraseTokenizer",
    ],
)
def test_a_tokenizer_class_is_known_by_every_spelling(path: str) -> None:
    assert tokenizer_class(path) is PhraseTokenizer


def test_what_does_not_fit_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"os\.system"):
        tokenizer_class("os.system")
    for content in ("[]", "{", '{"vocab": "abc"}', '{"vocab": [1]}', "{}"):
        (tmp_path / WhitespaceTokenizer.config_file).write_text(content, encoding="utf-8")
        with pytest.raises(ModelFolderError, match="malformed"):
            WhitespaceTokenizer.load(tmp_path)
    with pytest.raises(InputError, match="2 rows, but the tokenizer makes ids up to 8"):
        WordEmbeddings(WhitespaceTokenizer(VOCAB), torch.ones(2, HIDDEN))


LINES = ["3 2", "fox 1.5 -2e-1", "bad 1", "", "new york 1 2", "fox 3 4", "café 0.1 1e3  "]


@pytest.mark.parametrize("limit", [None, 1])
def test_a_file_of_word_vectors_is_read_like_sentence_transformers(
    limit: int | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text("\n".join(LINES), encoding="utf-8")
    expected = st.WordEmbeddings.from_text_file(str(path), max_vocab_size=limit)
    with caplog.at_level(logging.WARNING, logger="stcompile"):
        found = WordEmbeddings.from_text_file(path, max_vocab_size=limit)
    assert found.tokenizer.get_vocab() == expected.tokenizer.get_vocab()
    assert torch.equal(found.emb_layer.weight, expected.emb_layer.weight)
    own = [record.message for record in caplog.records if record.name == "stcompile"]
    assert own == ([] if limit else ["vectors.txt: skipped 3 lines that do not have 2 numbers"])


def test_a_file_that_holds_no_word_vectors_is_named(tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    with pytest.raises(InputError, match="nothing is fetched"):
        WordEmbeddings.from_text_file(path)
    path.write_text("fox 1 2\nnew 1 x", encoding="utf-8")
    with pytest.raises(InputError, match="line 2"):
        WordEmbeddings.from_text_file(path)


@pytest.mark.parametrize("cumulative", [True, False])
def test_a_bag_of_words_counts_like_sentence_transformers(cumulative: bool, tmp_path: Path) -> None:
    arguments = ([*VOCAB, "fox"], {"fox": 0.3, "café": 2, "new": -1.5}, 0.7, cumulative)
    theirs, ours = st.BoW(*arguments), BoW(*arguments)
    texts = [*TEXTS, "fox fox fox new new the"]
    expected = theirs.preprocess(texts)["sentence_embedding"]
    assert torch.equal(ours(ours.tokenize(texts, None))["sentence_embedding"], expected)
    assert not ours(ours.tokenize(["", "zzz"], None))["sentence_embedding"].any()
    ours.save(tmp_path)
    assert torch.equal(st.BoW.load(str(tmp_path)).preprocess(texts)["sentence_embedding"], expected)


class Stack(nn.Module):
    """Blocks with positional inputs, as the exporter wants them."""

    def __init__(self, blocks: list[Module], output: str) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.output = output

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        first = self.blocks[0]
        assert isinstance(first, InputModule)
        values = dict(zip(first.input_names, inputs, strict=True))
        for block in self.blocks:
            values = block(values)
        return values[self.output]


def session(stack: Stack, path: Path, threads: int = 1) -> Any:
    """Traces with the first block's own examples, every axis dynamic."""
    first = stack.blocks[0]
    assert isinstance(first, InputModule)
    examples = first.examples()
    values = [examples[name] for name in first.input_names]
    axes = {axis: torch.export.Dim(axis) for value in values for axis in value.axes}
    shapes = tuple({index: axes[axis] for index, axis in enumerate(value.axes)} for value in values)
    torch.onnx.export(
        stack.eval(),
        tuple(value.value for value in values),
        str(path),
        input_names=list(first.input_names),
        dynamic_shapes=(shapes,),
        opset_version=20,
        dynamo=True,
        verbose=False,
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(path), options)


def test_an_lstm_becomes_the_operator_with_the_weights_it_has_when_traced(tmp_path: Path) -> None:
    words = WordEmbeddings(WhitespaceTokenizer(VOCAB, stop_words=()), torch.randn(len(VOCAB), HIDDEN))
    lstm = LSTM(HIDDEN, 5, num_layers=2)
    with torch.no_grad():
        for parameter in lstm.parameters():
            parameter.mul_(2)
    stack = Stack([words, lstm], "token_embeddings")
    graph = session(stack, tmp_path / "lstm.onnx")
    for texts in (["the quick new fox", "fox", "", "york york"], ["fox"], ["", ""]):
        feeds = words.tokenize(texts, None)
        found = graph.run(None, {name: value.numpy() for name, value in feeds.items()})[0]
        torch.testing.assert_close(torch.from_numpy(found), stack(*feeds.values()), atol=1e-6, rtol=0)


def test_the_graph_of_a_bag_counts_exactly_on_several_threads(tmp_path: Path) -> None:
    bag = BoW([f"w{index}" for index in range(1000)], {"w0": 0.5}, 2.0)
    graph = session(Stack([bag], "sentence_embedding"), tmp_path / "bow.onnx", threads=4)
    ids = np.random.default_rng(0).integers(0, 3, 400_000)
    found = graph.run(None, {"input_ids": ids, "offsets": np.array([0, 300_000, 300_000])})[0]
    weights = np.array([0.5, 2, 2])
    for row, part in zip(found, (ids[:300_000], ids[:0], ids[300_000:]), strict=True):
        assert row[:3].tolist() == (np.bincount(part, minlength=3) * weights).tolist()
        assert not row[3:].any()
