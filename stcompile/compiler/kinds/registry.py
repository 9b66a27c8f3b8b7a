"""The table of module types, and which of them a type path of any generation names."""

from __future__ import annotations

from stcompile.compiler.kinds import (
    bow,
    clip_model,
    cnn,
    custom,
    dense,
    dropout,
    layer_norm,
    logit_score,
    lstm,
    mlm_transformer,
    multi_vector_mask,
    normalize,
    pooling,
    router,
    sparse_auto_encoder,
    sparse_static_embedding,
    splade_pooling,
    static_embedding,
    token_pooling,
    transformer,
    weighted_layer_pooling,
    word_embeddings,
    word_weights,
)
from stcompile.compiler.kinds.base import ModuleType

_MODULES = (
    *(transformer, clip_model, static_embedding, word_embeddings, bow, router, weighted_layer_pooling, word_weights),
    *(cnn, lstm, pooling, dense, layer_norm, dropout, normalize, logit_score),
    *(mlm_transformer, splade_pooling, sparse_auto_encoder, sparse_static_embedding),
    *(multi_vector_mask, token_pooling, custom),
)

KINDS: dict[str, ModuleType] = {module.KIND.name: module.KIND for module in _MODULES}

REFUSED = {
    "LambdaTokenPooling": "is a function of Python, which no folder holds: pool tokens with HierarchicalTokenPooling",
    "T5": "prepended a fixed task text and was removed from sentence-transformers: save it again with Transformer",
    "WKPooling": "was removed from sentence-transformers: train the model again with Pooling",
}

_BY_PATH = {path: kind for kind in KINDS.values() for path in kind.type_paths}


def resolve(type_path: str) -> tuple[ModuleType | None, str]:
    """The module type a type path of sentence-transformers names.

    Returns:
        the type and an empty string, or None and why it is refused, as the end of a sentence.
    """
    name = type_path.rpartition(".")[2]
    if type_path in _BY_PATH:
        return _BY_PATH[type_path], ""
    if name in REFUSED:
        return None, REFUSED[name]
    return None, f"is not a module stcompile knows ({type_path}): check the spelling in modules.json"


def is_custom(type_path: str) -> bool:
    """Whether a type path names code that comes with the model, or a package of somebody else's."""
    return type_path not in _BY_PATH and not type_path.startswith("sentence_transformers.")
