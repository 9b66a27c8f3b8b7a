"""An encoder is copied, pickled, closed and told about."""

from __future__ import annotations

import copy
import gc
import pickle
import shutil
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stcompile
from stcompile.artifact.manifest import HYBRID
from stcompile.errors import ArtifactError, StcompileError
from tests.conftest import Case, Quick, load_case
from tests.hybrid import ALL

CASE = "postprocessing"
ATOL = 2e-6

ENGINES = pytest.mark.parametrize("target", ["onnx-fp32", "openvino-fp32"])
COPIES = pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda encoder: pickle.loads(pickle.dumps(encoder))]
)


@pytest.fixture(scope="module")
def case() -> Case:
    return load_case(CASE)


@pytest.fixture(scope="module")
def folder(quick: Quick) -> Path:
    return quick(CASE, "onnx-fp32").folder


@ENGINES
@COPIES
def test_a_copy_is_an_encoder_of_its_own(copied: Any, target: str, case: Case, quick: Quick) -> None:
    encoder = stcompile.load(quick(CASE, target).folder, threads=1)
    other = copied(encoder)
    encoder.close()
    np.testing.assert_allclose(other.encode(case.texts), case.expected(), rtol=0, atol=ATOL)


@pytest.mark.parametrize("options", [{"threads": 2}, {"check_integrity": False}, {}])
def test_a_copy_has_the_same_options(options: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = stcompile.load(folder, **options)
    pickled = pickle.dumps((encoder, encoder.single_threaded()))
    # another machine has another number of CPUs, and what was not asked for is taken there
    monkeypatch.setattr("stcompile.runtime.loaded.available_cpus", lambda: 3)
    for other, is_single in zip(pickle.loads(pickled), (False, True), strict=True):
        assert other.threads == options.get("threads", 3)
        assert other.device == encoder.device
        assert other._origin == encoder._origin
        assert other._is_single_threaded is is_single


def test_what_is_pickled_is_small(folder: Path) -> None:
    assert len(pickle.dumps(stcompile.load(folder))) < 1000


@pytest.mark.parametrize(
    ("happens", "sentence"),
    [
        (lambda folder: (folder / "manifest.json").unlink(), "it has no manifest.json"),
        (lambda folder: folder.rename(folder.with_name("moved")), "there is no artifact at"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "corrupt or was changed"),
    ],
)
def test_a_folder_that_changed_is_one_sentence(happens: Any, sentence: str, quick: Quick, tmp_path: Path) -> None:
    folder = tmp_path / "artifact"
    quick(CASE, "onnx-fp32", folder)
    pickled = pickle.dumps(stcompile.load(folder, threads=1))
    happens(folder)
    with pytest.raises(ArtifactError, match=sentence):
        pickle.loads(pickled)


def test_another_artifact_in_its_place_is_refused(quick: Quick, tmp_path: Path) -> None:
    quick(CASE, "onnx-fp32", tmp_path / "artifact")
    pickled = pickle.dumps(stcompile.load(tmp_path / "artifact", threads=1))
    quick("full_stack", "onnx-fp32", tmp_path / "artifact")
    with pytest.raises(ArtifactError, match="holds another artifact than when the encoder was loaded"):
        pickle.loads(pickled)


def _replaced(folder: Path, other: Path) -> None:
    folder.rename(folder.with_name("old"))
    shutil.copytree(other, folder)


def _flipped(folder: Path, other: Path) -> None:
    """As a deployment does that points a link at the next version."""
    folder.rename(folder.with_name("old"))
    folder.symlink_to(other)


def _emptied(folder: Path, _: Path) -> None:
    shutil.rmtree(folder)


def _moved(folder: Path, _: Path) -> None:
    folder.rename(folder.with_name("moved"))


@ENGINES
@pytest.mark.parametrize("happens", [_replaced, _flipped, _emptied, _moved])
@pytest.mark.parametrize("how", ["many texts", "single threads"])
def test_what_was_loaded_goes_on_whatever_its_folder_holds(
    how: str, happens: Any, target: str, quick: Quick, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A second engine is opened when it is needed, and must be of the same files."""
    known = load_case(CASE)
    texts = [f"{text} {number}" for number in range(40) for text in known.texts[3:]]
    encoder = stcompile.load(shutil.copytree(quick(CASE, target).folder, tmp_path / "artifact"), threads=2)
    expected = encoder.encode(texts[:8])
    happens(tmp_path / "artifact", quick("plain_bert", target).folder)
    late = encoder if how == "many texts" else encoder.single_threaded()
    for _ in range(2):
        np.testing.assert_allclose(late.encode(texts, batch_size=8)[:8], expected, atol=1e-6)
    assert caplog.text.count("was replaced or removed after it was loaded") == 1


@pytest.mark.parametrize("of", ["sparse_splade", "bge_m3"])
def test_tokens_are_named_whatever_its_folder_holds(of: str, quick: Quick, tmp_path: Path) -> None:
    folder = shutil.copytree(_of_kind(of, quick), tmp_path / "artifact")
    expected = _named(stcompile.load(folder))
    encoder = stcompile.load(folder)
    _replaced(folder, quick("plain_bert", "onnx-fp32").folder)
    assert _named(encoder) == expected
    with pytest.raises(ArtifactError, match="holds another artifact than when the encoder was loaded: load it again"):
        encoder.self_test()


@pytest.mark.parametrize("of", [CASE, "sparse_splade", "bge_m3", "multi_vector_bert"])
def test_the_process_may_go_to_another_folder(
    of: str, quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = _of_kind(of, quick)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "artifact").symlink_to(made)
    monkeypatch.chdir(tmp_path)
    encoder = stcompile.load("artifact")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert encoder.self_test() > 0.99
    assert pickle.loads(pickle.dumps(encoder)).fingerprint == encoder.fingerprint
    if of in ("sparse_splade", "bge_m3"):
        assert _named(encoder)


def _of_kind(case: str, quick: Quick) -> Path:
    outputs = ALL if case == "bge_m3" else ("sentence_embedding",)
    folder: Path = quick(case, "onnx-fp32", outputs=outputs).folder
    return folder


def _named(encoder: Any) -> Any:
    text = "one two three"
    return encoder.token_weights(encoder.encode_hybrid(text).sparse if encoder.kind == HYBRID else encoder.encode(text))


@ENGINES
def test_closed_is_closed(target: str, quick: Quick) -> None:
    with stcompile.load(quick(CASE, target).folder, threads=2) as encoder:
        single = encoder.single_threaded()
        engine = weakref.ref(encoder._routes[""]._engine)
    encoder.close()
    gc.collect()
    assert engine() is None, "its memory is free"
    for late in (
        lambda: encoder.encode("late"),
        lambda: single.encode("late"),
        encoder.single_threaded,
        lambda: stcompile.AsyncEncoder(encoder),
        lambda: pickle.dumps(encoder),
    ):
        with pytest.raises(StcompileError, match="the encoder is closed"):
            late()
    assert (encoder.get_sentence_embedding_dimension(), encoder.max_seq_length) == (32, single.max_seq_length)


def test_what_it_says_of_itself(folder: Path) -> None:
    encoder = stcompile.load(folder, threads=2)
    told = f"Encoder({folder.name!r}, target='onnx-fp32', dim=32, device='cpu', threads=2"
    assert repr(encoder) == f"{told})"
    encoder.close()
    assert repr(encoder) == f"{told}, closed)"
