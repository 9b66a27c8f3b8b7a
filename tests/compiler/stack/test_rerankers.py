"""Folders of rerankers: how their activation is read, and what is refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import stcompile
from stcompile.artifact.manifest import RERANKER
from stcompile.compiler.inspection import inspect
from stcompile.compiler.stack.describe import describe
from stcompile.compiler.stack.save import save_stack
from stcompile.errors import InputError, ModelFolderError, UnsupportedError
from tests.conftest import MODELS

_IDENTITY, _TANH = "torch.nn.modules.linear.Identity", "torch.nn.modules.activation.Tanh"
_SIGMOID = "torch.nn.modules.activation.Sigmoid"

Edit = Callable[[str, dict[str, Any]], Path]


@pytest.fixture
def edited(tmp_path: Path) -> Callable[..., Path]:
    """A golden reranker with other keys in a JSON file; None takes one out."""

    def copy(case: str, file: str = "config.json", **keys: Any) -> Path:
        folder = tmp_path / case
        if not folder.exists():
            shutil.copytree(MODELS / case, folder)
        path = folder / file
        stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        stored.update(keys)
        path.write_text(json.dumps({key: value for key, value in stored.items() if value is not None}), "utf-8")
        return folder

    return copy


def activation_of(folder: Path) -> Any:
    found = describe(folder)
    assert found.unsupported == ()
    assert found.settings.kind == RERANKER
    return found.entries[-1].config["activation_fn"]


def test_the_newest_place_of_an_activation_wins(edited: Callable[..., Path]) -> None:
    assert activation_of(edited("reranker_bert")) == _SIGMOID
    assert activation_of(edited("reranker_bert", sbert_ce_default_activation_function=_TANH)) == _TANH
    assert activation_of(edited("reranker_bert", sentence_transformers={"activation_fn": _IDENTITY})) == _IDENTITY
    # Where there is no modules.json, CrossEncoder does not look at this one.
    beside = edited("reranker_bert", "config_sentence_transformers.json", activation_fn=_SIGMOID)
    assert activation_of(beside) == _IDENTITY
    assert activation_of(MODELS / "reranker_modernbert_v6") == _TANH


def test_several_labels_have_no_activation_of_their_own() -> None:
    assert activation_of(MODELS / "reranker_bert_classes") == _IDENTITY
    # Of a Dense that writes scores its outputs count, and of a LogitScore there is one.
    for case in ("reranker_pooled_dense", "reranker_logit_score"):
        config = json.loads((MODELS / case / "config_sentence_transformers.json").read_text(encoding="utf-8"))
        assert activation_of(MODELS / case) == config["activation_fn"]


def test_an_activation_that_is_none_of_torchs_is_refused(edited: Callable[..., Path]) -> None:
    folder = edited("reranker_bert", sentence_transformers={"activation_fn": "somebody.Softer"})
    with pytest.raises(UnsupportedError, match=r"activation of its scores is 'somebody.Softer', not one of torch.nn's"):
        stcompile.load_stack(folder)


def test_a_folder_without_a_trained_head_is_refused(edited: Callable[..., Path]) -> None:
    folder = edited("reranker_modernbert_v6", architectures=["ModernBertForMaskedLM"])
    with pytest.raises(UnsupportedError, match="no head that was trained to classify"):
        stcompile.load_stack(folder)


def test_a_head_whose_weights_are_gone_is_an_incomplete_folder(edited: Callable[..., Path]) -> None:
    folder = edited("reranker_bert")
    shutil.copy(MODELS / "pool_mean" / "model.safetensors", folder)
    with pytest.raises(ModelFolderError, match=r"lack .*classifier"):
        stcompile.load_stack(folder)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"outputs": ("sentence_embedding", "token_embeddings")}, "it scores pairs and makes no token_embeddings"),
        ({"target": "static"}, "it scores pairs, and static embeddings cannot"),
        ({"target": "onnx-int8", "max_drop": 0.01}, "max_drop is measured on embeddings"),
    ],
)
def test_what_a_reranker_does_not_have_is_refused(options: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=says):
        stcompile.export_model(MODELS / "reranker_bert", tmp_path / "artifact", **options)


def test_a_logit_of_no_token_is_refused(edited: Callable[..., Path]) -> None:
    folder = edited("reranker_logit_of_one", "1_LogitScore/config.json", true_token_id=10**6)
    with pytest.raises(UnsupportedError, match="takes the logit of token 1000000, and there are"):
        stcompile.load_stack(folder)
    folder = edited("reranker_logit_of_one", "1_LogitScore/config.json", true_token_id="yes")
    with pytest.raises(UnsupportedError, match="its true_token_id is 'yes': it must be a token id"):
        stcompile.load_stack(folder)


def test_a_template_that_has_no_place_for_a_pair_is_refused(edited: Callable[..., Path]) -> None:
    folder = edited("reranker_logit_score")
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}{% if m.role == 'document' %}{{ m.content }}{% endif %}{% endfor %}", encoding="utf-8"
    )
    with pytest.raises(UnsupportedError, match="chat template"):
        stcompile.load_stack(folder).routes[""].front_end("")


def test_a_plain_folder_whose_template_takes_no_pairs_is_refused(edited: Callable[..., Path]) -> None:
    """sentence-transformers puts its pairs through the template, and fails."""
    folder = edited("reranker_qwen3")
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}", encoding="utf-8"
    )
    with pytest.raises(UnsupportedError, match="chat template does more than put constant text"):
        stcompile.export_model(folder, folder.parent / "artifact", "onnx-fp32")


def test_a_null_activation_ends_the_search(edited: Callable[..., Path]) -> None:
    keys = {"sentence_transformers": {"activation_fn": None}, "sbert_ce_default_activation_function": _TANH}
    assert activation_of(edited("reranker_bert", **keys)) == _SIGMOID


def test_a_stack_that_scores_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a reranker, which only sentence-transformers writes"):
        save_stack(stcompile.load_stack(MODELS / "reranker_bert"), tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_inspect_tells_what_becomes_of_it() -> None:
    found = inspect(MODELS / "reranker_bert")
    assert (found["kind"], found["becomes"], found["compiles"]) == ("model", "reranker", True)
    assert [module["type"] for module in found["modules"]] == ["Transformer", "Scores"]
    assert inspect(MODELS / "pool_mean")["becomes"] == "encoder"
