"""Every module class a folder may name: where its type paths point, and who builds it."""

from __future__ import annotations

from dataclasses import dataclass

_ST = "sentence_transformers.sentence_transformer.modules"
_BASE = "sentence_transformers.base.modules"
_OLD = "sentence_transformers.models"

TRANSFORMER_CONFIG_FILES = (
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
)


@dataclass(frozen=True)
class ModuleType:
    """One module class of the format.

    Attributes:
        name: the class, e.g. `Pooling`.
        home: its module path since sentence-transformers 5.4.
        config_files: names its configuration may have, first existing wins.
        reads_text: whether it turns text into features, and so stands first.
        other_names: what else it was called.
    """

    name: str
    home: str
    config_files: tuple[str, ...] = ("config.json",)
    reads_text: bool = False
    other_names: tuple[str, ...] = ()


SUPPORTED = {
    kind.name: kind
    for kind in (
        ModuleType("Transformer", f"{_BASE}.transformer", TRANSFORMER_CONFIG_FILES, reads_text=True),
        ModuleType("CLIPModel", f"{_ST}.clip_model", TRANSFORMER_CONFIG_FILES, reads_text=True),
        ModuleType("StaticEmbedding", f"{_ST}.static_embedding", (), reads_text=True),
        ModuleType("WordEmbeddings", f"{_ST}.word_embeddings", ("wordembedding_config.json",), reads_text=True),
        ModuleType("BoW", f"{_ST}.bow", reads_text=True),
        ModuleType("Router", f"{_BASE}.router", ("router_config.json", "config.json"), other_names=("Asym",)),
        ModuleType("WeightedLayerPooling", f"{_ST}.weighted_layer_pooling"),
        ModuleType("WordWeights", f"{_ST}.word_weights"),
        ModuleType("CNN", f"{_ST}.cnn", ("cnn_config.json",)),
        ModuleType("LSTM", f"{_ST}.lstm", ("lstm_config.json",)),
        ModuleType("Pooling", f"{_ST}.pooling"),
        ModuleType("Dense", f"{_BASE}.dense"),
        ModuleType("LayerNorm", f"{_ST}.layer_norm"),
        ModuleType("Dropout", f"{_ST}.dropout"),
        ModuleType("Normalize", f"{_BASE}.normalize"),
    )
}

# Classes of the first releases that are a Transformer under the name of their network.
_LEGACY_TRANSFORMERS = ("BERT", "RoBERTa", "DistilBERT", "ALBERT", "CamemBERT", "XLMRoBERTa", "XLNet")

_SPARSE = "belongs to sparse encoders: stcompile compiles dense sentence embeddings"
_MULTI_VECTOR = "belongs to multi-vector encoders: stcompile compiles one vector per text"

REFUSED = {
    "MLMTransformer": _SPARSE,
    "SpladePooling": _SPARSE,
    "SparseStaticEmbedding": _SPARSE,
    "SparseAutoEncoder": _SPARSE,
    "LogitScore": "belongs to cross-encoders: stcompile compiles sentence embeddings",
    "MultiVectorMask": _MULTI_VECTOR,
    "HierarchicalTokenPooling": _MULTI_VECTOR,
    "T5": "prepended a fixed task text and was removed from sentence-transformers: save it again with Transformer",
    "WKPooling": "was removed from sentence-transformers: train the model again with Pooling",
}


def resolve(type_path: str) -> tuple[ModuleType | None, str]:
    """The module type a type path of any generation names.

    Returns:
        the type and an empty string, or None and why it is refused, as the end of a sentence.
    """
    name = type_path.rpartition(".")[2]
    if name in _LEGACY_TRANSFORMERS and type_path == f"{_OLD}.{name}":
        return SUPPORTED["Transformer"], ""
    kind = _BY_PATH.get(type_path)
    if kind is not None:
        return kind, ""
    if name in REFUSED:
        return None, REFUSED[name]
    return None, f"is not a module stcompile knows ({type_path}): check the spelling in modules.json"


def is_custom(type_path: str) -> bool:
    """Whether a type path names code that comes with the model, or a package of somebody else's."""
    return not type_path.startswith("sentence_transformers.")


def _accepted_paths(kind: ModuleType, name: str) -> set[str]:
    leaf = kind.home.rpartition(".")[2]
    packages = (_ST, _BASE)
    return {
        f"{_OLD}.{name}",
        f"{_OLD}.{name}.{name}",
        *(f"{package}.{name}" for package in packages),
        # Normalize moved between the two packages in 6.0; both spellings are in published folders.
        *(f"{package}.{leaf}.{name}" for package in packages),
    }


_BY_PATH = {
    path: kind
    for kind in SUPPORTED.values()
    for name in (kind.name, *kind.other_names)
    for path in _accepted_paths(kind, name)
}
