"""What reaches a network of a tokenizer's output, and whether there is a row for it, against sentence-transformers."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from transformers import AutoTokenizer

import stcompile
from stcompile.compiler.export import export_model
from stcompile.compiler.parity.front_ends import check_front_ends
from stcompile.compiler.stack.load import load_stack
from stcompile.compiler.stack.module_stack import ModuleStack
from stcompile.compiler.stack.route import front_ends
from stcompile.errors import InputError, UnsupportedError
from stcompile.runtime.route import FRONT_ENDS
from tests.conftest import MODELS, transformer_of
from tests.own_network import edit, own_network

pytestmark = pytest.mark.usefixtures("traced_once")

PAIR = ("the quick brown fox", "jumps over the lazy dog")

# Of two float32 computations of the same few operations, on numbers up to 3: with AVX-512 1.02e-6 were seen.
ROUNDING = 2e-6

IN_THE_FOLDER = ("config.json", "model.safetensors", "sentence_bert_config.json")

TYPED = "return self.answer(input_ids, self.types(token_type_ids))"
PLAIN = "return self.answer(input_ids, 0)"


def network(tmp_path: Path, parameters: str, body: str) -> Path:
    forward = f"def forward(self, {parameters}):\n    {body}"
    return own_network(tmp_path / f"model_{tmp_path.name}", forward)


def theirs(folder: Path) -> SentenceTransformer:
    return SentenceTransformer(str(folder), device="cpu", trust_remote_code=True)


def inputs_of(stack: ModuleStack) -> tuple[str, ...]:
    return transformer_of(stack).input_names


@pytest.mark.usefixtures("own_code")
@pytest.mark.parametrize(
    ("parameters", "body", "takes_types"),
    [
        ("input_ids, **kwargs", "return self.answer(input_ids, self.types(kwargs['token_type_ids']))", True),
        ("*args, **kwargs", "return self.answer(kwargs['input_ids'], self.types(kwargs['token_type_ids']))", True),
        ("input_ids, attention_mask, token_type_ids, return_dict", TYPED, True),
        # Handed over, and nothing made of it: no input of the graph.
        ("input_ids, **kwargs", PLAIN, False),
    ],
)
def test_a_network_is_given_what_sentence_transformers_gives_it(
    parameters: str, body: str, takes_types: bool, tmp_path: Path
) -> None:
    folder = network(tmp_path, parameters, body)
    stack = load_stack(folder, trust_remote_code=True)
    assert ("token_type_ids" in inputs_of(stack)) is takes_types
    reference = theirs(folder)
    for text in ("one text", PAIR):
        expected = reference.encode([text])
        assert np.abs(stack.encode([text]) - expected).max() < ROUNDING
    # One text twice would be right with types of zero, too.
    assert bool(np.abs(reference.encode([PAIR]) - reference.encode([PAIR[::-1]])).max() > ROUNDING) is takes_types


@pytest.mark.usefixtures("own_code")
def test_code_in_the_root_of_a_model_runs_a_network_in_a_folder_of_it(tmp_path: Path) -> None:
    """The one place where sentence-transformers finds it, since it hands transformers the root and a subfolder."""
    folder = network(tmp_path, "input_ids, attention_mask=None, token_type_ids=None, return_dict=True", PLAIN)
    inner = folder / "0_Transformer"
    inner.mkdir()
    for path in [*folder.glob("*token*"), *(folder / name for name in IN_THE_FOLDER)]:
        path.rename(inner / path.name)
    edit(folder / "modules.json", lambda rows: [{**rows[0], "path": inner.name}, *rows[1:]])
    with pytest.raises(UnsupportedError, match="pass trust_remote_code=True if you trust it"):
        load_stack(folder)
    artifact = export_model(folder, tmp_path / "out", "onnx-fp32", texts=["a", "b c"], trust_remote_code=True)
    expected = theirs(folder).encode(list(PAIR))
    assert np.abs(load_stack(folder, trust_remote_code=True).encode(PAIR) - expected).max() < ROUNDING
    assert np.abs(stcompile.load(artifact.folder).encode(list(PAIR)) - expected).max() < ROUNDING


@pytest.mark.usefixtures("own_code")
def test_an_artifact_of_an_open_network_reads_pairs(tmp_path: Path) -> None:
    folder = network(
        tmp_path, "input_ids, **kwargs", "return self.answer(input_ids, self.types(kwargs['token_type_ids']))"
    )
    artifact = export_model(folder, tmp_path / "out", "onnx-fp32", texts=["a", *PAIR], trust_remote_code=True)
    assert [item.name for item in artifact.manifest.graphs[0].inputs] == [
        "input_ids",
        "attention_mask",
        "token_type_ids",
    ]
    found = stcompile.load(artifact.folder).encode([PAIR])
    assert np.abs(found - theirs(folder).encode([PAIR])).max() < ROUNDING


@pytest.mark.usefixtures("own_code")
def test_what_cannot_run_in_sentence_transformers_is_refused(tmp_path: Path) -> None:
    folder = network(tmp_path, "input_ids, attention_mask, return_dict", PLAIN)
    with pytest.raises(TypeError, match="token_type_ids"):
        theirs(folder).encode(["a"])
    with pytest.raises(UnsupportedError, match="makes token_type_ids, which its network's forward does not take"):
        load_stack(folder, trust_remote_code=True)
    edit(folder / "tokenizer_config.json", lambda old: {**old, "model_input_names": ["input_ids", "attention_mask"]})
    assert inputs_of(load_stack(folder, trust_remote_code=True)) == ("input_ids", "attention_mask")


def test_a_tokenizer_without_a_mask_is_refused(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(MODELS / "pool_mean", tmp_path / "model"))
    edit(folder / "tokenizer_config.json", lambda old: {**old, "model_input_names": ["input_ids"]})
    with pytest.raises(UnsupportedError, match="its tokenizer makes no attention_mask: add it to model_input_names"):
        load_stack(folder)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copytree(MODELS / "pool_mean", tmp_path / "model"))


def add_tokens(folder: Path, *tokens: str, special: bool = False) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(list(tokens), special_tokens=special)
    tokenizer.save_pretrained(folder)


@pytest.mark.parametrize("special", [False, True])
def test_ids_without_a_row_are_refused(special: bool, model: Path) -> None:
    add_tokens(model, "<product>", "<brand>", special=special)
    with pytest.raises(IndexError):
        SentenceTransformer(str(model), device="cpu").encode(["a <brand> here"])
    sentence = (
        r"makes ids up to 342 \('<brand>'\), and its network's table has 341 rows.*resize_token_embeddings\(343\)"
    )
    with pytest.raises(UnsupportedError, match=sentence):
        load_stack(model)


def test_padding_without_a_row_is_refused(model: Path) -> None:
    add_tokens(model, "<blank>")
    edit(model / "tokenizer_config.json", lambda old: {**old, "pad_token": "<blank>"})
    with pytest.raises(IndexError):
        SentenceTransformer(str(model), device="cpu").encode(["a", "a b c"])
    with pytest.raises(UnsupportedError, match=r"ids up to 341 \('<blank>'\)"):
        load_stack(model)


def test_an_id_that_no_text_has_needs_no_row(model: Path) -> None:
    add_tokens(model, "<never>", special=True)
    edit(model / "tokenizer_config.json", lambda old: {**old, "split_special_tokens": True})
    texts = ["a <never> here", "b"]
    expected = SentenceTransformer(str(model), device="cpu").encode(texts)
    assert np.abs(load_stack(model).encode(texts) - expected).max() < ROUNDING


def test_a_table_with_rows_to_spare_is_fine(model: Path) -> None:
    backend = json.loads((model / "tokenizer.json").read_text())
    last = max(backend["model"]["vocab"], key=backend["model"]["vocab"].get)
    del backend["model"]["vocab"][last]
    (model / "tokenizer.json").write_text(json.dumps(backend))
    assert transformer_of(load_stack(model)).vocabulary_size == 340


def test_a_vocabulary_with_holes_is_counted_by_its_largest_id(model: Path) -> None:
    backend = json.loads((model / "tokenizer.json").read_text())
    first = next(word for word, number in backend["model"]["vocab"].items() if number == 200)
    del backend["model"]["vocab"][first]
    (model / "tokenizer.json").write_text(json.dumps(backend))
    assert transformer_of(load_stack(model)).vocabulary_size == 341


@pytest.mark.more_models
def test_pairs_without_a_token_type_are_refused_at_run_time(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    model = Path(shutil.copytree(MODELS / "pool_mean", tmp_path / "model"))
    edit(model / "config.json", lambda old: {**old, "type_vocab_size": 1})
    state = load_file(model / "model.safetensors")
    name = next(name for name in state if "token_type" in name)
    save_file({**state, name: state[name][:1].contiguous()}, model / "model.safetensors", metadata={"format": "pt"})
    reference = SentenceTransformer(str(model), device="cpu")
    with pytest.raises(IndexError):
        reference.encode([PAIR])
    encoder = stcompile.load(export_model(model, tmp_path / "out", "onnx-fp32", texts=list(PAIR)).folder)
    assert np.abs(encoder.encode(["one text"]) - reference.encode(["one text"])).max() < ROUNDING
    with pytest.raises(InputError, match="cannot take pairs"):
        encoder.encode([PAIR])


# What tokenizer_config.json may say that tokenizer.json does not. Keys that a tokenizer of this family has no use for
# are here as well: they must not be understood by one side alone.
SETTINGS: dict[str, dict[str, Any]] = {
    "split_special_tokens": {"split_special_tokens": True},
    "add_prefix_space": {"add_prefix_space": True},
    "add_prefix_space off": {"add_prefix_space": False},
    "do_lower_case off": {"do_lower_case": False},
    "strip_accents": {"strip_accents": True},
    "strip_accents off": {"strip_accents": False},
    "tokenize_chinese_chars off": {"tokenize_chinese_chars": False},
    "clean_up_tokenization_spaces": {"clean_up_tokenization_spaces": True},
    "add_bos_token": {"add_bos_token": True},
    "add_bos_token off": {"add_bos_token": False},
    "add_eos_token": {"add_eos_token": True},
    "add_eos_token off": {"add_eos_token": False},
    "legacy": {"legacy": True},
    "legacy off": {"legacy": False},
    "trim_offsets": {"trim_offsets": False},
    "truncation_side": {"truncation_side": "left"},
    "padding_side": {"padding_side": "left"},
    "model_max_length": {"model_max_length": 9},
    "pad_to_multiple_of": {"pad_to_multiple_of": 8},
    "return_tensors": {"return_tensors": "np"},
    "no token types": {"model_input_names": ["input_ids", "attention_mask"]},
    "token types": {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]},
    "positions": {"model_input_names": ["input_ids", "attention_mask", "position_ids"]},
    "class of all": {"tokenizer_class": "PreTrainedTokenizerFast"},
}

ODD_TEXTS = [
    "Hello World, Héllo! this isn't  a test .",
    "  leading",
    "what [SEP] is </s> for, and [MASK]<mask> <pad>[PAD]?",
    "",
    "line\nline",
    "naïve café ÀÉ 中文",
    "the quick brown fox jumps over the lazy dog " * 20,
]


@pytest.mark.parametrize(
    "family",
    [
        "pool_mean",
        *(
            pytest.param(name, marks=pytest.mark.more_models)
            for name in ("backbone_xlmr", "backbone_qwen3_lasttoken", "backbone_roberta", "backbone_t5")
        ),
    ],
)
def test_settings_of_a_tokenizer_reach_the_artifact(family: str, tmp_path: Path) -> None:
    for name, change in SETTINGS.items():
        folder = Path(shutil.copytree(MODELS / family, tmp_path / f"model {name}"))
        edit(folder / "tokenizer_config.json", lambda old, change=change: {**old, **change})
        expected = SentenceTransformer(str(folder), device="cpu").preprocess(ODD_TEXTS)
        stack = load_stack(folder)
        specs, files = front_ends(stack.routes)
        check_front_ends(stack.routes, specs, files, {"query": "Search: "})
        for file, content in files.items():
            (tmp_path / file).write_text(content, encoding="utf-8")
        front = FRONT_ENDS["transformer"](tmp_path, specs[""], inputs_of(stack))
        found = front.collate(front.tokenize(ODD_TEXTS, None), None)
        for key in inputs_of(stack):
            assert np.array_equal(found[key], expected[key].numpy()), (name, key)


def test_a_front_end_that_forgets_a_setting_is_noticed(model: Path) -> None:
    edit(model / "tokenizer_config.json", lambda old: {**old, "split_special_tokens": True})
    stack = load_stack(model)
    specs, files = front_ends(stack.routes)
    check_front_ends(stack.routes, specs, files, {})
    forgotten = {"": dataclasses.replace(specs[""], split_special_tokens=False)}
    with pytest.raises(UnsupportedError, match=r"of the text '\[.*' its tokenizer makes other input_ids"):
        check_front_ends(stack.routes, forgotten, files, {})


def test_word_embeddings_with_a_transformers_tokenizer_split_special_tokens(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(MODELS / "wordemb_transformers_tokenizer", tmp_path / "model"))
    paths = list(folder.rglob("tokenizer_config.json"))
    for path in paths:
        edit(path, lambda old: {**old, "split_special_tokens": True})
    assert paths
    texts = ["what is [SEP] for", "and [MASK]?"]
    expected = SentenceTransformer(str(folder), device="cpu").encode(texts)
    encoder = stcompile.load(export_model(folder, tmp_path / "out", "onnx-fp32", texts=texts).folder)
    assert np.abs(encoder.encode(texts) - expected).max() < ROUNDING * np.abs(expected).max() + ROUNDING
