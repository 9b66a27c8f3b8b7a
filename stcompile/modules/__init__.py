"""The torch building blocks of a module stack, one a file, with the field's constructor arguments.

Each has the folder format and the math of its sentence-transformers namesake, so a stack can be built from
scratch, saved, and loaded by sentence-transformers, and the other way round.
"""

from stcompile.modules.base import InputModule, Module
from stcompile.modules.bow import BoW
from stcompile.modules.cnn import CNN
from stcompile.modules.custom import CustomModule
from stcompile.modules.dense import Dense
from stcompile.modules.dropout import Dropout
from stcompile.modules.layer_norm import LayerNorm
from stcompile.modules.lstm import LSTM
from stcompile.modules.normalize import Normalize
from stcompile.modules.pooling import Pooling
from stcompile.modules.router import Router
from stcompile.modules.static_embedding import StaticEmbedding
from stcompile.modules.transformer import Transformer
from stcompile.modules.weighted_layer_pooling import WeightedLayerPooling
from stcompile.modules.word_embeddings import WordEmbeddings
from stcompile.modules.word_tokenizers import PhraseTokenizer, TransformersTokenizerWrapper, WhitespaceTokenizer
from stcompile.modules.word_weights import WordWeights

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
    "InputModule",
    "LayerNorm",
    "Module",
    "Normalize",
    "PhraseTokenizer",
    "Pooling",
    "Router",
    "StaticEmbedding",
    "Transformer",
    "TransformersTokenizerWrapper",
    "WeightedLayerPooling",
    "WhitespaceTokenizer",
    "WordEmbeddings",
    "WordWeights",
]
