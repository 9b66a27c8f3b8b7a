"""Tables of words: their tokenizers, and weights for words."""

from __future__ import annotations

from functools import partial

import torch
from sentence_transformers.sentence_transformer import modules
from sentence_transformers.sentence_transformer.modules.tokenizer import PhraseTokenizer
from transformers import AutoTokenizer

from golden.generate.backbones import HIDDEN
from golden.generate.builder import POSITIONS, FolderBuilder
from golden.generate.case import Case
from golden.generate.inputs import PROMPTS
from golden.generate.legacy import into_subfolder, old_pooling, old_types, to_pickle
from golden.generate.tokenizers import write_tokenizer
from golden.generate.vocabularies import WORD_TABLE
from golden.generate.words import WIDTH, word_embeddings, word_table, word_weights

PHRASES = ["New_York", "New_York_City", "lazy_dog", "the_lazy_dog"]


def mean(builder: FolderBuilder) -> None:
    builder.save([word_embeddings(builder, stop_words=None), builder.pooling(width=WIDTH)])


def lower_max(builder: FolderBuilder) -> None:
    pooling = builder.pooling(("max", "mean_sqrt_len_tokens", "lasttoken"), WIDTH)
    builder.save([word_embeddings(builder, zero_first=False, lower=True), pooling])
    builder.notes.append("A text without any known word is fully masked: max pooling makes minus infinity of it.")


def max_seq_length(builder: FolderBuilder) -> None:
    builder.save([word_embeddings(builder, max_seq_length=5), builder.pooling(width=WIDTH)])


def stop_words(builder: FolderBuilder) -> None:
    words = ["the", "New", ".", "C++", "world"]
    builder.save([word_embeddings(builder, stop_words=words), builder.pooling(width=WIDTH)])


def repeated_word(builder: FolderBuilder) -> None:
    builder.save([word_embeddings(builder), builder.pooling(width=WIDTH)])
    repeated = [*WORD_TABLE[:-2], "hello", "fox"]
    builder.edit("whitespacetokenizer_config.json", lambda config: {**config, "vocab": repeated})


def prompt(builder: FolderBuilder, include: bool) -> None:
    stack = [word_embeddings(builder), builder.pooling(width=WIDTH, include_prompt=include)]
    builder.save(stack, prompts=PROMPTS)
    builder.run()
    builder.run("encode_query", method="encode_query")
    builder.run("glued", prompt_name="bare")


def phrases(builder: FolderBuilder) -> None:
    vocabulary = [*WORD_TABLE, *PHRASES]
    tokenizer = PhraseTokenizer(vocab=vocabulary, stop_words=["the", "."])
    table = word_table(builder, len(vocabulary), zero_first=False)
    builder.save([modules.WordEmbeddings(tokenizer, table), builder.pooling(width=WIDTH)])


def transformers_tokenizer(builder: FolderBuilder) -> None:
    folder = builder.scratch / "tokenizer"
    write_tokenizer("bert", folder, POSITIONS)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    table = word_table(builder, len(tokenizer))
    builder.save([modules.WordEmbeddings(tokenizer, table, max_seq_length=20), builder.pooling(width=WIDTH)])


def legacy_folder(builder: FolderBuilder) -> None:
    builder.save([word_embeddings(builder, stop_words=None), builder.pooling(width=WIDTH)])
    old_types(builder)
    old_pooling(builder)
    to_pickle(builder)
    into_subfolder(builder, "0_WordEmbeddings")
    old_path = "sentence_transformers.models.tokenizer.WhitespaceTokenizer.WhitespaceTokenizer"
    config = "0_WordEmbeddings/wordembedding_config.json"
    builder.edit(config, lambda settings: {**settings, "tokenizer_class": old_path})
    (builder.folder / "config_sentence_transformers.json").unlink()


def weighted(builder: FolderBuilder, mode: str | tuple[str, ...], unknown: float) -> None:
    weights = modules.WordWeights(WORD_TABLE, word_weights(), unknown_word_weight=unknown)
    builder.save([word_embeddings(builder), weights, builder.pooling(mode, WIDTH)])


