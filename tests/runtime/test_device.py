"""Names of devices, and what a GPU that is asked for and cannot be had says."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import onnxruntime
import pytest

import stcompile
from stcompile.artifact import open_artifact
from stcompile.errors import InputError, ProviderError
from stcompile.runtime.device import Device
from stcompile.runtime.engines.bound import BoundRuns, bucketed
from stcompile.runtime.route import GPU_LENGTH_MULTIPLE
from tests.conftest import Compiled, Quick, load_case

_CUDA = "CUDAExecutionProvider"
_CPU = "CPUExecutionProvider"

_CASE = "pool_mean_with_prompt"


@pytest.fixture(scope="session")
def artifact(compiled: Compiled) -> Path:
    return compiled(_CASE)


@pytest.mark.parametrize(
    ("name", "device", "shown"),
    [
        ("cpu", Device("cpu"), "cpu"),
        ("cpu:0", Device("cpu"), "cpu"),
        ("cuda", Device("cuda"), "cuda:0"),
        ("cuda:1", Device("cuda", 1), "cuda:1"),
        ("cuda:12", Device("cuda", 12), "cuda:12"),
    ],
)
def test_a_device_is_named_as_torch_names_it(name: str, device: Device, shown: str) -> None:
    assert Device.parse(name) == device
    assert str(device) == shown


@pytest.mark.parametrize("name", ["gpu", "CPU", "cpu:1", "cuda:", "cuda:-1", "cuda:x", "cuda:1 ", "", None, 0])
def test_an_unknown_device_names_the_known_ones(name: Any, artifact: Path) -> None:
    with pytest.raises(ProviderError, match=r"unknown device .*: choose cpu, cuda, or cuda:1"):
        stcompile.load(artifact, device=name)


@pytest.mark.skipif(_CUDA in onnxruntime.get_available_providers(), reason="this onnxruntime has CUDA")
def test_cuda_that_is_not_installed_is_an_error(artifact: Path) -> None:
    with pytest.raises(ProviderError, match=r"cuda:0 was asked for.*pip install 'stcompile\[cuda\]'"):
        stcompile.load(artifact, device="cuda")


class Session:
    """As ONNX Runtime with a GPU: what it was opened with, and where it says its nodes are."""

    opened: ClassVar[list[Session]] = []
    providers: ClassVar[list[str]] = [_CUDA, _CPU]
    nodes: ClassVar[dict[str, list[str]]] = {
        _CUDA: ["MatMul", "MultiHeadAttention"],
        _CPU: ["Shape", "Gather", "Concat"],
    }

    def __init__(self, _: str, options: Any, providers: list[Any], enable_fallback: int = 1) -> None:
        assert options.get_session_config_entry("session.record_ep_graph_assignment_info") == "1"
        self.asked = providers
        self.fallback = bool(enable_fallback)
        self.opened.append(self)

    def get_providers(self) -> list[str]:
        return list(self.providers)

    def release_captured_graph(self, _: int) -> None:
        """As every version that lets go of graphs has it."""

    def get_provider_graph_assignment_info(self) -> list[Any]:
        def part(provider: str, names: list[str]) -> Any:
            return SimpleNamespace(
                ep_name=provider, get_nodes=lambda: [SimpleNamespace(op_type=name) for name in names]
            )

        return [part(provider, names) for provider, names in self.nodes.items()]


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> type[Session]:
    class Fresh(Session):
        opened: ClassVar[list[Session]] = []

    monkeypatch.setattr(onnxruntime, "InferenceSession", Fresh)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [_CUDA, _CPU])
    return Fresh


@pytest.mark.parametrize(("name", "index"), [("cuda", "0"), ("cuda:1", "1")])
def test_the_gpu_that_was_named_is_opened_in_full_precision(
    name: str, index: str, artifact: Path, session: type[Session]
) -> None:
    assert str(stcompile.load(artifact, device=name).device) == f"cuda:{index}"
    (made,) = session.opened
    (provider, settings), rest = made.asked
    assert (provider, rest) == (_CUDA, _CPU)
    assert settings["device_id"] == index
    assert settings["use_tf32"] == "0"
    # A failing GPU moves to no CPU, now or later.
    assert not made.fallback


def test_cuda_that_falls_back_is_an_error(artifact: Path, session: type[Session]) -> None:
    """As ONNX Runtime without cuDNN: it warns, and hands out a session on CPU."""
    session.providers = [_CPU]
    with pytest.raises(ProviderError, match=r"cuda:0 was asked for but .* could not start it .*device='cpu'"):
        stcompile.load(artifact, device="cuda")


def test_a_node_that_takes_time_on_the_cpu_is_an_error(artifact: Path, session: type[Session]) -> None:
    session.nodes = {_CUDA: ["MatMul"], _CPU: ["Shape", "MatMulIntegerToFloat", "Attention", "Attention"]}
    with pytest.raises(ProviderError, match=r"a part of the graph on the CPU \(2 Attention, 1 MatMulIntegerToFloat\)"):
        stcompile.load(artifact, device="cuda")


def test_an_onnxruntime_that_does_not_tell_where_nodes_run_is_refused(
    artifact: Path, session: type[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Session, "get_provider_graph_assignment_info")
    with pytest.raises(ProviderError, match="does not tell where its nodes run: pip install --upgrade"):
        stcompile.load(artifact, device="cuda")


def test_the_engine_tells_where_its_nodes_run(artifact: Path) -> None:
    """What the check rests on, with the real engine."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    real = onnxruntime.InferenceSession(str(artifact / "model.onnx"), options, providers=[_CPU])
    parts = real.get_provider_graph_assignment_info()
    assert {part.ep_name for part in parts} == {_CPU}
    assert "Attention" in {node.op_type for part in parts for node in part.get_nodes()}


