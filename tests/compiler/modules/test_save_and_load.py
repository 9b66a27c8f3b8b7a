"""Every building block: built from scratch, saved, loaded by sentence-transformers, and the other way round."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules as st
from sentence_transformers.sentence_transformer.modules import tokenizer as st_tokenizers
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoTokenizer

from stcompile.compiler import modules
from stcompile.compiler.kinds.pooling import POOLING_MODES
from stcompile.compiler.kinds.registry import KINDS
from stcompile.compiler.modules import (
    CNN,
    LSTM,
    Asym,
    BoW,
    Dense,
    Dropout,
    LayerNorm,
    Module,
    Normalize,
    PhraseTokenizer,
    Pooling,
    Router,
    StaticEmbedding,
    Transformer,
    TransformersTokenizerWrapper,
    WeightedLayerPooling,
    WhitespaceTokenizer,
    WordEmbeddings,
    WordWeights,
)
from stcompile.compiler.modules.dense import ACTIVATIONS
from stcompile.compiler.stack.load import load_stack
from stcompile.compiler.stack.module_stack import ModuleStack
from stcompile.compiler.stack.save import save_stack
from stcompile.errors import InputError
from tests.conftest import MODELS, Case, load_case, transformer_of
from tests.test_golden import HALF_PRECISION, scaled_error

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
    "weighted-layer-pooling": (
        lambda: [seeded(WeightedLayerPooling(HIDDEN, 2, 1)), Pooling(HIDDEN)],
        lambda: [seeded(st.WeightedLayerPooling(HIDDEN, 2, 1)), st.Pooling(HIDDEN)],
    ),
    "cnn": (
        lambda: [seeded(CNN(HIDDEN, 8, [1, 3])), Pooling(16)],
        lambda: [seeded(st.CNN(HIDDEN, 8, [1, 3])), st.Pooling(16)],
    ),
    "word-weights": (
        lambda: [WordWeights(token_names(), {"fox": 3, "dog": 0.25}, 0.5), Pooling(HIDDEN)],
        lambda: [st.WordWeights(token_names(), {"fox": 3, "dog": 0.25}, 0.5), st.Pooling(HIDDEN)],
    ),
}

WORDS = ["PADDING_TOKEN", "hello", "The", "quick", "brown", "fox", "jumps", "lazy", "dog", "new_york", "new", "city"]
WIDTH = 6

# Stacks with another front than a Transformer, ours and sentence-transformers' own.
FRONTS: dict[str, tuple[Callable[[], list[Module]], Callable[[], list[Any]]]] = {
    "static": (
        lambda: [StaticEmbedding(static_tokenizer(), table(341))],
        lambda: [st.StaticEmbedding(static_tokenizer(), embedding_weights=table(341).numpy())],
    ),
    "words": (
        lambda: [WordEmbeddings(WhitespaceTokenizer(WORDS, ["The"]), table(len(WORDS))), Pooling(WIDTH)],
        lambda: [
            st.WordEmbeddings(st_tokenizers.WhitespaceTokenizer(WORDS, ["The"]), table(len(WORDS))),
            st.Pooling(WIDTH),
        ],
    ),
    "words-with-a-limit": (
        lambda: [WordEmbeddings(WhitespaceTokenizer(WORDS), table(len(WORDS)), True, 4), Pooling(WIDTH, "max")],
        lambda: [
            st.WordEmbeddings(st_tokenizers.WhitespaceTokenizer(WORDS), table(len(WORDS)), True, 4),
            st.Pooling(WIDTH, "max"),
        ],
    ),
    "words-without-a-limit": (
        lambda: [
            WordEmbeddings(WhitespaceTokenizer(WORDS), table(len(WORDS)), max_seq_length=None),
            Pooling(WIDTH),
        ],
        lambda: [
            st.WordEmbeddings(st_tokenizers.WhitespaceTokenizer(WORDS), table(len(WORDS)), max_seq_length=None),
            st.Pooling(WIDTH),
        ],
    ),
    "phrases": (
        lambda: [WordEmbeddings(PhraseTokenizer(WORDS, max_ngram_length=2), table(len(WORDS))), Pooling(WIDTH)],
        lambda: [
            st.WordEmbeddings(st_tokenizers.PhraseTokenizer(WORDS, max_ngram_length=2), table(len(WORDS))),
            st.Pooling(WIDTH),
        ],
    ),
    "words-of-a-transformers-tokenizer": (
        lambda: [WordEmbeddings(TransformersTokenizerWrapper(own_tokenizer()), table(341)), Pooling(WIDTH)],
        lambda: [st.WordEmbeddings(own_tokenizer(), table(341)), st.Pooling(WIDTH)],
    ),
    "lstm": (
        lambda: [
            WordEmbeddings(WhitespaceTokenizer(WORDS), table(len(WORDS))),
            seeded(LSTM(WIDTH, 5, 2, bidirectional=False)),
            Pooling(5),
        ],
        lambda: [
            st.WordEmbeddings(st_tokenizers.WhitespaceTokenizer(WORDS), table(len(WORDS))),
            seeded(st.LSTM(WIDTH, 5, 2, bidirectional=False)),
            st.Pooling(5),
        ],
    ),
    "bow": (
        lambda: [BoW(WORDS, {"fox": 3, "dog": 0.25}, 0.5), seeded(Dense(len(WORDS), 8))],
        lambda: [st.BoW(WORDS, {"fox": 3, "dog": 0.25}, 0.5), seeded(st.Dense(len(WORDS), 8))],
    ),
    "bow-once": (
        lambda: [BoW(WORDS, cumulative_term_frequency=False)],
        lambda: [st.BoW(WORDS, cumulative_term_frequency=False)],
    ),
    "router": (
        lambda: [Router.for_query_document([StaticEmbedding(static_tokenizer(), table(341))], document()), Normalize()],
        lambda: [
            st.Router.for_query_document(
                [st.StaticEmbedding(static_tokenizer(), embedding_weights=table(341).numpy())], st_document()
            ),
            st.Normalize(),
        ],
    ),
}

# A golden model for each name of stcompile.compiler.modules; what it holds is checked.
GOLDEN_OF: dict[str, tuple[str, ...]] = {
    "Transformer": ("pool_mean", "backbone_qwen3_lasttoken", "clip_text"),
    "Pooling": ("pool_concat_sqrt_weighted",),
    "Dense": ("dense_prelu",),
    "LayerNorm": ("layernorm",),
    "Dropout": ("dropout",),
    "Normalize": ("normalize_token_level",),
    "WeightedLayerPooling": ("weighted_layer_pooling", "weighted_layer_pooling_no_hidden_states"),
    "WordWeights": ("wordemb_wordweights_mean", "transformer_wordweights", "wordweights_trained_weights_ignored"),
    "CNN": ("wordemb_cnn_stride", "wordemb_cnn_max_nonzero_pad"),
    "LSTM": ("wordemb_lstm_two_layer_bi", "wordemb_lstm_bi", "wordemb_lstm_legacy"),
    "StaticEmbedding": ("static_normalize", "static_tokenizer_truncation", "model2vec_folder_quantized_vocab"),
    "WordEmbeddings": ("wordemb_lower_nostop_max", "wordemb_max_seq_length"),
    "WhitespaceTokenizer": ("wordemb_stop_words",),
    "PhraseTokenizer": ("wordemb_phrase_tokenizer",),
    "TransformersTokenizerWrapper": ("wordemb_transformers_tokenizer",),
    "BoW": ("bow_binary", "bow_dense_normalize"),
    "Router": ("router_first_static_query", "router_shared_encoder", "router_route_mappings", "router_no_default"),
    "Asym": ("asym_legacy",),
}

SPARSE = ("SparseAutoEncoder", "SparseStaticEmbedding", "SpladePooling")

MULTI_VECTOR = ("MultiVectorMask", "HierarchicalTokenPooling")

NEVER_SAVED = {
    "Module": "the base of all",
    "InputModule": "the base of those that read text",
    "CustomModule": "code of the user's own, which only its own `save` could write",
    **dict.fromkeys(("LogitScore", "Scores"), "of rerankers, which sentence-transformers alone writes"),
    **dict.fromkeys(SPARSE, "of sparse encoders, which sentence-transformers alone writes"),
    **dict.fromkeys(MULTI_VECTOR, "of multi-vector encoders, which sentence-transformers alone writes"),
}


def seeded(module: Any) -> Any:
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return module


def table(rows: int) -> torch.Tensor:
    return torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(3))


def own_tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(MODELS / "plain_bert")


def token_names() -> list[str]:
    ids = own_tokenizer().get_vocab()
    return sorted(ids, key=ids.__getitem__)


def static_tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(MODELS / "static/tokenizer.json"))


def document() -> list[Module]:
    return [transformer(), Pooling(HIDDEN), seeded(Dense(HIDDEN, WIDTH))]


def st_document() -> list[Any]:
    first = st.Transformer(str(MODELS / "plain_bert"), max_seq_length=48)
    return [first, st.Pooling(HIDDEN), seeded(st.Dense(HIDDEN, WIDTH))]


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


def tasks_of(stack: ModuleStack) -> list[dict[str, Any]]:
    return [{}, *({"task": task} for task in (stack.routing.tasks if stack.routing else ()))]


@pytest.mark.parametrize("name", FRONTS)
def test_sentence_transformers_loads_every_front_we_save(name: str, tmp_path: Path) -> None:
    stack = ModuleStack(FRONTS[name][0]())
    save_stack(stack, tmp_path)
    loaded = SentenceTransformer(str(tmp_path), device="cpu")
    for task in tasks_of(stack):
        expected = loaded.encode(TEXTS, prompt="The ", **task)
        assert scaled_error(expected, stack.encode(TEXTS, "The ", **task)).max() <= ROUNDING


@pytest.mark.parametrize("name", FRONTS)
def test_we_load_every_front_sentence_transformers_saves(name: str, tmp_path: Path) -> None:
    original = SentenceTransformer(modules=FRONTS[name][1](), device="cpu")
    original.save_pretrained(str(tmp_path), create_model_card=False)
    stack = load_stack(tmp_path)
    for task in tasks_of(stack):
        expected = original.encode(TEXTS, prompt="The ", **task)
        assert scaled_error(expected, stack.encode(TEXTS, "The ", **task)).max() <= ROUNDING


@pytest.mark.parametrize("name", FRONTS)
def test_our_own_round_trip_of_every_front(name: str, tmp_path: Path) -> None:
    stack = ModuleStack(FRONTS[name][0]())
    save_stack(stack, tmp_path)
    loaded = load_stack(tmp_path)
    assert loaded.summaries() == stack.summaries()
    assert loaded.routing == stack.routing
    for task in tasks_of(stack):
        assert np.array_equal(loaded.encode(TEXTS, **task), stack.encode(TEXTS, **task))


def test_every_building_block_is_saved_and_loaded() -> None:
    assert {*GOLDEN_OF, *NEVER_SAVED} == set(modules.__all__)
    # CLIP's text tower is a Transformer of ours, under the name it has in folders
    assert {*KINDS} - {
        "CLIPModel",
        "Custom",
        "LogitScore",
        "MLMTransformer",
        *SPARSE,
        *MULTI_VECTOR,
    } <= GOLDEN_OF.keys()
    assert "clip_text" in GOLDEN_OF["Transformer"]


@pytest.mark.parametrize(("name", "golden"), [(name, case) for name, cases in GOLDEN_OF.items() for case in cases])
def test_a_golden_model_goes_through_us_and_back(name: str, golden: str, tmp_path: Path) -> None:
    case = load_case(golden)
    stack = load_stack(case.model)
    assert getattr(modules, name) in set(kinds_in(stack))
    save_stack(stack, tmp_path)
    returned = SentenceTransformer(str(tmp_path), device="cpu")
    again = load_stack(tmp_path)
    allowed = HALF_PRECISION.get(golden, ROUNDING)
    for run in case.runs.values():
        if "images" in run and run["kwargs"]:
            continue  # what is cut and scaled after the modules
        expected = case.expected(run["name"])
        theirs = getattr(returned, run["method"])(case.inputs_of(run), **run["kwargs"])
        assert scaled_error(expected, theirs).max() <= allowed
        for loaded in (stack, again):
            assert scaled_error(expected, ours(loaded, case, run)).max() <= allowed


def kinds_in(stack: ModuleStack) -> Iterator[type]:
    for block in stack.modules():
        yield type(block)
        if isinstance(block, WordEmbeddings):
            yield type(block.tokenizer)


def ours(stack: ModuleStack, case: Case, run: dict[str, Any]) -> npt.NDArray[Any]:
    options = run["kwargs"]
    if "images" in run:
        assert stack.image is not None
        return stack.image.encode(case.inputs_of(run))
    method = run["method"].removeprefix("encode").removeprefix("_")
    task = run.get("key") or options.get("task") or method or None
    prompt = stack.prompts.get(options.get("prompt_name") or method or stack.default_prompt_name or "")
    return stack.encode(case.texts, prompt, options.get("batch_size", 32), task=task)


def test_a_module_of_several_routes_is_saved_once(tmp_path: Path) -> None:
    shared, pooling = transformer(), Pooling(HIDDEN)
    heads = [seeded(Dense(HIDDEN, WIDTH)), seeded(Dense(HIDDEN, WIDTH, bias=False))]
    router = Router.for_query_document([shared, pooling, heads[0]], [shared, pooling, heads[1]])
    save_stack(ModuleStack([router]), tmp_path)
    folders = {path.name for path in tmp_path.iterdir() if path.is_dir()}
    assert folders == {"query_0_Transformer", "query_1_Pooling", "query_2_Dense", "document_2_Dense"}
    loaded = load_stack(tmp_path)
    assert loaded.routes["query"].front is loaded.routes["document"].front
    theirs = SentenceTransformer(str(tmp_path), device="cpu")[0].sub_modules
    assert theirs["query"][0] is theirs["document"][0]


def test_router_options_survive(tmp_path: Path) -> None:
    mappings: dict[tuple[str | None, str | tuple[str, ...] | None], str] = {
        ("query", None): "light",
        (None, ("image", "text")): "heavy",
        ("document", "text"): "heavy",
    }
    routes = {name: [StaticEmbedding(static_tokenizer(), table(341))] for name in ("light", "heavy")}
    save_stack(ModuleStack([Router(routes, None, False, mappings)]), tmp_path)
    (loaded,) = load_stack(tmp_path).blocks
    theirs = SentenceTransformer(str(tmp_path), device="cpu")[0]
    for router in (loaded, theirs):
        assert router.default_route is None
        assert router.allow_empty_key is False
        assert router.route_mappings == mappings


def test_asym_is_written_as_the_router_it_became(tmp_path: Path) -> None:
    assert Asym is Router
    save_stack(load_stack(MODELS / "asym_legacy"), tmp_path)
    rows = json.loads((tmp_path / "modules.json").read_text(encoding="utf-8"))
    assert rows[2]["type"] == "sentence_transformers.models.Router"
    assert (tmp_path / "2_Router/router_config.json").is_file()


def test_transformer_options_survive(tmp_path: Path) -> None:
    options: dict[str, Any] = {"do_lower_case": True, "processing_kwargs": {"text": {"max_length": 9}}}
    last_but_one = {"text": {"method": "forward", "method_output_name": ["hidden_states", -2]}}
    stack = ModuleStack([transformer(modality_config=last_but_one, **options), Pooling(HIDDEN)])
    save_stack(stack, tmp_path)
    assert transformer_of(load_stack(tmp_path)).max_seq_length == 9
    expected = SentenceTransformer(str(tmp_path), device="cpu").encode(TEXTS)
    assert difference(expected, stack.encode(TEXTS)) <= ROUNDING


def test_a_tokenizer_from_elsewhere() -> None:
    first = Transformer(MODELS / "cased_vocab", tokenizer_name_or_path=MODELS / "plain_bert")
    assert first.tokenizer.tokenize("Hello") == ["hello"]


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: Pooling(HIDDEN, "median"), "unknown pooling mode 'median'"),
        (Pooling, "no embedding_dimension"),
        (lambda: Dense(2, 2, activation_function=nn.Linear(2, 2)), "not a torch.nn activation"),
        (lambda: ModuleStack([Pooling(HIDDEN)]), "does not read text"),
    ],
)
def test_wrong_arguments_are_one_clear_error(build: Callable[[], Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        build()
