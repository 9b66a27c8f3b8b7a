"""A Transformer stack distilled into static token embeddings, through the model2vec package."""

from __future__ import annotations

import contextlib
import io

from tokenizers import Tokenizer

from stcompile.artifact.target import PCA_DIMS
from stcompile.compiler.kinds.transformer import TEXT_ONLY
from stcompile.compiler.modules import Dropout, Normalize, Pooling, StaticEmbedding, Transformer
from stcompile.compiler.modules.model2vec import table_of
from stcompile.compiler.stack.module_stack import ModuleStack
from stcompile.errors import InputError, UnsupportedError, one_line
from stcompile.extras import require

# What a table of single tokens loses nothing of; it ends in a Normalize in any case.
_HARMLESS = (Pooling, Normalize, Dropout)

# Our pooling mode to model2vec's: how it makes one vector of the tokens of a single word.
_POOLING = {"mean": "mean", "cls": "first", "lasttoken": "last"}


def distilled(stack: ModuleStack, *, pca_dims: int | None = PCA_DIMS) -> ModuleStack:
    """Static token embeddings that imitate a model: a table of what its network makes of each token alone.

    The result has no prompts: a static model has no context that could read them. It keeps `truncate_dim`, since
    principal components come in the order of what they carry, and the length limit. The network of `stack` is used up:
    its table of tokens is rearranged.

    Args:
        stack: a Transformer with mean, cls or lasttoken pooling.
        pca_dims: dimensions to keep; None keeps the network's, without principal component analysis.

    Returns:
        StaticEmbedding and Normalize, with the similarity `cosine`.

    Raises:
        InputError: `pca_dims` is no positive number.
        UnsupportedError: the stack has nothing that can be distilled, or more than can be.
        MissingExtraError: model2vec is not installed.
    """
    if pca_dims is not None and (not isinstance(pca_dims, int) or isinstance(pca_dims, bool) or pca_dims < 1):
        raise InputError(f"pca_dims must be a positive whole number or None, got {pca_dims!r}")
    model2vec = require("model2vec.distill", "Distilling a model")
    transformer, mode = _distillable(stack)
    kept = None if pca_dims is None else min(pca_dims, transformer.hidden_size)
    # It draws a progress bar of its own, into whatever else is being drawn.
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            found = model2vec.distill_from_model(
                model=transformer.network,
                tokenizer=transformer.tokenizer,
                device="cpu",
                pca_dims=kept,
                quantize_to="float32",
                pooling=_POOLING[mode],
            )
    except Exception as error:  # of model2vec, transformers or scikit-learn
        raise UnsupportedError(stack.name, f"model2vec cannot distill its network ({one_line(error)})") from error
    embedding = StaticEmbedding(_limited(found.tokenizer, transformer), table_of(found))
    return ModuleStack([embedding, Normalize()], truncate_dim=stack.truncate_dim, name=stack.name)


def _limited(tokenizer: Tokenizer, transformer: Transformer) -> Tokenizer:
    """Cuts texts where the model itself does: releases of model2vec leave different limits in the tokenizer."""
    own = Tokenizer.from_str(tokenizer.to_str())
    if transformer.max_seq_length is None:
        own.no_truncation()
    else:
        own.enable_truncation(transformer.max_seq_length, direction=transformer.tokenizer.truncation_side)
    return own


def _distillable(stack: ModuleStack) -> tuple[Transformer, str]:
    if stack.routing is not None and sum(route.shares is None for route in stack.routes.values()) == 1:
        raise UnsupportedError(
            stack.name,
            "queries and documents are cut each at a length of its own, and static embeddings know one: set "
            "query_length and document_length to null",
        )
    if stack.routing is not None:
        raise UnsupportedError(
            stack.name,
            "a Router has no one model to distill, nor has a network that each task adapts: distill one of them",
        )
    route = stack.routes[""]
    front = route.front
    if not isinstance(front, Transformer):
        raise UnsupportedError(
            stack.name, f"its {type(front).__name__} is no network that could be distilled: use target onnx-fp32"
        )
    modes = [mode for block in route.blocks if isinstance(block, Pooling) for mode in block.modes]
    if len(modes) != 1 or modes[0] not in _POOLING:
        raise UnsupportedError(
            stack.name, f"it pools {' and '.join(modes) or 'nothing'}: distillation knows {', '.join(_POOLING)}"
        )
    lost = [type(block).__name__ for block in route.blocks if not isinstance(block, (Transformer, *_HARMLESS))]
    text = front.modality_config["text"]
    if text != TEXT_ONLY["text"]:
        lost.append(f"output {text['method_output_name']}")
    if lost:
        raise UnsupportedError(
            stack.name,
            f"its {' and '.join(lost)} would be lost, since distillation knows the network alone: distill it without",
        )
    return front, modes[0]
