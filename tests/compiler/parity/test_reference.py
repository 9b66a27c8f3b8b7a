"""What parity believes: sentence-transformers, and our own modules only where it says so."""

from __future__ import annotations

import contextlib
import shutil
import weakref
from importlib.metadata import version
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

import stcompile
from stcompile.artifact import open_artifact
from stcompile.artifact.report import read_report
from stcompile.compiler import export
from stcompile.compiler.export import export_model
from stcompile.compiler.metrics import BROKEN, compared
from stcompile.compiler.modules.pooling import Pooling
from stcompile.compiler.parity import reference, verify
from stcompile.compiler.parity.reference import open_reference
from stcompile.compiler.stack.load import load_stack
from stcompile.compiler.stack.source import ModelSource
from stcompile.errors import MissingExtraError, ParityError
from tests.conftest import GOLDEN, MODELS, Compiled, Quick, _run_here, transformer_of

TEXTS = ["", "hello", "the quick brown fox", "new york city " * 40]
PACKAGE = f"sentence-transformers {version('sentence-transformers')}"


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Judges in this process, which takes seconds less."""
    monkeypatch.setattr(verify, "run_shipped", _run_here)


@pytest.mark.more_models
@pytest.mark.usefixtures("here")
def test_what_all_of_our_modules_misread_is_found_in_8_bits_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pooling that is a little wrong: torch and the graph agree with each other, well within 8 bits' tolerance."""
    right = Pooling.forward

    def slightly_wrong(self: Pooling, features: Any) -> Any:
        found = right(self, features)
        pooled = found["sentence_embedding"]
        return {**found, "sentence_embedding": pooled + 0.01 * pooled.norm(dim=1, keepdim=True)}

    monkeypatch.setattr(Pooling, "forward", slightly_wrong)
    with pytest.raises(ParityError, match=f"reads the model otherwise than {PACKAGE}") as error:
        export_model(MODELS / "pool_mean", tmp_path / "artifact", "onnx-int8", texts=TEXTS, calibration=TEXTS)
    assert "please report" in str(error.value)
    assert "is below" not in str(error.value)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("case", "reason"),
    [("model2vec_plain", "model type `model2vec`"), ("model2vec_folder_int8", "Only Tensors of floating point")],
)
def test_folders_that_it_cannot_load_are_judged_by_our_own_modules_and_the_report_says_so(
    case: str, reason: str, quick: Quick
) -> None:
    parity = read_report(quick(case, "onnx-fp32")).parity
    assert parity.reference.startswith(f"stcompile's own modules ({PACKAGE} cannot load the model: ")
    assert reason in parity.reference
    assert "\n" not in parity.reference


def test_report_and_verify_name_the_reference(compiled: Compiled) -> None:
    folder = compiled("full_stack")
    assert read_report(open_artifact(folder)).parity.reference == PACKAGE
    report = stcompile.verify_artifact(folder, MODELS / "full_stack", texts=TEXTS)
    assert (report.reference, report.misread, report.passed) == (PACKAGE, False, True)


@pytest.mark.more_models
def test_a_text_that_it_cannot_encode_is_left_to_our_own_modules(quick: Quick) -> None:
    """Of the empty text its tokenizer makes no token, and torch cannot run on none."""
    parity = read_report(quick("backbone_qwen3_no_eos", "onnx-fp32")).parity
    assert parity.reference.startswith(f"{PACKAGE}; for a text that it cannot encode (RuntimeError: ")
    assert parity.reference.endswith("stcompile's own modules")


def test_a_distilled_model_is_judged_from_a_folder_of_its_own(compiled: Compiled) -> None:
    parity = read_report(open_artifact(compiled("pool_mean", "static"))).parity
    assert parity.reference == f"{PACKAGE}, of the distilled model"


def encoded(found: reference.Reference, prompt: str = "") -> Any:
    return found.encode(TEXTS, prompt=prompt, task=None, dim=32)


def test_a_live_object_is_asked_itself_and_left_as_it_was() -> None:
    live = SentenceTransformer(str(MODELS / "pool_mean"), device="cpu")
    expected = live.encode(TEXTS, batch_size=1)
    live.train()
    live[1].eval()
    assert np.array_equal(encoded(open_reference(ModelSource(live))), expected)
    assert (live.training, live[0].training, live[1].training) == (True, True, False)


