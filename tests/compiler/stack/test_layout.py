"""How a stack with Routers is laid out, against sentence-transformers: who is chosen, and what each route is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stcompile import ModuleStack
from stcompile.compiler.export import export_model
from stcompile.compiler.modules import (
    CNN,
    LSTM,
    Dense,
    Pooling,
    Router,
    WhitespaceTokenizer,
    WordEmbeddings,
    WordWeights,
)
from stcompile.compiler.parity.verify import verify_artifact
from stcompile.compiler.stack.load import load_stack
from stcompile.compiler.stack.save import save_stack
from stcompile.errors import InputError, ModelFolderError, UnsupportedError

WORDS = ["PADDING_TOKEN", "one", "two", "three", "four"]
TEXTS = ["one", "one two", "three two four one", "four four"]

# Of two float32 computations of the same few operations.
ROUNDING = 1e-6


def words(*, zero_padding: bool = True) -> WordEmbeddings:
    table = torch.randn(len(WORDS), 6, generator=torch.Generator().manual_seed(3))
    table[0] *= 0 if zero_padding else 1
    return WordEmbeddings(WhitespaceTokenizer(WORDS, stop_words=()), table)


def head(seed: int) -> Dense:
    torch.manual_seed(seed)
    return Dense(6, 6)


def pair(first: int, **options: Any) -> Router:
    return Router({"q": [head(first)], "d": [head(first + 1)]}, **options)


STACKS: dict[str, list[Any]] = {
    # sentence-transformers knows of no modality behind WordEmbeddings, so `text` is not chosen
    "mapping of a modality nobody told": [
        Router({"a": [head(1)], "b": [head(2)]}, default_route="a", route_mappings={(None, "text"): "b"})
    ],
    "route named text": [Router({"a": [head(1)], "text": [head(2)]}, default_route="a")],
    # both ways through are made of q and d
    "two Routers": [
        pair(1, default_route="q", route_mappings={("t2", None): "q", ("t1", None): "d"}),
        pair(3, default_route="d", route_mappings={("t2", None): "d", ("t1", None): "q"}),
    ],
    "three Routers": [
        pair(1, route_mappings={("x", None): "q", ("y", None): "q"}),
        pair(3, route_mappings={("x", None): "d", ("y", None): "d"}),
        pair(5, route_mappings={("x", None): "q", ("y", None): "d"}),
    ],
    "a Router in a Router": [
        Router({"q": [pair(1, default_route="d")], "d": [head(7)]}, route_mappings={("z", None): "q"})
    ],
}


@pytest.mark.parametrize("name", STACKS)
def test_every_task_gets_what_sentence_transformers_gives_it(name: str, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    stack = ModuleStack([words(), Pooling(6), *STACKS[name]])
    save_stack(stack, tmp_path)
    theirs = SentenceTransformer(str(tmp_path), device="cpu")
    assert stack.routing is not None
    for task in (None, *stack.routing.tasks):
        expected = theirs.encode(TEXTS, task=task)
        assert np.abs(stack.encode(TEXTS, task=task) - expected).max() < ROUNDING, task


def test_a_route_is_not_padded_for_the_sake_of_another(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    front = words(zero_padding=False)
    torch.manual_seed(1)
    routes = {"a": [front, CNN(6, 4, [3]), Pooling(4)], "b": [front, CNN(6, 4, [2]), Pooling(4)]}
    stack = ModuleStack([Router(routes)])
    save_stack(stack, tmp_path)
    theirs = SentenceTransformer(str(tmp_path), device="cpu")
    assert np.abs(stack.encode(["one"], task="a") - theirs.encode(["one"], task="a")).max() < ROUNDING


def test_convolutions_add_up_what_they_need(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    torch.manual_seed(1)
    stack = ModuleStack([words(), CNN(6, 4, [2]), CNN(4, 4, [2]), Pooling(4)])
    save_stack(stack, tmp_path)
    found = load_stack(tmp_path).encode(["three two four one"])
    assert (
        np.abs(found - SentenceTransformer(str(tmp_path), device="cpu").encode(["three two four one"])).max() < ROUNDING
    )
    assert load_stack(tmp_path).routes[""].min_seq_length == 3


@pytest.mark.parametrize("block", [LSTM(4, 3), WordWeights(WORDS, {})])
def test_what_counts_tokens_behind_fewer_positions_is_refused(block: Any) -> None:
    with pytest.raises(UnsupportedError, match="left fewer positions than tokens"):
        ModuleStack([words(), CNN(6, 4, [2]), block, Pooling(4)])


def test_a_default_route_that_moved_does_not_verify(tmp_path: Path) -> None:
    model, artifact = tmp_path / "model", tmp_path / "artifact"
    save_stack(ModuleStack([words(), Pooling(6), pair(1, default_route="q")]), model)
    export_model(model, artifact, "onnx-fp32", texts=TEXTS)
    assert verify_artifact(artifact, model, texts=TEXTS).passed
    save_stack(ModuleStack([words(), Pooling(6), pair(1, default_route="d")]), model)
    with pytest.raises(ModelFolderError, match=r"no task -> q.* instead of .*no task -> d"):
        verify_artifact(artifact, model, texts=TEXTS)


@pytest.mark.parametrize(
    ("routes", "options", "sentence"),
    [
        ({}, {}, "needs at least one module"),
        ({"a": []}, {}, "needs at least one module"),
        ({"a": [Pooling(6)]}, {"default_route": "b"}, "there is no route 'b'"),
        ({"a": [Pooling(6)]}, {"route_mappings": {("x", None): "c"}}, "there is no route 'c'"),
        ({"a": [Pooling(6)]}, {"route_mappings": {"a": "a"}}, "pairs of a task and a modality"),
    ],
)
def test_a_router_that_cannot_route_is_refused(routes: Any, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Router(routes, **options)
