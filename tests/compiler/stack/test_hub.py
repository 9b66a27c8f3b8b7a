"""Models by their hub id, from a hub that is a folder here: which repository, and which of its files."""

from __future__ import annotations

import fnmatch
import shutil
import socket
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import OfflineModeIsEnabled

from stcompile.compiler import hub
from stcompile.compiler.inspection import inspect
from stcompile.compiler.modules import StaticEmbedding
from stcompile.compiler.stack.load import load_stack
from stcompile.compiler.stack.source import _HUB_FILES, ModelSource
from stcompile.compiler.tune import tuning as tune
from stcompile.errors import ModelFolderError
from tests.conftest import MODELS

BOTH_FORMATS = (
    "config.json",
    "model.safetensors",
    "pytorch_model.bin",
    "1_Pooling/config.json",
    "2_Dense/config.json",
    "2_Dense/model.safetensors",
    "2_Dense/pytorch_model.bin",
    "3_Dense/pytorch_model.bin",
    "vocab.txt",
    "README.md",
    "onnx/config.json",
    "onnx/model.onnx",
    "onnx/tokenizer.json",
    "openvino/openvino_model.xml",
    "openvino/config.json",
    "tf_model.h5",
    "rust_model.ot",
    "flax_model.msgpack",
    "train_script.py",
    "optimizer.pt",
)
PATTERNS = ["*.json", "*.safetensors", "*.txt", "*pytorch_model*.bin", "*.py"]


def test_weights_are_fetched_in_one_format() -> None:
    assert hub.needed(BOTH_FORMATS, PATTERNS) == [
        "config.json",
        "model.safetensors",
        "1_Pooling/config.json",
        "2_Dense/config.json",
        "2_Dense/model.safetensors",
        "3_Dense/pytorch_model.bin",
        "vocab.txt",
        "train_script.py",
    ]


@pytest.mark.parametrize(
    ("files", "kept"),
    [
        (["pytorch_model.bin"], ["pytorch_model.bin"]),
        (
            ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"],
            ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"],
        ),
        (
            ["model.safetensors.index.json", "pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json"],
            ["model.safetensors.index.json"],
        ),
        # these are weights of an adapter, not of the network
        (["adapter_model.safetensors", "pytorch_model.bin"], ["adapter_model.safetensors", "pytorch_model.bin"]),
    ],
)
def test_shards_and_adapters(files: list[str], kept: list[str]) -> None:
    assert hub.needed(files, PATTERNS) == kept


def test_of_every_folder_that_is_read_all_is_fetched() -> None:
    """Files that only one library writes are missed otherwise, and what they say with them."""
    for model in sorted(MODELS.iterdir()):
        files = sorted(path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file())
        assert sorted(hub.needed(files, _HUB_FILES)) == files, model.name


