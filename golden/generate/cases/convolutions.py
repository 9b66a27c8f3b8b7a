"""CNN: where its vectors depend on the padding of the batch, every text is recorded alone."""

from __future__ import annotations

from typing import Any

from sentence_transformers.sentence_transformer import modules

from golden.generate.backbones import HIDDEN
from golden.generate.builder import FolderBuilder
from golden.generate.case import Case
from golden.generate.legacy import old_types, rename_keys, to_pickle
from golden.generate.words import WIDTH, word_embeddings

CHANNELS = 8


def _cnn(builder: FolderBuilder, kernels: list[int], width: int = WIDTH, **kwargs: Any) -> Any:
    return builder.random(modules.CNN(width, out_channels=CHANNELS, kernel_sizes=kernels, **kwargs))


def three_kernels(builder: FolderBuilder) -> None:
    builder.save([word_embeddings(builder), _cnn(builder, [1, 3, 5]), builder.pooling(width=3 * CHANNELS)])


def nonzero_padding(builder: FolderBuilder) -> None:
    words = word_embeddings(builder, zero_first=False)
    builder.save([words, _cnn(builder, [3, 7]), builder.pooling(("max", "mean"), 2 * CHANNELS)])
    builder.run(batch_size=1)


def even_kernel(builder: FolderBuilder) -> None:
    builder.inputs = "words"
    builder.save([word_embeddings(builder), _cnn(builder, [2]), builder.pooling(width=CHANNELS)])
    builder.run(batch_size=1)


def stride(builder: FolderBuilder) -> None:
    cnn = _cnn(builder, [3], stride_sizes=[2])
    builder.save([word_embeddings(builder), cnn, builder.pooling(("max", "mean"), CHANNELS)])
    builder.run(batch_size=1)


def over_transformer(builder: FolderBuilder) -> None:
    cnn = _cnn(builder, [1, 3], HIDDEN)
    builder.save([builder.transformer(), cnn, builder.pooling(width=2 * CHANNELS)])
    builder.run(batch_size=1)


def legacy_keys(builder: FolderBuilder) -> None:
    builder.save([word_embeddings(builder), _cnn(builder, [1, 3]), builder.pooling(width=2 * CHANNELS)])
    old_types(builder)
    old_names = {"in_embedding_dimension": "in_word_embedding_dimension", "stride_sizes": None}
    rename_keys(builder, "1_CNN/cnn_config.json", old_names)
    to_pickle(builder, "1_CNN")


CASES: dict[str, Case] = {
    "wordemb_cnn": Case("WordEmbeddings, CNN with three kernels, mean: a zero row pads like no row", three_kernels),
    "wordemb_cnn_max_nonzero_pad": Case(
        "CNN after a table whose row of padding is not zero: vectors depend on the batch, recorded one by one",
        nonzero_padding,
    ),
    "wordemb_cnn_even_kernel": Case(
        "even kernel: one position fewer than the mask has, which pooling then ignores; recorded one by one",
        even_kernel,
    ),
    "wordemb_cnn_stride": Case(
        "stride_sizes: half the positions, pooling ignores the mask unless they are as many; recorded one by one",
        stride,
    ),
    "wordemb_cnn_legacy": Case("release 3: the old name of the width, no stride_sizes, a pickle", legacy_keys),
    "cnn_over_transformer": Case("CNN over a Transformer's token embeddings, recorded one by one", over_transformer),
}
