"""Folders that people bring: compiled to what sentence-transformers gives, or refused with the part and the remedy.

Expected vectors are those of sentence-transformers, from the same folder.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedTokenizerFast

from stcompile.compiler.inspection import inspect
from stcompile.compiler.modules import backbone
from stcompile.compiler.modules.rotary import freeze_frequencies
from stcompile.compiler.stack.describe import describe
from stcompile.compiler.stack.load import load_stack
from stcompile.compiler.trace.onnx import trace
from stcompile.compiler.trace.running import opened
from stcompile.errors import ArtifactError, MissingExtraError, ModelFolderError, UnsupportedError
from tests.conftest import MODELS, transformer_of

SMALL = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
DYNAMIC = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1000.0}
LONG = {"rope_type": "longrope", "rope_theta": 1000.0, "short_factor": [1.0] * 8, "long_factor": [4.0] * 8}
LONG_AT_48 = {"rope_parameters": LONG, "original_max_position_embeddings": 48}

TEXTS = ["hello", "The quick brown fox jumps over the lazy dog.", "one two three four five " * 12]

# Float32 rounding of two orders of the same sums, as a share of the largest. Measured: 4e-7.
ROUNDING = 5e-6


def made(folder: Path, kind: str, limit: int = 48, **config: Any) -> Path:
    """A plain folder with random weights and the tokenizer of a golden case."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(MODELS / "plain_bert", model_max_length=limit)
    settings = AutoConfig.for_model(kind, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **config)
    AutoModel.from_config(settings).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def as_sentence_transformers(folder: Path, texts: list[str]) -> Any:
    model = SentenceTransformer(str(folder), device="cpu")
    # One by one: padding is none of this test's matter.
    return np.concatenate([model.encode([text]) for text in texts])


def compiled(folder: Path, texts: list[str]) -> Any:
    """The vectors of the traced graph."""
    route = load_stack(folder).routes[""]
    graph = trace(route, ("sentence_embedding",), "model")
    with opened(graph) as engine:
        rows = []
        for text in texts:
            features = {name: value.numpy() for name, value in route.front.tokenize([text], None).items()}
            rows += engine.run({name: features[name] for name in route.input_names}, ("sentence_embedding",))
    return np.concatenate(rows)


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("nomic_bert", {**SMALL, "max_position_embeddings": 64, "rope_parameters": DYNAMIC}),
        *(
            pytest.param(kind, config, marks=pytest.mark.more_models)
            for kind, config in (
                ("phi3", {**SMALL, "num_key_value_heads": 2, "max_position_embeddings": 96, **LONG_AT_48}),
                ("xlnet", {"d_model": 32, "n_layer": 1, "n_head": 2, "d_inner": 64}),
                ("esm", {**SMALL, "token_dropout": True, "mask_token_id": 4, "position_embedding_type": "rotary"}),
                ("data2vec-text", {**SMALL, "max_position_embeddings": 64}),
            )
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_these_networks_are_compiled(kind: str, config: dict[str, Any], tmp_path: Path) -> None:
    folder = made(tmp_path / "model", kind, **config)
    expected = as_sentence_transformers(folder, TEXTS)
    assert np.abs(compiled(folder, TEXTS) - expected).max() <= ROUNDING * np.abs(expected).max()


@pytest.mark.parametrize(
    ("kind", "config", "change"),
    [
        ("nomic_bert", {"max_position_embeddings": 64, "rope_parameters": DYNAMIC}, 64),
        ("phi3", {"num_key_value_heads": 2, "max_position_embeddings": 96, **LONG_AT_48}, 48),
    ],
    ids=["dynamic", "longrope"],
)
def test_frequencies_that_change_within_the_limit_are_refused(kind: str, config: Any, change: int) -> None:
    torch.manual_seed(0)
    network = AutoModel.from_config(AutoConfig.for_model(kind, vocab_size=99, pad_token_id=0, **SMALL, **config))
    assert f"more than {change} tokens" in freeze_frequencies(network, change + 1)
    assert f"set max_seq_length in its sentence_bert_config.json to {change} or less" in freeze_frequencies(
        network, None
    )
    assert not freeze_frequencies(network, change)


def test_what_the_exporter_cannot_follow_is_a_sentence_of_ours(tmp_path: Path, capfd: Any) -> None:
    folder = made(tmp_path / "model", "longformer", **SMALL, attention_window=8, max_position_embeddings=64)
    route = load_stack(folder).routes[""]
    capfd.readouterr()
    with pytest.raises(UnsupportedError) as caught:
        trace(route, ("sentence_embedding",), "model")
    assert str(caught.value) == (
        "model cannot be compiled: torch's exporter cannot follow the network of its Transformer (longformer), which "
        "decides by a text's tokens what it computes next, which no graph can: compile a model of another "
        "architecture, or keep this one on sentence-transformers; --verbose shows the exporter's trace"
    )
    shown = capfd.readouterr()
    assert (shown.out, shown.err) == ("", "")


def linked(folder: Path, store: Path, source: Path) -> Path:
    """A folder of links to the files of a store."""
    shutil.copytree(source, store)
    for path in store.rglob("*"):
        if path.is_file():
            link = folder / path.relative_to(store)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)
    return folder


