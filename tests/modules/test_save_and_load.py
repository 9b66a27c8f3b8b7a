"""Every building block: built from scratch, saved, loaded by sentence-transformers, and the other way round."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules as st
from torch import nn

from stcompile.errors import InputError
from stcompile.modules import Dense, Dropout, LayerNorm, Module, Normalize, Pooling, Transformer
from stcompile.modules.activations import ACTIVATIONS
from stcompile.modules.pooling import POOLING_MODES
from stcompile.stack import checks
from stcompile.stack.load import load_stack
from stcompile.stack.module_stack import ModuleStack
from stcompile.stack.save import save_stack
from tests.conftest import MODELS, transformer_of

HIDDEN = 32
TEXTS = ["", "hello", "The quick brown fox jumps over the lazy dog.", "new york city " * 40]
PROMPTS = {"query": "query: ", "document": ""}

# Two float32 computations of the same few layers, in another order of batches; measured 2.2e-7.
ROUNDING = 1e-6

# What follows a Transformer of width 32; one row a module and variant, ours and sentence-transformers' own.
STACKS: dict[str, tuple[Callable[[], list[Module]], Callable[[], list[Any]]]] = {
    "transformer": (lambda: [Pooling(HIDDEN)], lambda: [st.Pooling(HIDDEN)]),
    **{
        f"pooling-{mode}": (
            lambda mode=mode: [Pooling(HIDDEN, mode)],  # type: ignore[misc]
            lambda mode=mode: [st.Pooling(HIDDEN, mode)],  # type: ignore[misc]
        )
        for mode in POOLING_MODES
    },
    "pooling-concatenated": (
        lambda: [Pooling(HIDDEN, ["max", "cls", "max"])],
        lambda: [st.Pooling(HIDDEN, ["max", "cls", "max"])],
    ),
    "pooling-without-prompt": (
        lambda: [Pooling(word_embedding_dimension=HIDDEN, include_prompt=False)],
        lambda: [st.Pooling(HIDDEN, include_prompt=False)],
    ),
    **{
        f"dense-{name}": (
            lambda kind=kind: [Pooling(HIDDEN), seeded(Dense(HIDDEN, 24, activation_function=kind()))],  # type: ignore[misc]
            lambda kind=kind: [st.Pooling(HIDDEN), seeded(st.Dense(HIDDEN, 24, activation_function=kind()))],  # type: ignore[misc]
        )
        for name, kind in ACTIVATIONS.items()
    },
    "dense-no-bias-residual": (
        lambda: [Pooling(HIDDEN), seeded(Dense(HIDDEN, 24, bias=False, use_residual=True))],
        lambda: [st.Pooling(HIDDEN), seeded(st.Dense(HIDDEN, 24, bias=False, use_residual=True))],
    ),
    "dense-on-tokens": (
        lambda: [seeded(Dense(HIDDEN, 16, module_input_name="token_embeddings")), Pooling(16)],
        lambda: [seeded(st.Dense(HIDDEN, 16, module_input_name="token_embeddings")), st.Pooling(16)],
    ),
    "layer-norm": (
        lambda: [Pooling(HIDDEN), seeded(LayerNorm(HIDDEN))],
        lambda: [st.Pooling(HIDDEN), seeded(st.LayerNorm(HIDDEN))],
    ),
    "dropout": (lambda: [Pooling(HIDDEN), Dropout(0.4)], lambda: [st.Pooling(HIDDEN), st.Dropout(0.4)]),
    "normalize": (lambda: [Pooling(HIDDEN), Normalize()], lambda: [st.Pooling(HIDDEN), st.Normalize()]),
    "normalize-tokens": (
        lambda: [Normalize("token_embeddings"), Pooling(HIDDEN)],
        lambda: [st.Normalize("token_embeddings"), st.Pooling(HIDDEN)],
    ),
}


def seeded(module: Any) -> Any:
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return module


def transformer(**options: Any) -> Transformer:
    return Transformer(MODELS / "plain_bert", max_seq_length=48, **options)


def difference(left: Any, right: Any) -> float:
    return float(np.abs(left - right).max() / np.linalg.norm(left, axis=1).max())


@pytest.mark.parametrize("name", STACKS)
def test_sentence_transformers_loads_what_we_save(name: str, tmp_path: Path) -> None:
    stack = ModuleStack([transformer(), *STACKS[name][0]()], prompts=PROMPTS, similarity="dot")
    save_stack(stack, tmp_path)
    loaded = SentenceTransformer(str(tmp_path), device="cpu")
    assert loaded.max_seq_length == 48
    assert loaded.prompts == PROMPTS
    assert loaded.similarity_fn_name == "dot"
    for prompt in ("", "query: "):
        expected = loaded.encode(TEXTS, prompt=prompt)
        assert difference(expected, stack.encode(TEXTS, prompt)) <= ROUNDING


@pytest.mark.parametrize("name", STACKS)
def test_we_load_what_sentence_transformers_saves(name: str, tmp_path: Path) -> None:
    first = st.Transformer(str(MODELS / "plain_bert"), max_seq_length=48)
    original = SentenceTransformer(modules=[first, *STACKS[name][1]()], prompts=PROMPTS, device="cpu")
    original.save_pretrained(str(tmp_path), create_model_card=False)
    stack = load_stack(tmp_path)
    assert transformer_of(stack).max_seq_length == 48
    for prompt in ("", "query: "):
        expected = original.encode(TEXTS, prompt=prompt)
        assert difference(expected, stack.encode(TEXTS, prompt)) <= ROUNDING


@pytest.mark.parametrize("name", STACKS)
def test_our_own_round_trip(name: str, tmp_path: Path) -> None:
    stack = ModuleStack([transformer(), *STACKS[name][0]()], default_prompt_name="query", truncate_dim=8)
    save_stack(stack, tmp_path)
    loaded = load_stack(tmp_path)
    assert loaded.summaries() == stack.summaries()
    assert (loaded.default_prompt_name, loaded.truncate_dim) == ("query", 8)
    assert np.array_equal(loaded.encode(TEXTS), stack.encode(TEXTS))


def test_transformer_options_survive(tmp_path: Path) -> None:
    options: dict[str, Any] = {"do_lower_case": True, "processing_kwargs": {"text": {"max_length": 9}}}
    last_but_one = {"text": {"method": "forward", "method_output_name": ["hidden_states", -2]}}
    stack = ModuleStack([transformer(modality_config=last_but_one, **options), Pooling(HIDDEN)])
    save_stack(stack, tmp_path)
    assert transformer_of(load_stack(tmp_path)).max_seq_length == 9
    expected = SentenceTransformer(str(tmp_path), device="cpu").encode(TEXTS)
    assert difference(expected, stack.encode(TEXTS)) <= ROUNDING


def test_a_tokenizer_from_elsewhere() -> None:
    first = Transformer(MODELS / "plain_bert", tokenizer_name_or_path=MODELS / "cased_vocab")
    assert first.tokenizer.tokenize("Hello") == ["Hello"]


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: Pooling(HIDDEN, "median"), "unknown pooling mode 'median'"),
        (Pooling, "no embedding_dimension"),
        (lambda: Dense(2, 2, activation_function=nn.Linear(2, 2)), "not a torch.nn activation"),
        (lambda: ModuleStack([Pooling(HIDDEN)]), "starts with a Transformer"),
    ],
)
def test_wrong_arguments_are_one_clear_error(build: Callable[[], Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        build()


def test_the_checks_know_what_the_modules_know() -> None:
    """The checks are tables of their own, because they must work without torch."""
    assert set(checks.POOLING_MODES) == set(POOLING_MODES)
    assert set(checks.ACTIVATION_NAMES) == set(ACTIVATIONS)