def test_a_live_object_in_fewer_bits_is_computed_in_float32() -> None:
    live = SentenceTransformer(str(MODELS / "pool_mean"), device="cpu").half()
    found = encoded(open_reference(ModelSource(live)))
    assert next(live.parameters()).dtype == torch.float16
    assert np.array_equal(found, live.float().encode(TEXTS, batch_size=1))


def test_a_folder_in_fewer_bits_is_computed_in_float32() -> None:
    """Its Dense is stored in float32: cast after loading, it would have lost bits to the network's float16 already."""
    folder = MODELS / "weights_float16"
    wide = SentenceTransformer(str(folder), device="cpu", model_kwargs={"torch_dtype": torch.float32})
    assert np.array_equal(encoded(open_reference(ModelSource(folder))), wide.encode(TEXTS, batch_size=1))


def test_a_model_that_is_told_by_its_name_is_loaded_by_it(tmp_path: Path) -> None:
    """INSTRUCTOR's folders do not say that its pooling leaves the prompt out: the hub id does."""
    commit = "0" * 40
    home = tmp_path / "models--hkunlp--instructor-base"
    shutil.copytree(MODELS / "pool_mean", home / "snapshots" / commit)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit, encoding="utf-8")
    found = encoded(open_reference(ModelSource("hkunlp/instructor-base", cache_dir=str(tmp_path))), "the quick ")
    model = SentenceTransformer(str(MODELS / "pool_mean"), device="cpu")
    assert not np.allclose(found, model.encode(TEXTS, prompt="the quick "), atol=1e-3)
    model.set_pooling_include_prompt(False)
    assert np.array_equal(found, model.encode(TEXTS, prompt="the quick ", batch_size=1))


def test_a_model_that_was_fetched_is_loaded_without_a_question_to_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers asks for an adapter, and where there is no network it waits half a minute for the answer."""
    pytest.importorskip("peft")
    commit = "0" * 40
    home = tmp_path / "models--sentence-transformers--small"
    shutil.copytree(MODELS / "pool_mean", home / "snapshots" / commit)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit, encoding="utf-8")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    asked: list[str] = []
    monkeypatch.setattr(huggingface_hub.file_download, "get_hf_file_metadata", lambda url, **_: asked.append(url))
    name = "sentence-transformers/small"
    open_reference(ModelSource(name, cache_dir=str(tmp_path)))
    assert asked == []
    with contextlib.suppress(Exception):
        SentenceTransformer(name, device="cpu", local_files_only=True, cache_folder=str(tmp_path))
    # Where this fails, transformers has mended it, and the option can go.
    assert asked


def test_its_absence_is_noticed_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "find_spec", lambda _: None)
    monkeypatch.setattr(export, "load_stack", pytest.fail)
    with pytest.raises(MissingExtraError, match=r"pip install 'stcompile\[compile\]'"):
        export_model(MODELS / "pool_mean", tmp_path / "artifact")


def test_another_number_of_tokens_is_a_failure_and_no_crash() -> None:
    found = compared(np.ones((3, 4), np.float32), np.ones((2, 4), np.float32))
    assert (found.abs_error.tolist(), found.cosine.tolist()) == ([BROKEN, BROKEN], [-1, -1])


def test_artifacts_of_before_there_was_a_choice_are_read() -> None:
    parity = read_report(open_artifact(GOLDEN / "artifacts" / "v3" / "full_stack-onnx-int8")).parity
    assert parity.reference == reference.OWN


@pytest.mark.usefixtures("here")
def test_our_own_network_is_let_go_of_before_the_reference_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two networks at once would be what an export's memory is made of."""
    networks: list[weakref.ref[Any]] = []
    alive: list[bool] = []

    def load(*arguments: Any, **options: Any) -> Any:
        stack = load_stack(*arguments, **options)
        networks.append(weakref.ref(transformer_of(stack).network))
        return stack

    def opened(source: ModelSource, kind: str, *, distilled: bool) -> reference.Reference:
        alive.extend(network() is not None for network in networks)
        return open_reference(source, kind, distilled=distilled)

    monkeypatch.setattr(export, "load_stack", load)
    monkeypatch.setattr(verify, "open_reference", opened)
    export_model(MODELS / "pool_mean", tmp_path / "artifact", "onnx-fp32", texts=TEXTS)
    assert alive == [False]