def test_links_to_a_store_are_followed_when_asked(tmp_path: Path) -> None:
    folder = linked(tmp_path / "model", tmp_path / "store", MODELS / "full_stack")
    with pytest.raises(ModelFolderError, match=r"is a link to .*store.*pass --follow-links \(follow_links=True\)"):
        describe(folder)
    assert inspect(folder, follow_links=True)["compiles"]
    expected = as_sentence_transformers(folder, TEXTS)
    found = np.concatenate([load_stack(folder, follow_links=True).encode([text]) for text in TEXTS])
    assert np.abs(found - expected).max() <= ROUNDING


def test_a_path_that_climbs_is_never_followed(tmp_path: Path) -> None:
    folder = linked(tmp_path / "model", tmp_path / "store", MODELS / "full_stack")
    rows = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    (folder / "modules.json").unlink()
    (folder / "modules.json").write_text(json.dumps([*rows[:-1], {**rows[-1], "path": "../store"}]))
    with pytest.raises(ModelFolderError, match="outside the folder: do not use it"):
        describe(folder, follow_links=True)


def test_a_folder_within_a_snapshot_of_the_hubs_cache_needs_no_flag(tmp_path: Path) -> None:
    cache = tmp_path / "models--org--name"
    folder = linked(cache / "snapshots/0123abc/small", cache / "blobs", MODELS / "full_stack")
    assert not describe(folder).unsupported


def test_a_network_that_is_loaded_alone_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A from_pretrained of the network's own knows no output_loading_info."""
    real = AutoModel.from_pretrained

    def alone(*arguments: Any, output_loading_info: bool, **options: Any) -> Any:
        assert output_loading_info
        return real(*arguments, **options)

    monkeypatch.setattr(backbone, "AutoModel", SimpleNamespace(from_pretrained=alone))
    assert load_stack(MODELS / "plain_bert").dim == 32


def test_null_prompts_are_empty_ones(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(MODELS / "full_stack", tmp_path / "model"))
    path = folder / "config_sentence_transformers.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**settings, "prompts": {"query": None, "other": None, "more": "m: "}}))
    assert describe(folder).settings.prompts == SentenceTransformer(str(folder), device="cpu").prompts


