"""`config_sentence_transformers.json`: prompts, similarity and what else belongs to no module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stcompile.artifact.manifest import ENCODER, MAXSIM, MAXSIMS, MULTI_VECTOR, RERANKER, SIMILARITIES, SPARSE
from stcompile.compiler.stack.multi_vector import MULTI_VECTOR_ENCODER, PYLATES
from stcompile.errors import ModelFolderError

# What sentence-transformers calls the classes of what we compile.
_MODEL_TYPES = {
    ENCODER: "SentenceTransformer",
    RERANKER: "CrossEncoder",
    SPARSE: "SparseEncoder",
    MULTI_VECTOR: MULTI_VECTOR_ENCODER,
}

# How alike two vectors are where nothing is stored.
_SIMILARITY = {ENCODER: "cosine", RERANKER: "cosine", SPARSE: "dot", MULTI_VECTOR: MAXSIM}


@dataclass(frozen=True)
class Settings:
    """What a model is, besides its modules: arguments of `ModuleStack`. Prompts always have `query` and `document`."""

    prompts: dict[str, str]
    default_prompt_name: str | None
    similarity: str
    truncate_dim: int | None
    kind: str = ENCODER
    max_active_dims: int | None = None


def settings_of(stored: dict[str, Any], kind: str, reasons: list[str]) -> Settings:
    """Checks the content of the file, whose every key may be absent. What cannot be compiled is added to the reasons.

    `kind` is what the model is, one of `ANSWERS`.

    Raises:
        ModelFolderError: the prompts are no texts by name.
    """
    named = stored.get("model_type", _MODEL_TYPES[kind])
    if named not in (*_MODEL_TYPES.values(), PYLATES):
        named = named if isinstance(named, str) else f"model of type {named!r}"
        reasons.append(f"it is a {named}: stcompile compiles {', '.join(_MODEL_TYPES.values())}")
    prompts = _prompts(stored)
    default = stored.get("default_prompt_name")
    if default is not None and (not isinstance(default, str) or default not in prompts):
        reasons.append(
            f"default_prompt_name {default!r} is not among its prompts: correct config_sentence_transformers.json"
        )
    similarity = stored.get("similarity_fn_name") or _SIMILARITY[kind]
    if kind == MULTI_VECTOR:
        # PyLate writes its own spelling, and what is none of those is not read.
        similarity = similarity if similarity in MAXSIMS else MAXSIM
    elif similarity not in SIMILARITIES:
        known = ", ".join(SIMILARITIES)
        reasons.append(
            f"its similarity {similarity!r} is not one of {known}: correct config_sentence_transformers.json"
        )
    # Of sparse vectors a part of the vocabulary is no vector, and vectors of tokens are compared whole.
    kept = None if kind in (SPARSE, MULTI_VECTOR) else _truncate_dim(stored, reasons)
    return Settings(prompts, default, str(similarity), kept, kind)


def _prompts(stored: dict[str, Any]) -> dict[str, str]:
    found = stored.get("prompts") or {}
    if not isinstance(found, dict) or not all(isinstance(text, (str, type(None))) for text in found.values()):
        raise ModelFolderError("prompts in config_sentence_transformers.json must map names to texts")
    # sentence-transformers 5.0+ gives every model these two, so that encode_query never uses the default prompt, and
    # takes null for no text.
    return {"query": "", "document": "", **{name: text or "" for name, text in found.items()}}


def _truncate_dim(stored: dict[str, Any], reasons: list[str]) -> int | None:
    kept = stored.get("truncate_dim")
    if kept is not None and (not isinstance(kept, int) or isinstance(kept, bool) or kept < 1):
        reasons.append(f"truncate_dim is {kept!r}: it must be a positive whole number or null")
        return None
    return kept
