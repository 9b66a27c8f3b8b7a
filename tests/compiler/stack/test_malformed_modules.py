"""Folders whose modules are malformed, or do not fit each other: one sentence that names the module, no traceback."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from stcompile.compiler.stack.describe import describe
from stcompile.compiler.stack.load import load_stack
from stcompile.errors import ModelFolderError, UnsupportedError
from tests.conftest import MODELS

Change = Callable[[Path], object]

ST = "sentence_transformers.models"
STATIC = f"{ST}.StaticEmbedding"


def edited(file: str, change: Callable[[Any], Any]) -> Change:
    """Rewrites a JSON file of the folder."""

    def apply(root: Path) -> None:
        path = root / file
        path.write_text(json.dumps(change(json.loads(path.read_text(encoding="utf-8")))), encoding="utf-8")

    return apply


def with_keys(file: str, **keys: Any) -> Change:
    return edited(file, lambda config: {**config, **keys})


def without(file: str, key: str) -> Change:
    return edited(file, lambda config: {name: value for name, value in config.items() if name != key})


def written(file: str, content: str) -> Change:
    return lambda root: (root / file).write_text(content, encoding="utf-8")


def removed(file: str) -> Change:
    return lambda root: (root / file).unlink()


def with_tensors(file: str, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Change:
    """Rewrites the weights of a module."""

    def apply(root: Path) -> None:
        state = {name: tensor.clone() for name, tensor in load_file(root / file).items()}
        (root / file).unlink()
        save_file({name: tensor.contiguous() for name, tensor in change(state).items()}, root / file)

    return apply


def renamed(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    (table,) = state.values()
    return {"other": table}


def routed(**keys: Any) -> Change:
    return with_keys("router_config.json", **keys)


def with_parameters(**keys: Any) -> Change:
    return edited("router_config.json", lambda config: {**config, "parameters": {**config["parameters"], **keys}})


def mapped(key: str, route: str = "query") -> Change:
    return with_parameters(route_mappings={key: route})


def leading_to(identifier: str, type_path: str = STATIC) -> Change:
    """A Router of one route, which is one module."""
    return routed(types={identifier: type_path}, structure={"query": [identifier]})


def appended(kind: str, source: str = "") -> Change:
    """One more module at the end, its folder copied from another golden model."""

    def apply(root: Path) -> None:
        if source:
            shutil.copytree(MODELS / source, root / f"9_{kind}")
        row = {"path": f"9_{kind}" if source else "", "type": f"{ST}.{kind}"}
        edited("modules.json", lambda rows: [*rows, row])(root)

    return apply


def routes_in_front(root: Path) -> None:
    """A Transformer, and behind it a Router whose routes read text too."""
    shutil.copytree(MODELS / "router_no_default", root / "9_Router")
    edited("modules.json", lambda rows: [rows[0], {"path": "9_Router", "type": f"{ST}.Router"}])(root)


ROUTER, WORDS, CNN, LSTM = "router_no_default", "wordemb_mean", "wordemb_cnn", "wordemb_lstm_bi"
WEIGHTS, BOW, LAYERS = "wordemb_wordweights_mean", "bow_binary", "weighted_layer_pooling"

ROUTE_ROWS: dict[str, tuple[str, Change, str]] = {
    "unknown id": (ROUTER, routed(structure={"query": ["ghost"]}), r"\(Router\): its route 'query' must be a list"),
    "empty route": (ROUTER, routed(structure={"query": []}), r"\(Router\): its route 'query' must be a list"),
    "route is no list": (ROUTER, routed(structure={"query": 3}), r"\(Router\): its route 'query' must be a list"),
    "no routes": (ROUTER, routed(structure={}), r"\(Router\): its router_config\.json must have types, structure"),
    "structure is a list": (ROUTER, routed(structure=["query"]), r"\(Router\): its router_config\.json must have"),
    "types are no text": (ROUTER, routed(types={"ghost": 5}), r"\(Router\): its router_config\.json must have"),
    "no types": (ROUTER, without("router_config.json", "types"), r"\(Router\): its router_config\.json must have"),
    "no file": (ROUTER, removed("router_config.json"), r"\(Router\): its router_config\.json must have"),
    "parameters are a list": (ROUTER, routed(parameters=[1]), r"\(Router\): its router_config\.json must have"),
    "not an object": (ROUTER, written("router_config.json", "[1]"), "must be a JSON object"),
    "not JSON": (ROUTER, written("router_config.json", "{"), r"router_config\.json is not valid JSON"),
    "default to nowhere": (ROUTER, with_parameters(default_route="x"), r"\(Router\): its default_route 'x' is not a"),
    "default is a list": (ROUTER, with_parameters(default_route=["query"]), r"\(Router\): its default_route \['query'"),
    "allow_empty_key": (ROUTER, with_parameters(allow_empty_key="no"), r"\(Router\): its allow_empty_key must be"),
    "mappings are a list": (ROUTER, with_parameters(route_mappings=[1]), r"\(Router\): its route_mappings must map"),
    "mapping to nowhere": (ROUTER, mapped("('query', None)", "x"), r"\(Router\): .* names 'x', which is not a route"),
    "mapping is a word": (ROUTER, mapped("query"), r"\(Router\): its route mapping 'query' is not a pair"),
    "mapping of three": (ROUTER, mapped("('a', 'b', 'c')"), r"\(Router\): its route mapping .* is not a pair"),
    "mapping of numbers": (ROUTER, mapped("(1, 2)"), r"\(Router\): its route mapping .* is not a pair"),
    "mapping of lists": (ROUTER, mapped("([], {})"), r"\(Router\): its route mapping .* is not a pair"),
    "mapping of text and None": (ROUTER, mapped("('a', ('text', None))"), r"\(Router\): its route mapping .* is not"),
    "mapping that calls": (ROUTER, mapped("__import__('os')"), r"\(Router\): its route mapping .* is not a pair"),
    "mapping of many brackets": (ROUTER, mapped("(" * 10_000), r"\(Router\): its route mapping .* is not a pair"),
    "id climbs out": (ROUTER, leading_to("../x"), r"'\.\./x', which is outside the folder"),
    "id is absolute": (ROUTER, leading_to("/etc"), "which is outside the folder"),
    "id is the router itself": (ROUTER, leading_to(".", f"{ST}.Router"), "Router"),
    "id without a folder": (ROUTER, leading_to("ghost"), r"ghost has no tokenizer\.json"),
    "id of an unknown class": (
        ROUTER,
        leading_to("a", f"{ST}.Nope"),
        r"\(Router\), route query, module 0 \(Nope\) is not a module stcompile knows",
    ),
    "module of a route": (
        "router_first_static_query",
        with_keys("document_1_Pooling/config.json", pooling_mode="median"),
        r"\(Router\), route document, module 1 \(Pooling\): its pooling mode 'median' is unknown",
    ),
    "route that reads no text": (
        "router_first_static_query",
        edited("router_config.json", lambda c: {**c, "structure": {**c["structure"], "query": ["document_1_Pooling"]}}),
        "one module must read text, the first of the stack or of every route",
    ),
    "routes that read text behind a Transformer": ("pool_mean", routes_in_front, "one module must read text"),
}

MODULE_ROWS: dict[str, tuple[str, Change, str]] = {
    "cnn mixed parity": (CNN, with_keys("1_CNN/cnn_config.json", kernel_sizes=[1, 2, 5]), r"\(CNN\): its kernels make"),
    "cnn mixed strides": (CNN, with_keys("1_CNN/cnn_config.json", stride_sizes=[1, 2, 1]), r"\(CNN\): its kernels mak"),
    "cnn strides missing": (CNN, with_keys("1_CNN/cnn_config.json", stride_sizes=[1]), r"\(CNN\): it has 3 kernel_siz"),
    "cnn kernel of nothing": (CNN, with_keys("1_CNN/cnn_config.json", kernel_sizes=[0]), r"\(CNN\): its kernel_sizes "),
    "cnn kernels are text": (CNN, with_keys("1_CNN/cnn_config.json", kernel_sizes="135"), r"\(CNN\): its kernel_sizes"),
    "cnn no kernels": (CNN, with_keys("1_CNN/cnn_config.json", kernel_sizes=[]), r"\(CNN\): its kernel_sizes are \[\]"),
    "cnn channels": (CNN, with_keys("1_CNN/cnn_config.json", out_channels=-8), r"\(CNN\): its out_channels is -8"),
    "cnn no width": (CNN, written("1_CNN/cnn_config.json", "{}"), r"\(CNN\): its in_embedding_dimension is None"),
    "cnn no file": (CNN, removed("1_CNN/cnn_config.json"), r"\(CNN\): its in_embedding_dimension is None"),
    "lstm text": (LSTM, with_keys("1_LSTM/lstm_config.json", hidden_dim="12"), r"\(LSTM\): its hidden_dim is '12'"),
    "lstm no layers": (LSTM, with_keys("1_LSTM/lstm_config.json", num_layers=0), r"\(LSTM\): its num_layers is 0"),
    "lstm half": (LSTM, with_keys("1_LSTM/lstm_config.json", hidden_dim=1.5), r"\(LSTM\): its hidden_dim is 1\.5"),
    "lstm width": (
        LSTM,
        with_keys("1_LSTM/lstm_config.json", embedding_dimension=True),
        r"\(LSTM\): its embedding_dim",
    ),
    "lstm directions": (
        LSTM,
        with_keys("1_LSTM/lstm_config.json", bidirectional="yes"),
        r"\(LSTM\): its bidirectional",
    ),
    "lstm dropout text": (LSTM, with_keys("1_LSTM/lstm_config.json", dropout="x"), r"\(LSTM\): its dropout is 'x'"),
    "lstm dropout of 2": (LSTM, with_keys("1_LSTM/lstm_config.json", dropout=2), r"\(LSTM\): its dropout is 2"),
    "weights no vocab": (WEIGHTS, without("1_WordWeights/config.json", "vocab"), r"\(WordWeights\): its vocab must be"),
    "weights vocab": (
        WEIGHTS,
        with_keys("1_WordWeights/config.json", vocab=[1, 2]),
        r"\(WordWeights\): its vocab must",
    ),
    "weights list": (
        WEIGHTS,
        with_keys("1_WordWeights/config.json", word_weights=[1]),
        r"\(WordWeights\): its word_wei",
    ),
    "weights text": (
        WEIGHTS,
        with_keys("1_WordWeights/config.json", word_weights={"the": "x"}),
        r"\(WordWeights\): its word_weights must map words to numbers",
    ),
    "weights unknown": (
        WEIGHTS,
        with_keys("1_WordWeights/config.json", unknown_word_weight=None),
        r"\(WordWeights\): its unknown_word_weight is None",
    ),
    "bow no vocab": (BOW, without("0_BoW/config.json", "vocab"), r"\(BoW\): its vocab must be a list of words"),
    "bow empty vocab": (BOW, with_keys("0_BoW/config.json", vocab=[]), r"\(BoW\): its vocab must be a list of words"),
    "bow vocab is text": (BOW, with_keys("0_BoW/config.json", vocab="words"), r"\(BoW\): its vocab must be a list"),
    "bow no file": (BOW, removed("0_BoW/config.json"), r"\(BoW\): its vocab must be a list of words"),
    "words no class": (
        WORDS,
        without("wordembedding_config.json", "tokenizer_class"),
        r"\(WordEmbeddings\): its wordem",
    ),
    "words no file": (
        WORDS,
        removed("wordembedding_config.json"),
        r"\(WordEmbeddings\): its wordembedding_config\.json",
    ),
    "words limit": (
        WORDS,
        with_keys("wordembedding_config.json", max_seq_length=0),
        r"\(WordEmbeddings\): its max_seq",
    ),
    "words limit is text": (
        WORDS,
        with_keys("wordembedding_config.json", max_seq_length="9"),
        r"\(WordEmbeddings\): its max_seq_length is '9'",
    ),
    "words twice": (WORDS, appended("WordEmbeddings"), "one module must read text, the first of the stack"),
    "nothing reads text": (WORDS, edited("modules.json", lambda rows: rows[1:]), "one module must read text"),
    "text read last": (WORDS, edited("modules.json", lambda rows: rows[::-1]), "one module must read text"),
    "layers from behind the last": (
        LAYERS,
        with_keys("1_WeightedLayerPooling/config.json", layer_start=3),
        r"\(WeightedLayerPooling\): its layer_start is 3 of 2 layers",
    ),
    "layers from a half": (
        LAYERS,
        with_keys("1_WeightedLayerPooling/config.json", layer_start=0.5),
        r"\(WeightedLayerPooling\): its layer_start is 0\.5",
    ),
    "layers of text": (
        LAYERS,
        with_keys("1_WeightedLayerPooling/config.json", num_hidden_layers="2"),
        r"\(WeightedLayerPooling\): its layer_start is 1 of '2' layers",
    ),
    "static tokenizer": ("static", removed("tokenizer.json"), r"has no tokenizer\.json: the model is incomplete"),
    "static weights": ("static", removed("model.safetensors"), r"has no model\.safetensors: the model is incomplete"),
    "model2vec tokenizer": (
        "model2vec_plain",
        removed("tokenizer.json"),
        r"has no tokenizer\.json: the model is incom",
    ),
}

SEEN_WITHOUT_TORCH = {**ROUTE_ROWS, **MODULE_ROWS}

SEEN_WHEN_LOADED: dict[str, tuple[str, Change, str]] = {
    "cnn weights": (CNN, with_keys("1_CNN/cnn_config.json", out_channels=9), "1_CNN do not fit its configuration"),
    "cnn no weights": (CNN, removed("1_CNN/model.safetensors"), r"1_CNN has neither model\.safetensors nor"),
    "lstm weights": (LSTM, with_keys("1_LSTM/lstm_config.json", hidden_dim=13), "1_LSTM do not fit its configuration"),
    "lstm layers": (LSTM, with_keys("1_LSTM/lstm_config.json", num_layers=2), "1_LSTM do not fit its configuration"),
    "lstm junk": (LSTM, written("1_LSTM/model.safetensors", "junk"), "the weights in .*1_LSTM cannot be read"),
    "lstm behind a Transformer": (
        "pool_mean",
        appended("LSTM", f"{LSTM}/1_LSTM"),
        r"module 2 \(LSTM\) needs sentence_lengths, which Transformer does not make",
    ),
    "weights of few words": (
        WEIGHTS,
        edited("1_WordWeights/config.json", lambda config: {**config, "vocab": config["vocab"][:5]}),
        r"module 1 \(WordWeights\) has weights for 5 words, but the tokenizer makes ids up to \d+",
    ),
    "weights of a bag": (
        BOW,
        appended("WordWeights", f"{WEIGHTS}/1_WordWeights"),
        r"module 1 \(WordWeights\) needs attention_mask, which BoW does not make",
    ),
    "bow weight that no float holds": (
        BOW,
        with_keys("0_BoW/config.json", word_weights={"hello": 10**400}),
        r"\(BoW\): its word_weights must map words to numbers",
    ),
    "pooling of a bag": (
        BOW,
        appended("Pooling", "wordemb_mean/1_Pooling"),
        r"\(Pooling\) reads token_embeddings, but",
    ),
    "cls of words": (
        WORDS,
        with_keys("1_Pooling/config.json", pooling_mode=["mean", "cls"]),
        r"module 1 \(Pooling\) pools the cls token, but WordEmbeddings have none",
    ),
    "words of another class": (
        WORDS,
        with_keys("wordembedding_config.json", tokenizer_class="os.system"),
        "model cannot be compiled: the tokenizer_class 'os.system' of its WordEmbeddings is none of",
    ),
    "words no tokenizer": (
        WORDS,
        removed("whitespacetokenizer_config.json"),
        r"has no whitespacetokenizer_config\.json",
    ),
    "words vocab": (
        WORDS,
        with_keys("whitespacetokenizer_config.json", vocab=[1, None]),
        r"whitespacetokenizer_config\.json is malformed",
    ),
    "words stop words": (
        WORDS,
        with_keys("whitespacetokenizer_config.json", stop_words=3),
        r"whitespacetokenizer_config\.json is malformed",
    ),
    "words tokenizer is a list": (
        WORDS,
        written("whitespacetokenizer_config.json", "[1]"),
        r"whitespacetokenizer_config\.json is malformed",
    ),
    "phrases of half a word": (
        "wordemb_phrase_tokenizer",
        with_keys("phrasetokenizer_config.json", max_ngram_length=1.5),
        r"phrasetokenizer_config\.json is malformed",
    ),
    "words transformers tokenizer": (
        "wordemb_transformers_tokenizer",
        written("tokenizer.json", "{"),
        "the tokenizer in .* cannot be loaded",
    ),
    "words short table": (
        WORDS,
        with_tensors("model.safetensors", lambda state: {name: table[:9] for name, table in state.items()}),
        "the table has 9 rows, but the tokenizer makes ids up to",
    ),
    "words no table": (
        WORDS,
        with_tensors("model.safetensors", renamed),
        r"have no emb_layer\.weight",
    ),
    "static short table": (
        "static",
        with_tensors("model.safetensors", lambda state: {name: table[:9] for name, table in state.items()}),
        "the table has 9 rows, but the tokenizer makes ids up to",
    ),
    "static flat table": (
        "static",
        with_tensors("model.safetensors", lambda state: {name: table.flatten() for name, table in state.items()}),
        "the table of StaticEmbedding must be",
    ),
    "static nan": (
        "static",
        with_tensors("model.safetensors", lambda state: {name: table * torch.nan for name, table in state.items()}),
        "numbers that are not finite",
    ),
    "static no table": (
        "static",
        with_tensors("model.safetensors", renamed),
        r"no tensor is called embedding\.weight or embeddings, only other",
    ),
    "static tokenizer": ("static", written("tokenizer.json", "{"), r"tokenizer\.json cannot be read"),
    "model2vec mapping": (
        "model2vec_folder_quantized_vocab",
        with_tensors("model.safetensors", lambda state: {**state, "mapping": state["mapping"] + 10_000}),
        "its mapping does not fit its",
    ),
    "model2vec weights": (
        "model2vec_folder_quantized_vocab",
        with_tensors("model.safetensors", lambda state: {**state, "weights": state["weights"][:5]}),
        r"its weights are \(5,\) for",
    ),
    "layers the network does not have": (
        LAYERS,
        with_keys("1_WeightedLayerPooling/config.json", layer_start=2, num_hidden_layers=3),
        "its configuration says 3 layers, but the network shows 2",
    ),
    "layers weights": (
        LAYERS,
        with_keys("1_WeightedLayerPooling/config.json", num_hidden_layers=3),
        "1_WeightedLayerPooling do not fit its configuration",
    ),
}


@pytest.fixture
def broken(tmp_path: Path) -> Callable[[str, Change], Path]:
    def copy(case: str, change: Change) -> Path:
        folder = Path(shutil.copytree(MODELS / case, tmp_path / "model"))
        change(folder)
        return folder

    return copy


def told(folder: Path) -> Iterator[str]:
    """What describing the folder complains of."""
    try:
        yield from describe(folder).unsupported
    except ModelFolderError as error:
        yield str(error)


@pytest.mark.parametrize("name", SEEN_WITHOUT_TORCH)
def test_it_is_told_before_torch_is_needed(name: str, broken: Callable[[str, Change], Path]) -> None:
    case, change, sentence = SEEN_WITHOUT_TORCH[name]
    folder = broken(case, change)
    (reason,) = told(folder)
    with pytest.raises((ModelFolderError, UnsupportedError), match=sentence) as caught:
        load_stack(folder)
    assert reason in str(caught.value)


@pytest.mark.parametrize("name", SEEN_WHEN_LOADED)
def test_it_is_told_when_the_model_is_loaded(name: str, broken: Callable[[str, Change], Path]) -> None:
    case, change, sentence = SEEN_WHEN_LOADED[name]
    with pytest.raises((ModelFolderError, UnsupportedError), match=sentence):
        load_stack(broken(case, change))


def test_every_reason_in_the_files_is_told_at_once(broken: Callable[[str, Change], Path]) -> None:
    def change(root: Path) -> None:
        with_keys("1_LSTM/lstm_config.json", hidden_dim="x", num_layers=-1)(root)
        with_keys("2_Pooling/config.json", pooling_mode="median")(root)
        with_keys("wordembedding_config.json", max_seq_length=-1)(root)
        edited("modules.json", lambda rows: [*rows, {"path": "", "type": f"{ST}.WKPooling"}])(root)

    with pytest.raises(UnsupportedError) as caught:
        load_stack(broken(LSTM, change))
    named = [("WordEmbeddings", "max_seq_length"), ("LSTM", "hidden_dim"), ("LSTM", "num_layers")]
    named += [("Pooling", "median"), ("WKPooling", "removed")]
    assert len(caught.value.reasons) == len(named)
    for (module, problem), reason in zip(named, caught.value.reasons, strict=True):
        assert module in reason
        assert problem in reason


def test_every_misfit_of_the_stack_is_told_at_once(broken: Callable[[str, Change], Path]) -> None:
    def change(root: Path) -> None:
        appended("LSTM", f"{LSTM}/1_LSTM")(root)
        edited("modules.json", lambda rows: [rows[0], rows[2]])(root)

    with pytest.raises(UnsupportedError) as caught:
        load_stack(broken("pool_mean", change))
    text = str(caught.value)
    assert "(LSTM) needs sentence_lengths" in text
    assert "(LSTM) takes 16 values but is given 32" in text
    assert "add a Pooling" in text
