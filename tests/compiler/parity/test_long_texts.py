"""Texts as long as a model takes them: what is wrong only there fails parity."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest
import torch
import transformers
from tokenizers import Tokenizer

from stcompile.artifact.report import read_report
from stcompile.compiler import export
from stcompile.compiler.export import export_model
from stcompile.compiler.parity import verify
from stcompile.compiler.parity.probes import long_texts, probe_texts
from stcompile.errors import InputError, ParityError
from tests.conftest import MODELS, _run_here

TEXTS = ["hello", "the quick brown fox", "new york city " * 40]
POSITIONS = 4500


@pytest.fixture(scope="module")
def long_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """pool_mean with a smaller network of 4500 positions."""
    folder = Path(shutil.copytree(MODELS / "pool_mean", tmp_path_factory.mktemp("long") / "model"))
    config = transformers.AutoConfig.from_pretrained(folder)
    torch.manual_seed(0)
    small: dict[str, Any] = {"num_hidden_layers": 1, "num_attention_heads": 1, "max_position_embeddings": POSITIONS}
    transformers.AutoModel.from_config(type(config)(**{**config.to_dict(), **small})).save_pretrained(folder)
    limits = folder / "sentence_bert_config.json"
    limits.write_text(json.dumps({"max_seq_length": POSITIONS, "do_lower_case": False}), encoding="utf-8")
    return folder


@pytest.fixture
def damage(traced_once: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Exports in this process, with other positions from one on in the compiled graph alone."""
    trace = traced_once.trace

    def from_position(first: int) -> None:
        def trace_damaged(*arguments: Any) -> ir.Model:
            graph: ir.Model = trace(*arguments)
            tables = [
                value for value in graph.graph.initializers.values() if tuple(value.shape or ())[:1] == (POSITIONS,)
            ]
            assert len(tables) == 1
            assert tables[0].const_value is not None
            rows = tables[0].const_value.numpy().copy()
            rows[first:] = rows[first:][::-1]
            tables[0].const_value = ir.tensor(rows, name=tables[0].name)
            return graph

        monkeypatch.setattr(export, "trace", trace_damaged)

    monkeypatch.setattr(verify, "run_shipped", _run_here)
    return from_position


def test_a_model_of_long_texts_is_compared_on_long_texts(long_model: Path, tmp_path: Path, damage: Any) -> None:
    damage(POSITIONS)
    artifact = export_model(long_model, tmp_path / "artifact", "onnx-fp32", texts=TEXTS)
    assert artifact.manifest.text.max_seq_length == POSITIONS
    assert read_report(artifact).parity.num_texts == len(TEXTS) + 2


# Between them lie the lengths that short texts reach, 1500 and 4096.
@pytest.mark.parametrize("first", [700, 2000])
def test_what_is_wrong_only_on_long_texts_fails(first: int, long_model: Path, tmp_path: Path, damage: Any) -> None:
    damage(first)
    with pytest.raises(ParityError, match="max abs error"):
        export_model(long_model, tmp_path / "artifact", "onnx-fp32", texts=TEXTS)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("limit", "flat", "tokens"),
    [
        (512, False, [512]),
        (2048, True, [2048]),
        (3000, False, [1500, 3000]),
        (4096, False, [1500, 4096]),
        (8192, False, [1500, 4096]),
        (None, False, [1500, 4096]),
        (None, True, []),
    ],
)
def test_how_long_the_long_texts_are(limit: int | None, flat: bool, tokens: list[int]) -> None:
    tokenizer = Tokenizer.from_file(str(MODELS / "pool_mean" / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if limit is not None:
        tokenizer.enable_truncation(limit)

    def count(text: str) -> int:
        return len(tokenizer.encode(text).ids)

    found = [count(text) for text in long_texts(probe_texts(), limit, count, flat=flat)]
    assert len(found) == len(tokens)
    # A word more would be too long.
    assert all(wanted - 20 < number <= wanted for number, wanted in zip(found, tokens, strict=True))


@pytest.mark.usefixtures("traced_once")
def test_a_text_that_no_tokenizer_reads_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a text that parity is judged on"):
        export_model(MODELS / "pool_mean", tmp_path / "artifact", "onnx-fp32", texts=["half a \ud83d pair"])


def test_texts_without_a_word_make_no_long_one() -> None:
    assert long_texts(["", " "], 512, len, flat=False) == []