def test_lengths_on_a_gpu_are_multiples(artifact: Path, session: type[Session]) -> None:
    encoder = stcompile.load(artifact, device="cuda")
    ((_, feeds),) = encoder._routes[""].batches(["hello", "hello there, you"], None, None)
    assert feeds["input_ids"].shape[1] % GPU_LENGTH_MULTIPLE == 0
    assert feeds["input_ids"].shape == feeds["attention_mask"].shape


@pytest.fixture
def unpadded(quick: Quick) -> Path:
    return quick("cnn_over_transformer", "onnx-fp32").folder


def test_what_must_not_be_padded_is_not_padded_for_a_gpu(unpadded: Path, session: type[Session]) -> None:
    encoder = stcompile.load(unpadded, device="cuda")
    batches = [feeds for _, feeds in encoder._routes[""].batches(["hello", "hello there, you"], None, None)]
    assert all(feeds["attention_mask"].all() for feeds in batches)


@pytest.mark.parametrize("asked", [True, False])
def test_cuda_graphs_are_off_unless_asked_for(asked: bool, artifact: Path, session: type[Session]) -> None:
    stcompile.load(artifact, device="cuda", cuda_graphs=asked)
    (made,) = session.opened
    assert made.asked[0][1]["enable_cuda_graph"] == str(int(asked))


def test_graphs_that_are_never_let_go_of_are_refused(
    artifact: Path, session: type[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Session, "release_captured_graph")
    with pytest.raises(ProviderError, match=r"never lets go of a CUDA graph.*pip install --upgrade onnxruntime-gpu"):
        stcompile.load(artifact, device="cuda", cuda_graphs=True)
    stcompile.load(artifact, device="cuda")


def test_cuda_graphs_of_texts_behind_each_other_are_refused(compiled: Compiled) -> None:
    with pytest.raises(ProviderError, match=r"lie behind each other.*no CUDA graph can hold: load without cuda_graphs"):
        stcompile.load(compiled("static"), device="cuda", cuda_graphs=True)


def test_cuda_graphs_on_a_cpu_are_refused(artifact: Path) -> None:
    with pytest.raises(InputError, match="cuda_graphs is for cuda, not for cpu: leave it out"):
        stcompile.load(artifact, cuda_graphs=True)


def bound(folder: Path, *, graphs: bool = False) -> tuple[BoundRuns, Any]:
    real = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=[_CPU])
    return BoundRuns(onnxruntime, real, "cpu", 0, graphs=graphs), real


@pytest.mark.parametrize("graphs", [False, True])
def test_bound_runs_are_the_plain_ones_for_every_shape(graphs: bool, artifact: Path) -> None:
    """The same memory again and again, on the only device there is everywhere."""
    runs, real = bound(artifact, graphs=graphs)
    encoder = stcompile.load(artifact, threads=1)
    texts = [text for text in load_case(_CASE).texts if isinstance(text, str)]
    batches = [feeds for size in (1, 3, 7, 1, 3) for _, feeds in encoder._routes[""].batches(texts, None, size)]
    kept = []
    for feeds in batches:
        (found,) = runs.run(feeds, ("sentence_embedding",))
        (expected,) = real.run(["sentence_embedding"], feeds)
        assert np.abs(found - expected).max() <= 1e-6
        kept.append((found, found.copy()))
    # What was handed out is the caller's, whatever runs after it.
    assert all(np.array_equal(*pair) for pair in kept)


@pytest.mark.parametrize("graphs", [False, True])
def test_memory_is_kept_for_so_many_shapes_and_no_more(
    graphs: bool, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stcompile.runtime.engines.bound._SHAPES", 5)
    runs, real = bound(artifact, graphs=graphs)
    released: list[int] = []
    monkeypatch.setattr(real, "release_captured_graph", released.append)
    names = [item.name for item in open_artifact(artifact).manifest.graphs[0].inputs]
    for length in range(2, 12):
        ids = {name: np.ones((3, length), dtype=np.int64) for name in names}
        # A graph is captured the second time: every other shape has none that could be let go of.
        for _ in range(1 + length % 2):
            assert runs.run(ids, ("sentence_embedding",))[0].shape[0] == 3
    assert len(runs._known) == 5
    assert released == ([2, 4] if graphs else [])


def test_a_captured_run_has_an_id_of_its_own_from_the_second_time_on(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, real = bound(artifact, graphs=True)
    ids: list[str] = []
    run = real.run_with_iobinding

    def watched(binding: Any, options: Any) -> None:
        ids.append(options.get_run_config_entry("gpu_graph_id"))
        run(binding)

    monkeypatch.setattr(real, "run_with_iobinding", watched)
    names = [item.name for item in open_artifact(artifact).manifest.graphs[0].inputs]
    # Three and four texts are one shape; so many tokens are computed for longer than they are launched.
    for texts, length in ((3, 4), (4, 4), (4, 4), (1, 4), (1, 4), (200, 40), (200, 40)):
        runs.run({name: np.ones((texts, length), dtype=np.int64) for name in names}, ("sentence_embedding",))
    assert ids == ["-1", "1", "1", "-1", "2", "-1", "-1"]


def test_buckets_repeat_the_last_text() -> None:
    feeds = {"input_ids": np.arange(6).reshape(3, 2), "attention_mask": np.ones((3, 2), dtype=np.int64)}
    found = bucketed({**feeds, "prompt_length": np.array(2)})
    assert found is not None
    assert found["input_ids"].tolist() == [[0, 1], [2, 3], [4, 5], [4, 5]]
    assert found["attention_mask"].shape == (4, 2)
    assert found["prompt_length"].shape == ()
    assert bucketed({"input_ids": np.arange(6), "offsets": np.array([0, 2])}) is None
