"""What encode does with the vectors a model gives."""

from __future__ import annotations

from sentence_transformers.sentence_transformer import modules

from golden.generate.builder import FolderBuilder
from golden.generate.case import Case


def postprocessing(builder: FolderBuilder) -> None:
    builder.save([builder.transformer(), builder.pooling()])
    builder.run()
    builder.run("normalized", normalize_embeddings=True)
    builder.run("truncate_16", truncate_dim=16)
    builder.run("truncate_16_normalized", truncate_dim=16, normalize_embeddings=True)
    builder.run("truncate_99", truncate_dim=99)
    for precision in ("int8", "uint8", "binary", "ubinary"):
        builder.run(precision, precision=precision)
    builder.run("truncate_20_binary", truncate_dim=20, precision="binary")
    builder.run("truncate_20_ubinary", truncate_dim=20, precision="ubinary")
    builder.run("normalized_int8", normalize_embeddings=True, precision="int8")
    builder.run("tokens", ragged=True, output_value="token_embeddings")
    builder.run("batch_1", batch_size=1)
    builder.run("batch_5", batch_size=5)


def left_padded_tokens(builder: FolderBuilder) -> None:
    builder.save([builder.transformer("qwen"), builder.pooling("lasttoken")])
    builder.run()
    builder.run("tokens", ragged=True, output_value="token_embeddings")


def truncate_dim_in_config(builder: FolderBuilder) -> None:
    builder.save([builder.transformer(), builder.pooling(), modules.Normalize()], truncate_dim=12)
    builder.run()
    builder.run("override", truncate_dim=20)


CASES: dict[str, Case] = {
    "postprocessing": Case("normalize_embeddings, truncate_dim, every precision, token embeddings", postprocessing),
    "postprocessing_leftpad_tokens": Case(
        "token embeddings of a left-padded model: only trailing padding is trimmed", left_padded_tokens
    ),
    "truncate_dim_in_config": Case("truncate_dim stored in config_sentence_transformers.json", truncate_dim_in_config),
}
