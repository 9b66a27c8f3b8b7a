"""What a fingerprint is made of: the model as it was read, whichever folder, number type or release it came from."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch

from stcompile.artifact.space import VectorSpace
from stcompile.artifact.target import Target
from stcompile.compiler.modules import Transformer
from stcompile.compiler.stack.module_stack import ModuleStack
from stcompile.compiler.stack.route import Route
from stcompile.runtime.text.base import Text

# What the same model says otherwise from release to release, or from folder to folder, without another vector.
_UNTOLD = ("modality_config", "processing_kwargs", "max_seq_length")

# Numbers that are made float32 at once.
_PIECE = 1 << 20

# Changing these changes the fingerprint of every model.
_TEXTS: tuple[Text, ...] = (
    "",
    "The quick brown Fox jumps over 13 lazy dogs.",
    "naïve café, Straße, İstanbul; Ünïcödé",
    "新しい列車は時速500キロで走る。 Привет, мир! مرحبا بالعالم",
    "def f(x):\n\treturn x ** 2  # 3.14e-10",
    "🙂 [MASK] <s> </s> [SEP]",
)
_PAIRS: tuple[Text, ...] = (("what does a fox jump over?", "The quick brown Fox jumps over 13 lazy dogs."),)


def vector_space(stack: ModuleStack, target: Target) -> VectorSpace:
    """What the vectors of an artifact of a model have in common with those that compare with them.

    Weights are compared as float32, each for itself: releases of transformers name them differently, and a checkpoint
    in bfloat16 is the same model as its copy in float32.
    """
    kept = stack.dim if stack.truncate_dim is None else min(stack.dim, stack.truncate_dim)
    routing = None if stack.routing is None else sorted(stack.routing.tasks.items())
    summaries = [
        [item.type, {key: value for key, value in item.config.items() if key not in _UNTOLD}]
        for item in stack.summaries()
    ]
    return VectorSpace(
        weights=_part(sorted(_digest(tensor) for _, tensor in stack.named_parameters())),
        modules=_part([stack.kind, summaries, routing]),
        tokens=_part([[name, _tokens(route)] for name, route in sorted(stack.routes.items())]),
        prompts=_part([stack.prompts, stack.default_prompt_name]),
        dim=kept,
        precision=target.precision,
    )


def _tokens(route: Route) -> list[Any]:
    front = route.front
    texts = _PAIRS if isinstance(front, Transformer) and front.wants_pairs else _TEXTS
    return [front.max_seq_length, [_ids(route, text) for text in texts]]


def _ids(route: Route, text: Text) -> list[int] | None:
    try:
        found: list[int] = route.feeds([text])["input_ids"].ravel().tolist()
    except Exception:  # a tokenizer without a token for what it does not know raises bare Exception
        return None
    return found


def _digest(tensor: torch.Tensor) -> str:
    found = hashlib.sha256(repr(tuple(tensor.shape)).encode())
    # Piece by piece: a table of embeddings in bfloat16 would be in memory as float32, too.
    flat = tensor.detach().flatten()
    for start in range(0, len(flat), _PIECE):
        piece = flat[start : start + _PIECE]
        content: Any = piece.to(torch.float32).contiguous().view(torch.uint8).numpy()
        found.update(content)
    return found.hexdigest()


def _part(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]