def weights_cancel_out(builder: FolderBuilder) -> None:
    weights = {"hello": 0.0, "world": 1.0, "fox": -1.0, "dog": -2.0, "the": 1.5, "york": 0.5, "is": -0.5, "one": -3.0}
    layer = modules.WordWeights(WORD_TABLE, weights, unknown_word_weight=0.0)
    builder.inputs = "words"
    builder.save([word_embeddings(builder), layer, builder.pooling(width=WIDTH)])


def trained_weights_ignored(builder: FolderBuilder) -> None:
    weights = modules.WordWeights(WORD_TABLE, word_weights(), unknown_word_weight=0.5)
    with torch.no_grad():
        weights.emb_layer.weight.add_(3.0)
    builder.save([word_embeddings(builder), weights, builder.pooling(width=WIDTH)])


def weights_over_transformer(builder: FolderBuilder) -> None:
    transformer = builder.transformer()
    ids = transformer.tokenizer.get_vocab()
    weights = modules.WordWeights(
        sorted(ids, key=ids.__getitem__), {"hello": 2.5, "fox": 0.25, "[CLS]": 0.0}, unknown_word_weight=0.75
    )
    builder.save([transformer, weights, builder.pooling(width=HIDDEN)])


def weights_and_lstm(builder: FolderBuilder) -> None:
    weights = modules.WordWeights(WORD_TABLE, word_weights(), unknown_word_weight=0.5)
    lstm = builder.random(modules.LSTM(WIDTH, 10))
    builder.save([word_embeddings(builder), weights, lstm, builder.pooling(width=20)])


CASES: dict[str, Case] = {
    "wordemb_mean": Case("WordEmbeddings, whitespace tokenizer with the library's stop words, mean", mean),
    "wordemb_lower_nostop_max": Case(
        "no stop words, lowercasing, three modes; the row of padding is not zero", lower_max
    ),
    "wordemb_max_seq_length": Case("WordEmbeddings with max_seq_length", max_seq_length),
    "wordemb_stop_words": Case("stop words apply as written, then stripped, then in lower case", stop_words),
    "wordemb_repeated_word": Case("a word that is twice in the vocabulary: the last row counts", repeated_word),
    "wordemb_prompt": Case(
        "prompts before WordEmbeddings: put in front of the text, then split", partial(prompt, include=True)
    ),
    "wordemb_exclude_prompt": Case(
        "include_prompt false after WordEmbeddings, which do not tell its length: the prompt is pooled all the same",
        partial(prompt, include=False),
    ),
    "wordemb_legacy_folder": Case(
        "release 1: folder 0_WordEmbeddings with pytorch_model.bin, old paths of the module and its tokenizer",
        legacy_folder,
    ),
    "wordemb_phrase_tokenizer": Case("PhraseTokenizer: words of several words, split by NLTK", phrases),
    "wordemb_transformers_tokenizer": Case(
        "a Transformers tokenizer inside WordEmbeddings, cut at max_seq_length", transformers_tokenizer
    ),
    "wordemb_wordweights_mean": Case(
        "WordWeights: the weighted mean divides by the sum of the weights",
        partial(weighted, mode=("mean", "mean_sqrt_len_tokens"), unknown=0.5),
    ),
    "wordemb_wordweights_weightedmean": Case(
        "WordWeights with weightedmean and max", partial(weighted, mode=("weightedmean", "max"), unknown=1.0)
    ),
    "wordemb_wordweights_lstm": Case(
        "WordWeights, then LSTM: the mean still divides by the sum of the weights", weights_and_lstm
    ),
    "wordweights_zero_and_negative": Case(
        "weights whose sum is zero or less: the divisor is at least 1e-9", weights_cancel_out
    ),
    "wordweights_trained_weights_ignored": Case(
        "a trained table of weights: the tensor is ignored, the weights in the config count", trained_weights_ignored
    ),
    "transformer_wordweights": Case("WordWeights over the token ids of a Transformer", weights_over_transformer),
}
