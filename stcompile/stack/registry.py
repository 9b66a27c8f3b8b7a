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
        saved_as: the type path we write: the old one, which every release still reads.
    """

    name: str
    home: str
    config_files: tuple[str, ...] = ("config.json",)

    @property
    def saved_as(self) -> str:
        return f"{_OLD}.{self.name}"


SUPPORTED = {
    kind.name: kind
    for kind in (
        ModuleType("Transformer", f"{_BASE}.transformer", TRANSFORMER_CONFIG_FILES),
        ModuleType("Pooling", f"{_ST}.pooling"),
        ModuleType("Dense", f"{_BASE}.dense"),
        ModuleType("LayerNorm", f"{_ST}.layer_norm"),
        ModuleType("Dropout", f"{_ST}.dropout"),
        ModuleType("Normalize", f"{_BASE}.normalize"),
    )
}

# Classes of the first releases that are a Transformer under the name of their network.
_LEGACY_TRANSFORMERS = ("BERT", "RoBERTa", "DistilBERT", "ALBERT", "CamemBERT", "XLMRoBERTa", "XLNet")

_LATER = "is not compiled yet: keep this model on sentence-transformers until a release of stcompile names it"
_SPARSE = "belongs to sparse encoders: stcompile compiles dense sentence embeddings"
_MULTI_VECTOR = "belongs to multi-vector encoders: stcompile compiles one vector per text"

REFUSED = {
    "Asym": _LATER,
    "Router": _LATER,
    "BoW": _LATER,
    "CLIPModel": _LATER,
    "CNN": _LATER,
    "LSTM": _LATER,
    "StaticEmbedding": _LATER,
    "WeightedLayerPooling": _LATER,
    "WordEmbeddings": _LATER,
    "WordWeights": _LATER,
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
    if not type_path.startswith("sentence_transformers."):
        return None, f"is code of its own ({type_path}), which stcompile does not run: compile a stack without it"
    if name in _LEGACY_TRANSFORMERS and type_path == f"{_OLD}.{name}":
        return SUPPORTED["Transformer"], ""
    kind = SUPPORTED.get(name)
    if kind is not None and type_path in _accepted_paths(kind):
        return kind, ""
    if name in REFUSED:
        return None, REFUSED[name]
    return None, f"is not a module stcompile knows ({type_path}): check the spelling in modules.json"


def _accepted_paths(kind: ModuleType) -> set[str]:
    leaf = kind.home.rpartition(".")[2]
    packages = (_ST, _BASE)
    return {
        f"{_OLD}.{kind.name}",
        f"{_OLD}.{kind.name}.{kind.name}",
        *(f"{package}.{kind.name}" for package in packages),
        # Normalize moved between the two packages in 6.0; both spellings are in published folders.
        *(f"{package}.{leaf}.{kind.name}" for package in packages),
    }
