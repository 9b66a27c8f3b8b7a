"""The golden folders, and what they compile to: shared by every test that needs a real artifact."""

from __future__ import annotations

import copy
import functools
import gc
import hashlib
import json
import os
import sys
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

# Above numpy and torch, which read it as they are imported: of matrices this small their threads do nothing but wait,
# and waiting is spinning. Threads of the engines, which are tested, are not theirs.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import numpy.typing as npt
import pytest
from filelock import FileLock
from PIL import Image

import stcompile
from stcompile.artifact import open_artifact
from stcompile.artifact.manifest import ENCODER, SCHEMA_VERSION, GraphSpec, Manifest, TensorSpec, TextSpec
from stcompile.artifact.report import ModuleSummary, ParityReport, Report, Source
from stcompile.artifact.target import Tolerance
from stcompile.errors import StcompileError
from stcompile.kernels import native
from stcompile.runtime.answers import answered
from stcompile.runtime.hybrid_embeddings import MULTI_VECTOR
from stcompile.runtime.sparse_vectors import SparseVectors
from tests import traces
from tests.tiers import COMPILED_OFTEN, TRACED_OFTEN

pytest_plugins = ("tests.costs",)

GOLDEN = Path(__file__).parents[1] / "golden"
MODELS = GOLDEN / "models"
EXPECTED = GOLDEN / "expected"
PICTURES = GOLDEN / "images"

if TYPE_CHECKING:
    from stcompile.artifact import Artifact
    from stcompile.compiler.modules import Transformer
    from stcompile.compiler.stack.module_stack import ModuleStack

# compiled(case, target, outputs) -> the artifact's folder; never write there, copy it first
Compiled = Callable[..., Path]

# quick(case, target, destination, **arguments of export_model) -> the artifact; without a destination made once
Quick = Callable[..., "Artifact"]


@dataclass(frozen=True)
class Case:
    """One golden case: its model folder, its texts, and its recorded runs by name."""

    name: str
    about: dict[str, Any]
    texts: list[Any]
    runs: dict[str, dict[str, Any]]

    @property
    def model(self) -> Path:
        return MODELS / self.name

    def inputs_of(self, run: dict[str, Any]) -> list[Any]:
        """What a run is given: texts, each in a dict of one key or by itself, or images, opened or by their paths."""
        if "images" in run:
            paths = [str(PICTURES / f"{name}.png") for name in self.about["images"]]
            return paths if run["images"] == "paths" else [Image.open(path) for path in paths]
        return [{run["key"]: text} for text in self.texts] if "key" in run else self.texts

    @property
    def trusted(self) -> bool:
        """Whether the model comes with code of its own, which sentence-transformers was told to run."""
        return bool(self.about.get("load_kwargs", {}).get("trust_remote_code"))

    def expected(self, run: str = "default") -> npt.NDArray[Any]:
        """The rows sentence-transformers gave; those of several tokens lie one after the other."""
        rows: npt.NDArray[Any] = np.load(EXPECTED / self.name / self.runs[run]["file"])
        return rows

    def ragged(self, run: str) -> list[npt.NDArray[Any]]:
        """As `expected`, cut into one array a text."""
        offsets = np.load(EXPECTED / self.name / self.runs[run]["offsets"])
        return np.split(self.expected(run), offsets[1:-1])


def transformer_of(stack: ModuleStack) -> Transformer:
    """The Transformer at the front of a stack without routes."""
    from stcompile.compiler.modules import Transformer

    front = stack.routes[""].front
    assert isinstance(front, Transformer)
    return front


def cases_of(kind: str) -> list[str]:
    """Names of the golden cases of one of sentence-transformers' classes."""
    about = {path.parent.name: json.loads(path.read_text("utf-8")) for path in EXPECTED.glob("*/case.json")}
    return sorted(name for name, case in about.items() if case["kind"] == kind)


def load_case(name: str) -> Case:
    """The golden case of that name."""
    about = json.loads((EXPECTED / name / "case.json").read_text(encoding="utf-8"))
    texts = json.loads((EXPECTED / about["inputs"]).read_text(encoding="utf-8"))
    return Case(name, about, texts, {run["name"]: run for run in about["runs"]})


