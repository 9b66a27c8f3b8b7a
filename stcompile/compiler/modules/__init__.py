"""The torch building blocks of a module stack, one a file, with the field's constructor arguments.

Each has the folder format and the math of its sentence-transformers namesake, so a stack can be built from
scratch, saved, and loaded by sentence-transformers, and the other way round.
"""

from stcompile.compiler.modules.base import InputModule, Module
from stcompile.compiler.modules.bow import BoW
from stcompile.compiler.modules.cnn import CNN
from stcompile.compiler.modules.custom import CustomModule
from stcompile.compiler.modules.dense import Dense
from stcompile.compiler.modules.dropout import Dropout
from stcompile.compiler.modules.layer_norm import LayerNorm
from stcompile.compiler.modules.logit_score import LogitScore
from stcompile.compiler.modules.lstm import LSTM
from stcompile.compiler.modules.multi_vector_mask import MultiVectorMask
from stcompile.compiler.modules.normalize import Normalize
from stcompile.compiler.modules.pooling import Pooling
from stcompile.compiler.modules.router import Router
from stcompile.compiler.modules.scores import Scores
from stcompile.compiler.modules.sparse_auto_encoder import SparseAutoEncoder
from stcompile.compiler.modules.sparse_static_embedding import SparseStaticEmbedding
from stcompile.compiler.modules.splade_pooling import SpladePooling
from stcompile.compiler.modules.static_embedding import StaticEmbedding
from stcompile.compiler.modules.token_pooling import HierarchicalTokenPooling
from stcompile.compiler.modules.transformer import Transformer
from stcompile.compiler.modules.weighted_layer_pooling import WeightedLayerPooling
from stcompile.compiler.modules.word_embeddings import WordEmbeddings
from stcompile.compiler.modules.word_tokenizers import (
    PhraseTokenizer,
    TransformersTokenizerWrapper,
    WhitespaceTokenizer,
)
from stcompile.compiler.modules.word_weights import WordWeights

# The name of a Router before sentence-transformers 5.0.
Asym = Router

__all__ = [
    "CNN",
    "LSTM",
    "Asym",
    "BoW",
    "CustomModule",
    "Dense",
    "Dropout",
    "HierarchicalTokenPooling",
    "InputModule",
    "LayerNorm",
    "LogitScore",
    "Module",
    "MultiVectorMask",
    "Normalize",
    "PhraseTokenizer",
    "Pooling",
    "Router",
    "Scores",
    "SparseAutoEncoder",
    "SparseStaticEmbedding",
    "SpladePooling",
    "StaticEmbedding",
    "Transformer",
    "TransformersTokenizerWrapper",
    "WeightedLayerPooling",
    "WhitespaceTokenizer",
    "WordEmbeddings",
    "WordWeights",
]
