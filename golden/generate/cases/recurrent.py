"""LSTM: layers, directions, and the modes that pool its states."""

from __future__ import annotations

from sentence_transformers.sentence_transformer import modules

from golden.generate.builder import FolderBuilder
from golden.generate.case import Case
from golden.generate.legacy import old_types, rename_keys, to_pickle
from golden.generate.words import WIDTH, word_embeddings


def bidirectional(builder: FolderBuilder) -> None:
    lstm = builder.random(modules.LSTM(WIDTH, 12))
    builder.save([word_embeddings(builder), lstm, builder.pooling("max", 24)])


def two_layers_forward(builder: FolderBuilder) -> None:
    words = word_embeddings(builder, zero_first=False)
    lstm = builder.random(modules.LSTM(WIDTH, 12, num_layers=2, dropout=0.3, bidirectional=False))
    builder.save([words, lstm, builder.pooling(("mean", "lasttoken"), 12)])


def two_layers_bidirectional(builder: FolderBuilder) -> None:
    lstm = builder.random(modules.LSTM(WIDTH, 10, num_layers=2))
    builder.save([word_embeddings(builder), lstm, builder.pooling(width=20)])


def weighted_modes(builder: FolderBuilder) -> None:
    lstm = builder.random(modules.LSTM(WIDTH, 10))
    builder.save([word_embeddings(builder), lstm, builder.pooling(("mean_sqrt_len_tokens", "weightedmean"), 20)])


def legacy_keys(builder: FolderBuilder) -> None:
    lstm = builder.random(modules.LSTM(WIDTH, 10))
    builder.save([word_embeddings(builder), lstm, builder.pooling(width=20)])
    old_types(builder)
    rename_keys(builder, "1_LSTM/lstm_config.json", {"embedding_dimension": "word_embedding_dimension"})
    to_pickle(builder, "1_LSTM")


CASES: dict[str, Case] = {
    "wordemb_lstm_bi": Case("one layer, both directions, max", bidirectional),
    "wordemb_lstm_two_layer_uni": Case(
        "two layers, forward, dropout, mean and lasttoken; the row of padding is not zero", two_layers_forward
    ),
    "wordemb_lstm_two_layer_bi": Case("two layers, both directions, mean", two_layers_bidirectional),
    "wordemb_lstm_weighted_modes": Case("LSTM pooled by mean_sqrt_len_tokens and weightedmean", weighted_modes),
    "wordemb_lstm_legacy": Case("release 3: the old name of the width, a pickle", legacy_keys),
}