class _Quick:
    """`export_model` of golden cases, for tests of many targets: what does not depend on the target is done once.

    A model is read, tokenized for calibration and encoded by sentence-transformers once in a process, and parity is
    judged in it too; it is traced once for all processes (`tests.traces`). All else is done anew: passes, recipe,
    writing, the verdict, the manifest. The texts of parity are the case's own. Without a destination an artifact is
    made once for all workers of a test run, and never written to.
    """

    def __init__(self, base: Path, traced: traces.Traces) -> None:
        import torch

        from stcompile.compiler import export

        torch.set_num_threads(1)
        _read_operators_once()
        # Torch and all else that stays: not to be looked through again for what can go.
        gc.collect()
        gc.freeze()
        self._base = base
        self._traced = traced
        self._real = {name: getattr(export, name) for name in _INDEPENDENT}
        self._refused: dict[str, StcompileError] = {}
        self._cases: dict[str, _Once] = {}

    def __call__(self, case: str, target: str, destination: Path | None = None, **options: Any) -> Artifact:
        if destination is not None:
            return self._export(case, target, destination, options)
        asked = {name: value for name, value in options.items() if _DEFAULTS.get(name) != value}
        digest = hashlib.sha256(repr(sorted(asked.items())).encode()).hexdigest()[:12]
        folder = self._base / "-".join((case, target, *([digest] if asked else [])))
        # Held by one worker at a time, and let go of when a worker dies.
        with FileLock(f"{folder}.lock"):
            if folder.is_dir():
                return open_artifact(folder, check_integrity=False)
            if folder.name not in self._refused:
                try:
                    # For all tests: not as the first that asks has set its own process.
                    with pytest.MonkeyPatch.context() as patch:
                        _as_started(patch)
                        return self._export(case, target, folder, options)
                except StcompileError as error:
                    self._refused[folder.name] = error
        raise self._refused[folder.name]

    def _export(self, case: str, target: str, destination: Path, options: dict[str, Any]) -> Artifact:
        from stcompile.compiler import export
        from stcompile.compiler.parity import heads, scores, verify

        known = load_case(case)
        texts = [text for text in known.texts if isinstance(text, str)] or None
        if known.about["kind"] == "CrossEncoder":
            texts = list(dict.fromkeys(text for pair in known.texts for text in pair))
        options = {"texts": texts, "trust_remote_code": known.trusted, **options}
        once, real = self._of(case), self._real

        def traced(route: Any, outputs: Any, name: str) -> Any:
            if id(route) not in names:  # distilled, and in no folder
                return _uncollected(real["trace"])(route, outputs, name)
            key = traces.key_of(traces.content_of(known.model), known.trusted, names[id(route)], route, outputs)
            return self._traced(key, lambda: _uncollected(real["trace"])(route, outputs, name))

        def stack_of(source: Any) -> Any:
            stack = once("stack", real["load_stack"], source)
            names.update((id(route), name) for name, route in traces.routes_of(stack))
            return stack

        names: dict[int, str] = {}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(export, "load_stack", stack_of)
            patch.setattr(export, "padding_for", lambda stack: once("padding", real["padding_for"], stack))
            patch.setattr(export, "Calibration", lambda *given: once("calibration", real["Calibration"], *given))
            patch.setattr(export, "ImageCalibration", lambda *given: once("pictures", real["ImageCalibration"], *given))
            patch.setattr(export, "trace", traced)
            for judge in (verify, scores):
                patch.setattr(judge, "run_shipped", _run_here)
                patch.setattr(judge, "gc", _NothingCollected)
            patch.setattr(heads, "run_shipped", _run_here)
            patch.setattr(verify, "open_reference", lambda source, kind, **how: _reference(source, once, kind, **how))
            patch.setattr(scores, "open_reference", lambda source, kind: _reference(source, once, kind))
            return export.export_model(known.model, destination, target, **options)

    def _of(self, case: str) -> _Once:
        """What is known of a case; of the last few cases, for tests of one case run one after the other."""
        once = self._cases[case] = self._cases.pop(case) if case in self._cases else _Once()
        if len(self._cases) > _CASES_KEPT:
            del self._cases[next(iter(self._cases))]
        return once


def _as_started(patch: pytest.MonkeyPatch) -> None:
    if _KERNELS is None:
        patch.delenv(native.VARIABLE, raising=False)
    else:
        patch.setenv(native.VARIABLE, _KERNELS)


# What the tests were started with.
_KERNELS = os.environ.get(native.VARIABLE)

_INDEPENDENT = ("load_stack", "padding_for", "Calibration", "ImageCalibration", "trace")
_CASES_KEPT = 16

# Arguments that change nothing.
_DEFAULTS: dict[str, Any] = {"outputs": ("sentence_embedding",), "provider": "cpu"}


