"""StaticEmbedding computes what sentence-transformers computes; model2vec's folders and distillation lead to it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import save_file
from sentence_transformers.sentence_transformer import modules as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from stcompile.compiler.modules import StaticEmbedding
from stcompile.errors import InputError, MissingExtraError, ModelFolderError

WORDS = ["[UNK]", "[CLS]", "the", "quick", "brown", "fox"]
TEXTS = ["the quick brown fox", "", "fox unknown fox", "   "]


def tokenizer() -> Tokenizer:
    made = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 1)])
    return made


def table(rows: int = len(WORDS), seed: int = 1) -> torch.Tensor:
    return torch.randn(rows, 4, generator=torch.Generator().manual_seed(seed))


def encode(module: StaticEmbedding, prompt: str | None = None) -> torch.Tensor:
    with torch.no_grad():
        embeddings = module(module.tokenize(TEXTS, prompt))["sentence_embedding"]
    assert isinstance(embeddings, torch.Tensor)
    return embeddings


def encode_by_theirs(module: Any, prompt: str | None = None) -> torch.Tensor:
    with torch.no_grad():
        embeddings = module(module.preprocess(TEXTS, prompt=prompt))["sentence_embedding"]
    assert isinstance(embeddings, torch.Tensor)
    return embeddings


@pytest.mark.parametrize("prompt", [None, "the brown "])
def test_it_averages_and_saves_like_sentence_transformers(prompt: str | None, tmp_path: Path) -> None:
    limited = tokenizer()
    limited.enable_truncation(3, direction="left")
    limited.enable_padding(length=9)
    ours = StaticEmbedding(limited, table())
    assert limited.padding is not None  # the caller's own stays as it was
    expected = encode_by_theirs(st.StaticEmbedding(limited, table()), prompt)
    torch.testing.assert_close(encode(ours, prompt), expected, atol=1e-6, rtol=0)
    ours.save(tmp_path)
    torch.testing.assert_close(encode_by_theirs(st.StaticEmbedding.load(str(tmp_path)), prompt), expected)
    spec, _ = ours.front_end("tokenizer.json")
    assert (spec.kind, spec.max_seq_length, spec.truncation_side) == ("static", 3, "left")


def test_a_fast_tokenizer_of_transformers_will_do_and_another_will_not() -> None:
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer(), unk_token="[UNK]")
    assert torch.equal(encode(StaticEmbedding(fast, table())), encode(StaticEmbedding(tokenizer(), table())))
    assert StaticEmbedding(tokenizer(), embedding_dim=7).out_width(0) == 7
    with pytest.raises(InputError, match="fast tokenizer"):
        StaticEmbedding(object(), table())
    with pytest.raises(InputError, match="embedding_dim"):
        StaticEmbedding(tokenizer())


FOLDERS: dict[str, dict[str, torch.Tensor]] = {
    "plain": {"embeddings": table()},
    "shared-rows": {"embeddings": table(3), "mapping": torch.tensor([0, 2, 1, 1, 0, 2])},
    "weighted": {"embeddings": table().half(), "weights": torch.linspace(0.1, 2, len(WORDS), dtype=torch.float64)},
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_of_model2vec_is_read_like_sentence_transformers_without_that_library(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "model2vec", None)
    save_file(FOLDERS[name], str(tmp_path / "model.safetensors"))
    tokenizer().save(str(tmp_path / "tokenizer.json"))
    expected = encode_by_theirs(st.StaticEmbedding.load(str(tmp_path))).float()
    torch.testing.assert_close(encode(StaticEmbedding.from_model2vec(tmp_path)), expected, atol=1e-6, rtol=0)


def test_a_table_of_integers_is_the_numbers_it_holds(tmp_path: Path) -> None:
    levels = torch.arange(-12, 12, dtype=torch.int8).reshape(len(WORDS), 4)
    save_file({"embeddings": levels}, str(tmp_path / "model.safetensors"))
    tokenizer().save(str(tmp_path / "tokenizer.json"))
    expected = encode_by_theirs(st.StaticEmbedding(tokenizer(), levels.float()))
    torch.testing.assert_close(encode(StaticEmbedding.load(tmp_path, {})), expected)


@pytest.mark.parametrize(
    ("tensors", "problem"),
    [
        ({"embedding.weight": table(2)}, "2 rows, but the tokenizer makes ids up to 5"),
        ({"embedding.weight": table() / 0}, "not finite"),
        ({"embeddings": table(2), "mapping": torch.tensor([0, 1, 2, 0, 0, 0])}, "mapping"),
        ({"embeddings": table(), "weights": torch.ones(2)}, r"weights are \(2,\) for 6 tokens"),
        ({"other": table()}, "only other"),
    ],
)
def test_a_table_of_another_tokenizer_is_refused(
    tensors: dict[str, torch.Tensor], problem: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelFolderError, match=r"no tokenizer\.json"):
        StaticEmbedding.load(tmp_path, {})
    save_file(tensors, str(tmp_path / "model.safetensors"))
    tokenizer().save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ModelFolderError, match=problem):
        StaticEmbedding.load(tmp_path, {})


def test_distillation_refuses_what_the_installed_library_cannot_do(monkeypatch: pytest.MonkeyPatch) -> None:
    library, distilling = ModuleType("model2vec"), ModuleType("model2vec.distill")
    calls: list[dict[str, Any]] = []

    def distill(model_name: str, pca_dims: int, quantize_to: str, pooling: str = "mean") -> Any:
        calls.append({"model_name": model_name, "pca_dims": pca_dims, "quantize_to": quantize_to, "pooling": pooling})
        numbers = np.asfortranarray(table().numpy())
        return SimpleNamespace(tokenizer=tokenizer(), embedding=numbers, weights=np.full(len(WORDS), 2.0))

    distilling.distill = distill  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "model2vec", library)
    monkeypatch.setitem(sys.modules, "model2vec.distill", distilling)
    made = StaticEmbedding.from_distillation("some/model", pca_dims=4, pooling="last")
    assert calls == [{"model_name": "some/model", "pca_dims": 4, "quantize_to": "float32", "pooling": "last"}]
    assert torch.equal(made.embedding.weight, table() * 2)
    with pytest.raises(InputError, match="no apply_zipf"):
        StaticEmbedding.from_distillation("some/model", apply_zipf=False)
    with pytest.raises(InputError, match="no nonsense"):
        StaticEmbedding.from_distillation("some/model", nonsense=1)
    monkeypatch.setitem(sys.modules, "model2vec.distill", None)
    with pytest.raises(MissingExtraError, match=r"stcompile\[static\]"):
        StaticEmbedding.from_distillation("some/model")


def test_the_graph_averages_every_token_on_several_threads(tmp_path: Path) -> None:
    class Graph(torch.nn.Module):
        def __init__(self, module: StaticEmbedding) -> None:
            super().__init__()
            self.module = module

        def forward(self, ids: torch.Tensor, offsets: torch.Tensor) -> Any:
            return self.module({"input_ids": ids, "offsets": offsets})["sentence_embedding"]

    numbers = torch.randn(len(WORDS), 64)
    module = StaticEmbedding(tokenizer(), numbers)
    values = module.examples()
    torch.onnx.export(
        Graph(module).eval(),
        tuple(values[name].value for name in module.input_names),
        str(tmp_path / "static.onnx"),
        input_names=list(module.input_names),
        dynamic_shapes=tuple({0: torch.export.Dim(values[name].axes[0])} for name in module.input_names),
        opset_version=20,
        dynamo=True,
        verbose=False,
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 4
    session = onnxruntime.InferenceSession(str(tmp_path / "static.onnx"), options)
    rng = np.random.default_rng(0)
    for count, offsets in ((20_000, [0, 9_000, 9_000]), (1, [0]), (0, [0, 0]), (3, [0, 3])):
        ids = rng.integers(0, len(WORDS), count)
        found = session.run(None, {"input_ids": ids, "offsets": np.array(offsets)})[0]
        for row, begin, end in zip(found, offsets, [*offsets[1:], count], strict=True):
            rows = numbers.numpy().astype(np.float64)[ids[begin:end]]
            np.testing.assert_allclose(row, rows.mean(axis=0) if end > begin else 0, atol=1e-5)
