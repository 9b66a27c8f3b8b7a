"""The folder that transformers.js reads is an artifact like any other, and models it could not serve are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stcompile
from stcompile.artifact.manifest import ENCODER, LONGEST, NO_PADDING, SENTENCE, TOKENS, WEIGHTS, TextSpec
from stcompile.artifact.target import Target
from stcompile.compiler.layouts import Shape, layout_of, transformers_js
from stcompile.compiler.stack.source import ModelSource
from stcompile.errors import InputError, UnsupportedError
from tests.conftest import MODELS, Quick, load_case
from tests.test_golden import FLOAT32_ROUNDING, scaled_error

LAYOUT = "transformers.js"


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("case", ["normalize", "static"])
def test_it_is_an_artifact_too(case: str, quick: Quick) -> None:
    known, folder = load_case(case), quick(case, "onnx-fp32", layout=LAYOUT).folder
    assert files_of(folder) - files_of(quick(case, "onnx-fp32").folder) == {
        "onnx/model.onnx",
        "config.json",
        "tokenizer_config.json",
    }
    encoder = stcompile.load(folder, threads=1, self_test=True)
    assert scaled_error(known.expected(), encoder.encode(known.texts)).max() <= FLOAT32_ROUNDING
    assert np.array_equal(
        encoder.encode(known.texts), stcompile.load(quick(case, "onnx-fp32").folder, threads=1).encode(known.texts)
    )


@pytest.mark.parametrize(
    ("target", "file", "dtype"),
    [
        ("onnx-int8", "model_quantized", "q8"),
        ("onnx-int8-weights", "model_quantized", "q8"),
        ("onnx-fp16", "model_fp16", "fp16"),
        ("onnx-bf16", "model", "fp32"),
    ],
)
def test_the_file_is_called_as_it_is_looked_for(target: str, file: str, dtype: str, quick: Quick) -> None:
    folder = quick("normalize", target, layout=LAYOUT).folder
    assert (folder / "onnx" / f"{file}.onnx").is_file()
    settings = json.loads((folder / "config.json").read_text())
    assert settings["transformers.js_config"] == {"dtype": dtype}


def test_what_it_reads_of_a_tokenizer(quick: Quick) -> None:
    """As transformers tells it of the model's own."""
    from transformers import AutoTokenizer

    own = AutoTokenizer.from_pretrained(MODELS / "normalize")
    found = json.loads((quick("normalize", "onnx-fp32", layout=LAYOUT).folder / "tokenizer_config.json").read_text())
    assert found["pad_token"] == own.pad_token
    assert found["padding_side"] == own.padding_side
    limit = json.loads((MODELS / "normalize" / "sentence_bert_config.json").read_text()).get("max_seq_length")
    assert found["model_max_length"] == (limit or own.model_max_length)


@pytest.mark.parametrize(
    ("case", "target", "reasons"),
    [
        ("router_two_encoders", "openvino-fp32", ["is OpenVINO's", "this model has 2 graphs"]),
        ("reranker_bert", "onnx-fp32", ["this is a reranker"]),
        ("pool_mean_exclude_prompt", "onnx-fp32", ["pooling leaves the prompt out"]),
        ("wordemb_mean", "onnx-fp32", ["texts are split by rules of the model's own"]),
        ("plain_chat_template", "onnx-fp32", ["the model has a chat template"]),
        ("truncation_side_left", "onnx-fp32", ["texts are cut on the left"]),
        ("truncate_dim_in_config", "onnx-fp32", ["vectors are cut behind the graph"]),
        ("prompt_default_name", "onnx-fp32", ["plain encode puts the default prompt in front"]),
    ],
)
def test_what_it_could_not_serve_is_refused(case: str, target: str, reasons: list[str], tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError) as caught:
        stcompile.export_model(MODELS / case, tmp_path / "out", target, layout=LAYOUT)
    assert len(caught.value.reasons) == len(reasons)
    for told, reason in zip(caught.value.reasons, reasons, strict=True):
        assert told.startswith(f"transformers.js cannot read it: {reason}" if case != "router_two_encoders" else "")
        assert reason in told
    assert not (tmp_path / "out").exists()


def test_further_reasons() -> None:
    def reasons(text: TextSpec | None = None, **options: Any) -> list[str]:
        plain = TextSpec("transformer", "tokenizer.json", 64)
        asked = {"graphs": 1, "routes": 1, "outputs": (SENTENCE,), "padding": LONGEST, **options}
        return transformers_js.reasons_against(
            Shape("model", Target.parse("onnx-fp32"), ENCODER, text or plain, ("input_ids",), **asked),
            ModelSource(MODELS / "normalize"),
        )

    assert reasons() == []
    assert reasons(outputs=(SENTENCE, TOKENS)) == []
    for text, options, told in (
        (TextSpec("transformer", "tokenizer.json", 64, min_seq_length=5), {}, "texts are padded to 5 positions"),
        (TextSpec("transformer", "tokenizer.json", 64, split_special_tokens=True), {}, "special tokens in a text"),
        (None, {"padding": NO_PADDING}, "vectors depend on padding"),
        (None, {"outputs": (SENTENCE, WEIGHTS)}, "what the graph makes besides vectors"),
        (None, {"routes": 2}, "this model reads texts in 2 ways"),
        (None, {"packed": True}, "packed graphs run on GPUs alone"),
    ):
        (reason,) = reasons(text, **options)
        assert told in reason


def test_an_unknown_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unknown layout 'keras': choose one of transformers\.js, optimum"):
        stcompile.export_model(MODELS / "normalize", tmp_path / "out", layout="keras")
    assert layout_of(LAYOUT) is transformers_js