class _Once:
    """Calls a function once for the same arguments."""

    def __init__(self) -> None:
        self._answers: dict[Any, Any] = {}

    def __call__(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        key = name, *arguments
        if key not in self._answers:
            self._answers[key] = function(*arguments)
        return self._answers[key]


class _NothingCollected:
    """In place of `gc`."""

    @staticmethod
    def collect() -> None:
        """Leaves all where it lies."""


def _read_operators_once() -> None:
    """Lets the exporter read its operators' sources once, not in each trace: a tenth of its time."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    read = functools.cache(ONNXRegistry.from_torchlib)

    def copied(*, opset_version: int) -> ONNXRegistry:
        # A trace adds operators of its own.
        registry = copy.copy(read(opset_version=opset_version))
        registry.functions = {target: list(known) for target, known in registry.functions.items()}
        return registry

    ONNXRegistry.from_torchlib = staticmethod(copied)  # type: ignore[method-assign,assignment]


def _uncollected(function: Callable[..., Any]) -> Callable[..., Any]:
    """As it is, with nothing looked for that can go: a fifth of the time of a trace."""

    def call(*arguments: Any) -> Any:
        gc.disable()
        try:
            return function(*arguments)
        finally:
            gc.enable()

    return call


def _reference(source: Any, once: _Once, kind: str = ENCODER, *, distilled: bool = False) -> Any:
    """sentence-transformers' answers, asked for once."""
    from stcompile.compiler.parity.reference import open_reference

    if distilled:
        return open_reference(source, distilled=True)
    return once("reference", lambda source: _Remembering(open_reference(source, kind)), source)


class _Remembering:
    """A `Reference` that answers the same question once."""

    def __init__(self, reference: Any) -> None:
        self._reference = reference
        self._known: dict[Any, Any] = {}

    @property
    def about(self) -> str:
        return str(self._reference.about)

    def encode(self, texts: Sequence[str], **options: Any) -> Any:
        return self._asked("encode", texts, options)

    def tokens(self, texts: Sequence[str], **options: Any) -> Any:
        return self._asked("tokens", texts, options)

    def logits(self, pairs: Sequence[Any], **options: Any) -> Any:
        return self._asked("logits", pairs, options)

    def scores(self, pairs: Sequence[Any], **options: Any) -> Any:
        return self._asked("scores", pairs, options)

    def images(self, paths: Sequence[str], **options: Any) -> Any:
        # The same pictures, whichever folder they are in.
        key = ("images", *map(os.path.basename, paths), *sorted(options.items()))
        if key not in self._known:
            self._known[key] = self._reference.images(paths, **options)
        return self._known[key]

    def _asked(self, name: str, texts: Sequence[str], options: dict[str, Any]) -> Any:
        key = (name, *texts, *sorted(options.items(), key=str))
        if key not in self._known:
            self._known[key] = getattr(self._reference, name)(texts, **options)
        return self._known[key]


def _run_here(artifact: Path, texts: Sequence[str], runs: Any, *, device: str) -> dict[str, npt.NDArray[Any]]:
    """`run_shipped` without a process of its own."""
    from stcompile.compiler.metrics import as_ragged

    found = {}
    for kernels in {run.kernels for run in runs.values()}:
        with pytest.MonkeyPatch.context() as patch:
            if not kernels:
                patch.setenv(native.VARIABLE, native.NONE)
            encoder = stcompile.load(artifact, device=device, threads=1)
        if isinstance(encoder, stcompile.MultiVectorEncoder):
            encoder.keep_all()
        for name, run in runs.items():
            if run.kernels is kernels:
                vectors: Any = answered(encoder, [texts[index] for index in run.order], run.options, run.part)
                vectors = vectors.toarray() if isinstance(vectors, SparseVectors) else vectors
                if isinstance(encoder, stcompile.MultiVectorEncoder) or run.part == MULTI_VECTOR:
                    found[name] = as_ragged(vectors)
                else:
                    found[name] = np.concatenate(vectors) if isinstance(vectors, list) else vectors
    return found


@pytest.fixture(scope="session")
def traced(pytestconfig: pytest.Config) -> traces.Traces:
    """Traced graphs, kept from run to run; see `tests.traces`."""
    return traces.opened(pytestconfig)


@pytest.fixture
def traced_once(traced: traces.Traces, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Every export of a folder in this test shares its trace with all other tests of that content.

    For tests of what comes behind the trace. One that changes what is traced, as a module's `forward`, goes without.

    Returns:
        what holds the `load_stack` and the `trace` that do it.
    """
    from stcompile.compiler import export
    from stcompile.compiler.stack.source import ModelSource, SourceOptions

    steps: Any = export
    load, trace = steps.load_stack, _uncollected(steps.trace)
    loaded: weakref.WeakKeyDictionary[Any, tuple[Path, bool, str]] = weakref.WeakKeyDictionary()

    def load_known(model: Any, **options: Any) -> Any:
        stack = load(model, **options)
        source = ModelSource.of(model, cast(SourceOptions, options))
        if not source.is_live and not source.follow_links and Path(source.model).expanduser().is_dir():
            for name, route in traces.routes_of(stack):
                loaded[route] = Path(source.model).expanduser(), source.trust_remote_code, name
        return stack

    def trace_once(route: Any, outputs: Any, name: str) -> Any:
        if route not in loaded:
            return trace(route, outputs, name)
        folder, trusted, own = loaded[route]
        key = traces.key_of(traces.content_now(folder), trusted, own, route, outputs)
        return traced(key, lambda: trace(route, outputs, name))

    monkeypatch.setattr(steps, "load_stack", load_known)
    monkeypatch.setattr(steps, "trace", trace_once)
    return steps


@pytest.fixture(scope="session")
def quick(tmp_path_factory: pytest.TempPathFactory, traced: traces.Traces) -> Quick:
    """Exports golden cases as `export_model` does, in a fraction of its time; see `_Quick`."""
    base = tmp_path_factory.getbasetemp()
    # the workers of pytest-xdist share the parent; without workers it outlives the run
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "artifacts"
    shared.mkdir(exist_ok=True)
    return _Quick(shared, traced)


@pytest.fixture(scope="session")
def compiled(quick: Quick) -> Compiled:
    """The folder of a golden case's artifact."""

    def folder(
        case: str, target: str = "onnx-fp32", outputs: Sequence[str] = ("sentence_embedding",), provider: str = "cpu"
    ) -> Path:
        return quick(case, target, outputs=tuple(outputs), provider=provider).folder

    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of one golden case run in one worker, which has read it, and so do all others of a file.

    So that nothing is read twice, with `pytest -n auto --dist loadgroup`. What is made of models that are not compiled
    in every run is marked `more_models` (`tests.tiers`).
    """
    known = {folder.name for folder in EXPECTED.iterdir()}
    for item in items:
        asked = getattr(item, "callspec", None)
        case = next((value for value in asked.params.values() if str(value) in known), None) if asked else None
        fixtures = set(getattr(item, "fixturenames", ()))
        group = case if fixtures & {"quick", "compiled"} else "traced" if "trace" in fixtures else None
        item.add_marker(pytest.mark.xdist_group(group or item.path.stem))
        network = asked.params.get("architecture") if asked and group == "traced" else None
        if (group in known and group not in COMPILED_OFTEN) or (network and network not in TRACED_OFTEN):
            item.add_marker(pytest.mark.more_models)


@pytest.fixture
def manifest() -> Manifest:
    """A small manifest of a graph that is nowhere."""
    rows, vectors = ("batch", "sequence"), TensorSpec("sentence_embedding", "float32", ("batch", "8"))
    inputs = tuple(TensorSpec(name, "int64", rows) for name in ("input_ids", "attention_mask"))
    return Manifest(
        schema_version=SCHEMA_VERSION,
        target="onnx-fp32",
        batch_invariant=True,
        optimization_level="basic",
        dim=8,
        truncate_dim=None,
        similarity="cosine",
        prompts={"query": "Frage: ", "document": ""},
        default_prompt_name=None,
        text=TextSpec("transformer", "more/tokenizer.json", 64, "right", "right", 0, 0, (101, 102)),
        graphs=(GraphSpec("", "model.onnx", None, inputs, (vectors,)),),
    )


@pytest.fixture
def report() -> Report:
    """A small report of nothing."""
    return Report(
        source=Source("small", "ab" * 32, (ModuleSummary("Pooling", {"pooling_mode": "mean"}),)),
        recipe="float32",
        provider="cpu",
        opsets={"": 23},
        passes=(),
        quantization=None,
        distillation=None,
        notes=("größer als nötig",),
        versions={"stcompile": "0.1.0"},
        parity=ParityReport(
            target="onnx-fp32",
            num_texts=250,
            max_abs_error=3e-7,
            min_cosine=1.0,
            mean_cosine=1.0,
            neighbour_overlap=1.0,
            batch_invariance=0.9999999,
            reference_batch_invariance=1.0,
            worst_text="größer",
            tolerance=Tolerance(1e-5, 0.99999, 0.99999, None),
            failures=(),
            texts_sha256="cd" * 32,
            reference="sentence-transformers 6.2.0",
        ),
    )


@pytest.fixture
def own_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers copies the code of a model to a cache, by the name of its folder, and imports it from there."""
    from transformers import dynamic_module_utils

    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "cache"))
    # A cache that another test put there would be found first.
    monkeypatch.setattr(sys, "path", [path for path in sys.path if not Path(path, "transformers_modules").is_dir()])
    for name in [name for name in sys.modules if name.startswith("transformers_modules")]:
        monkeypatch.delitem(sys.modules, name)