@pytest.mark.more_models
@pytest.mark.parametrize("kind", ["siglip", "siglip2"])
def test_the_text_side_of_siglip(kind: str, tmp_path: Path) -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(
        MODELS / "plain_bert", model_max_length=64, model_input_names=["input_ids"]
    )
    # transformers gives Siglip2's tokenizer two tokens more when it is loaded.
    text = {**SMALL, "vocab_size": len(tokenizer) + 2, "max_position_embeddings": 64, "projection_size": 24}
    vision = {**SMALL, "patch_size": 16, **({"image_size": 32} if kind == "siglip" else {"num_patches": 4})}
    torch.manual_seed(0)
    AutoModel.from_config(AutoConfig.for_model(kind, text_config=text, vision_config=vision)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    processor = {"siglip": "SiglipImageProcessor", "siglip2": "Siglip2ImageProcessor"}[kind]
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": processor}))
    modalities = {"text": {"method": "get_text_features", "method_output_name": "pooler_output"}}
    (tmp_path / "sentence_bert_config.json").write_text(
        json.dumps({"modality_config": modalities, "module_output_name": "sentence_embedding"})
    )
    row = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"}
    (tmp_path / "modules.json").write_text(json.dumps([row]))
    expected = as_sentence_transformers(tmp_path, TEXTS[:2])
    assert expected.shape == (2, 24)
    assert np.abs(compiled(tmp_path, TEXTS[:2]) - expected).max() <= ROUNDING * np.abs(expected).max()
    (tmp_path / "modules.json").unlink()
    (entry,) = describe(tmp_path).entries
    assert (entry.config["modality_config"]["text"], entry.config["module_output_name"]) == (
        modalities["text"],
        "sentence_embedding",
    )


@pytest.mark.parametrize("name", ["Hardshrink", "LogSoftmax", "Softmin", "Softshrink"])
def test_more_activations_of_torch(name: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(MODELS / "bow_dense_normalize", tmp_path / "model"))
    (path,) = folder.glob("*Dense/config.json")
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "activation_function": f"torch.nn.modules.activation.{name}"}))
    expected = as_sentence_transformers(folder, TEXTS)
    assert np.abs(compiled(folder, TEXTS) - expected).max() <= ROUNDING


@pytest.mark.parametrize("lengths", [{"query_length": 8}, {"query_length": 5, "document_length": 30}])
def test_queries_and_documents_are_cut_where_they_say(lengths: dict[str, int], tmp_path: Path) -> None:
    """The texts of each task go to one graph: what differs is where they are cut."""
    folder = Path(shutil.copytree(MODELS / "full_stack", tmp_path / "model"))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 64, **lengths}))
    stack = load_stack(folder)
    assert len({route.shares or name for name, route in stack.routes.items()}) == 1
    model = SentenceTransformer(str(folder), device="cpu")
    for task in (None, "query", "document"):
        expected = np.concatenate([model.encode([text], task=task, prompt="") for text in TEXTS])
        assert np.abs(stack.encode(TEXTS, task=task) - expected).max() <= ROUNDING
    assert np.abs(stack.encode(TEXTS[2:], task="query") - stack.encode(TEXTS[2:])).max() > 0.01


def with_query_length(folder: Path) -> None:
    settings = {"max_seq_length": 64, "query_length": "eight"}
    (folder / "sentence_bert_config.json").write_text(json.dumps(settings))


def with_longer_queries(folder: Path) -> None:
    settings = {"query_expansion": {"strategy": "fixed", "length": 8}}
    (folder / "sentence_bert_config.json").write_text(json.dumps(settings))


def with_tokenizer_of_bytes(folder: Path) -> None:
    for name in ("tokenizer.json", "vocab.txt"):
        (folder / name).unlink(missing_ok=True)
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "ByT5Tokenizer"}))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (with_query_length, r"^module 0 \(Transformer\): its query_length is 'eight': it must be a positive whole"),
        (with_longer_queries, r"^its query_expansion makes queries longer by tokens .*: set it to null, or model_type"),
        (with_tokenizer_of_bytes, r"^its tokenizer \(ByT5Tokenizer\) reads bytes .* compile a model whose tokenizer"),
    ],
)
def test_a_refusal_names_the_part_and_the_remedy(change: Callable[[Path], None], sentence: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(MODELS / "full_stack", tmp_path / "model"))
    change(folder)
    (reason,) = describe(folder).unsupported
    assert re.search(sentence, reason)


def test_a_length_of_queries_that_is_the_limit_changes_nothing(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(MODELS / "full_stack", tmp_path / "model"))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 16, "query_length": 16}))
    assert not describe(folder).unsupported
    assert transformer_of(load_stack(folder)).max_seq_length == 16


