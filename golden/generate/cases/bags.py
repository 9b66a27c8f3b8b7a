"""BoW: the vector is made while the text is read."""

from __future__ import annotations

from sentence_transformers.sentence_transformer import modules

from golden.generate.builder import FolderBuilder
from golden.generate.case import Case
from golden.generate.inputs import PROMPTS
from golden.generate.vocabularies import WORD_TABLE
from golden.generate.words import word_weights


def cumulative_weights(builder: FolderBuilder) -> None:
    weights = {**word_weights(), "hello": 1.75}
    builder.save([modules.BoW(vocab=WORD_TABLE, word_weights=weights, unknown_word_weight=0.5)])
    builder.edit("0_BoW/config.json", lambda config: {**config, "vocab": [*WORD_TABLE, "fox", "Hello"]})


def binary(builder: FolderBuilder) -> None:
    builder.save([modules.BoW(vocab=WORD_TABLE, cumulative_term_frequency=False)])


def dense_normalize(builder: FolderBuilder) -> None:
    bag = modules.BoW(vocab=WORD_TABLE, word_weights=word_weights(), unknown_word_weight=0)
    builder.save([bag, builder.dense(len(WORD_TABLE), 24), modules.Normalize()], prompts=PROMPTS)
    builder.run()
    builder.run("encode_query", method="encode_query")


CASES: dict[str, Case] = {
    "bow_cumulative_weights": Case(
        "BoW that adds weights, some found in lower case only, over a vocabulary with repeats", cumulative_weights
    ),
    "bow_binary": Case("BoW that only says which words are there", binary),
    "bow_dense_normalize": Case("BoW, Dense, Normalize, with a prompt", dense_normalize),
}
