"""WordEmbeddings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from stcompile.compiler.kinds.base import Config, ModuleType, keep
from stcompile.compiler.kinds.folder import Folder
from stcompile.compiler.kinds.network_files import tokenizer_problems
from stcompile.compiler.kinds.values import not_positive


def _problems(config: Config) -> Iterator[str]:
    if not isinstance(config.get("tokenizer_class"), str):
        yield "its wordembedding_config.json names no tokenizer_class: copy the model again"
    if config.get("max_seq_length") is not None:
        yield from not_positive(config, "max_seq_length")


def _file_problems(folder: Folder, path: str, config: Config) -> Iterable[str]:
    wraps_transformers = str(config.get("tokenizer_class")).endswith("TransformersTokenizerWrapper")
    return tokenizer_problems(folder, path) if wraps_transformers else ()


KIND = ModuleType(
    "WordEmbeddings",
    "word_embeddings",
    config_files=("wordembedding_config.json",),
    normalized=keep("tokenizer_class", "update_embeddings", "max_seq_length"),
    problems=_problems,
    file_problems=_file_problems,
    reads_text=True,
    keywords="ignored",
)