def test_the_package_that_reads_a_sentencepiece_model_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers itself names tiktoken, the last that it tried."""
    folder = Path(shutil.copytree(MODELS / "full_stack", tmp_path / "model"))
    for name in ("tokenizer.json", "vocab.txt"):
        (folder / name).unlink(missing_ok=True)
    (folder / "sentencepiece.bpe.model").write_bytes(b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "XLMRobertaTokenizer"}))
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    monkeypatch.setattr(
        "stcompile.compiler.modules.tokenizer.find_spec", lambda name: None if name == "sentencepiece" else name
    )
    with pytest.raises(MissingExtraError, match=r"has no tokenizer\.json, .* pip install sentencepiece$"):
        load_stack(folder)


@pytest.mark.parametrize("content", ['{"name": "my-addon", "version": "1.0"}', "[]", "not JSON"])
def test_a_manifest_of_somebody_else_makes_no_artifact_of_a_model(content: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(MODELS / "plain_bert", tmp_path / "model"))
    expected = inspect(folder)
    (folder / "manifest.json").write_text(content)
    assert inspect(folder) == expected
    (folder / "config.json").unlink()
    with pytest.raises(ArtifactError, match=r"manifest\.json is not"):
        inspect(folder)


WHOLE = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
HEADS = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "max_position_embeddings": 64}
IDS = {"bos_token_id": 1, "eos_token_id": 1, "decoder_start_token_id": 1}

WANTED = {
    ("nllb-moe", "decoder_input_ids", "compile a model that is an encoder alone"): {**WHOLE, **HEADS, **IDS},
    ("xmod", "lang_ids", r"set default_language in its config\.json"): {**SMALL, "languages": ["en_XX", "de_DE"]},
    ("lxmert", "visual_feats", "compile a model that reads text alone"): {"hidden_size": 32, "num_attention_heads": 2},
}


@pytest.mark.parametrize(("wanted", "config"), WANTED.items())
def test_a_network_that_wants_more_than_text_is_refused_by_what_it_wants(
    wanted: tuple[str, str, str], config: dict[str, Any], tmp_path: Path
) -> None:
    kind, name, remedy = wanted
    folder = made(tmp_path / "model", kind, **config)
    sentence = rf"the network of its Transformer \({kind}\) wants {name} besides a text's tokens, .*: {remedy}$"
    with pytest.raises(UnsupportedError, match=sentence):
        load_stack(folder)
    with pytest.raises(Exception, match=r"language|indices|not supported"):
        as_sentence_transformers(folder, TEXTS[:1])


def test_a_network_that_fails_on_any_token_has_no_table_that_is_too_small(tmp_path: Path) -> None:
    folder = made(tmp_path / "model", "tapas", **SMALL)
    with pytest.raises(IndexError):
        as_sentence_transformers(folder, TEXTS[:1])
    with pytest.raises(UnsupportedError, match=r"do not work together \(IndexError: too many indices"):
        load_stack(folder)


def test_the_remedy_for_a_network_that_wants_a_language_helps(tmp_path: Path) -> None:
    folder = made(tmp_path / "model", "xmod", **SMALL, languages=["en_XX", "de_DE"], default_language="de_DE")
    assert np.abs(load_stack(folder).encode(TEXTS) - as_sentence_transformers(folder, TEXTS)).max() < ROUNDING


@pytest.mark.parametrize("kind", ["pegasus", "blenderbot", "marian", "m2m_100"])
def test_a_whole_network_whose_encoder_would_begin_at_random_is_refused(kind: str, tmp_path: Path) -> None:
    folder = made(tmp_path / "whole", kind, **WHOLE, **HEADS, **IDS)
    # The reference draws it anew each time.
    first, second = (as_sentence_transformers(folder, ["hello"]) for _ in range(2))
    assert np.abs(first - second).max() > ROUNDING
    with pytest.raises(UnsupportedError, match=rf"of a {kind} .* random ones: save the encoder alone"):
        load_stack(folder)
    alone = Path(shutil.copytree(folder, tmp_path / "alone"))
    AutoModel.from_pretrained(folder).get_encoder().save_pretrained(alone)
    assert np.abs(load_stack(alone).encode(TEXTS) - as_sentence_transformers(alone, TEXTS)).max() < ROUNDING