@dataclass
class FakeHub:
    """Stands for the hub's client: repositories are folders, the cache is one more."""

    root: Path
    cache: Path
    is_reachable: bool = True
    asked: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)

    def model_info(self, name: str, *, revision: str | None = None, timeout: float | None = None) -> Any:
        assert timeout
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=file) for file in self.files(name)])

    def files(self, name: str) -> list[str]:
        self.asked.append(name)
        if not self.is_reachable:
            raise OfflineModeIsEnabled("the hub is out of reach")
        if not (self.root / name).is_dir():
            # Its own constructor wants the hub's answer.
            raise _not_found(name)
        home = self.root / name
        return sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())

    def snapshot_download(
        self, name: str, *, allow_patterns: list[str], local_files_only: bool = False, **options: Any
    ) -> str:
        self.options = options
        home = self.cache / name
        if local_files_only:
            if not home.is_dir():
                raise FileNotFoundError(f"{name} is not in the cache")
            return str(home)
        for file in self.files(name):
            if any(fnmatch.fnmatchcase(file, pattern) for pattern in allow_patterns):
                self.fetched.append(file)
                (home / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(self.root / name / file, home / file)
        return str(home)


def _not_found(name: str) -> Exception:
    error = huggingface_hub.errors.RepositoryNotFoundError.__new__(huggingface_hub.errors.RepositoryNotFoundError)
    Exception.__init__(error, f"there is no {name}")
    return error


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    found = FakeHub(tmp_path / "hub", tmp_path / "cache")
    monkeypatch.setattr(huggingface_hub, "model_info", found.model_info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", found.snapshot_download)
    shutil.copytree(MODELS / "pool_mean", found.root / "sentence-transformers/small")
    for name in ("pytorch_model.bin", "onnx/model.onnx", "onnx/config.json"):
        (found.root / "sentence-transformers/small" / name).parent.mkdir(exist_ok=True)
        (found.root / "sentence-transformers/small" / name).write_bytes(b"not to be fetched")
    shutil.copytree(MODELS / "pool_mean", found.root / "ancient-base-uncased")
    return found


def test_a_name_without_a_slash_is_one_of_sentence_transformers(fake: FakeHub) -> None:
    stack = load_stack("small", revision="abc", cache_dir="~/hub-cache")
    assert stack.name == "sentence-transformers/small"
    assert fake.options == {"revision": "abc", "cache_dir": str(Path("~/hub-cache").expanduser())}
    assert "model.safetensors" in fake.fetched
    assert not [file for file in fake.fetched if "onnx" in file or file.endswith(".bin")]


def test_a_name_that_they_do_not_have_is_taken_as_it_is(fake: FakeHub) -> None:
    assert load_stack("ancient-base-uncased").name == "ancient-base-uncased"
    assert fake.asked[:2] == ["sentence-transformers/ancient-base-uncased", "ancient-base-uncased"]


def test_a_folder_here_comes_first(fake: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(MODELS / "pool_mean", tmp_path / "here/small")
    monkeypatch.chdir(tmp_path / "here")
    assert load_stack("small").name == "small"
    assert fake.asked == []


@pytest.mark.parametrize("name", ["small", "sentence-transformers/small"])
def test_what_was_fetched_once_is_found_without_the_hub(name: str, fake: FakeHub) -> None:
    load_stack(name)
    fake.is_reachable = False
    assert load_stack(name).name == "sentence-transformers/small"


def test_a_hub_that_fails_for_a_moment_gives_no_other_model(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(MODELS / "pool_mean", fake.root / "small")
    real = fake.model_info

    def fails_once(name: str, **options: Any) -> Any:
        if not fake.asked:
            fake.asked.append(name)
            raise ConnectionError("try again")
        return real(name, **options)

    monkeypatch.setattr(huggingface_hub, "model_info", fails_once)
    with pytest.raises(ModelFolderError, match=r"did not deliver a model of that name \(try again\)"):
        load_stack("small")
    assert fake.asked == ["sentence-transformers/small"]


@pytest.mark.parametrize("name", ["nothing-like-it", "nobody/nothing"])
def test_what_is_nowhere_is_named(name: str, fake: FakeHub) -> None:
    with pytest.raises(ModelFolderError, match=f"there is no folder {name}, and the hub did not deliver"):
        load_stack(name)


@pytest.mark.parametrize(
    "path", ["./small", "../small", "/small", "~/small", "a/b/small", r"a\small", ".", "small/", "-a"]
)
def test_what_can_only_be_a_path_is_never_asked_for(path: str, fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(fake.root)
    with pytest.raises(ModelFolderError):
        load_stack(path)
    assert fake.asked == []


@pytest.mark.parametrize("name", ["nope", "nobody/nope"])
def test_a_hub_out_of_reach_is_asked_once(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its own client, which repeats other requests for half a minute."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail(f"it waits for {seconds} s"))
    with pytest.raises(ModelFolderError, match=f"there is no folder {name}, and the hub did not deliver"):
        load_stack(name, cache_dir=str(tmp_path))


def test_inspect_takes_a_hub_id(fake: FakeHub) -> None:
    found = inspect("small", revision="abc", cache_dir="/cache")
    assert (found["kind"], found["compiles"]) == ("model", True)
    assert fake.options == {"revision": "abc", "cache_dir": "/cache"}


def test_tune_hands_on_where_the_model_comes_from(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[ModelSource] = []

    class EnoughError(Exception):
        pass

    def run_export(source: ModelSource, *_: Any) -> None:
        asked.append(source)
        raise EnoughError

    monkeypatch.setattr(tune, "run_export", run_export)
    monkeypatch.setattr(tune, "_check_embeds", asked.append)
    with pytest.raises(EnoughError):
        tune.tune_model("small", tmp_path / "out", revision="abc", cache_dir="/cache", targets=["onnx-int8"])
    assert asked == [ModelSource("small", "abc", "/cache")] * 2


def test_a_table_of_model2vec_by_its_hub_id(fake: FakeHub) -> None:
    shutil.copytree(MODELS / "model2vec_plain", fake.root / "minishlab/potion")
    assert isinstance(StaticEmbedding.from_model2vec("minishlab/potion"), StaticEmbedding)
    assert set(fake.fetched) == {"tokenizer.json", "model.safetensors"}


def test_the_hubs_own_client_finds_its_cache_out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    commit = "0123456789" * 4
    home = tmp_path / "models--sentence-transformers--small"
    shutil.copytree(MODELS / "pool_mean", home / "snapshots" / commit)
    (home / "refs").mkdir()
    (home / "refs/main").write_text(commit)
    assert load_stack("small", cache_dir=str(tmp_path)).name == "sentence-transformers/small"
    with pytest.raises(ModelFolderError, match="hub did not deliver"):
        load_stack("another", cache_dir=str(tmp_path))
