"""Everything a contender needs before it can start: its environment, and the model in the form it reads."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks._common import status
from benchmarks.peers.contenders import CONTENDERS, PREPARED, REFERENCE, SOURCE, Contender
from benchmarks.peers.environments import python_of
from benchmarks.peers.processes import Process, prepare
from stcompile.artifact.target import Target
from stcompile.compiler.export import export_model
from stcompile.compiler.quantize.calibration import default_set
from stcompile.compiler.stack.module_stack import ModuleStack
from stcompile.kernels.cpu_features import adds_int8_products, computes_bfloat16


@dataclass(frozen=True)
class Ready:
    """A contender that can be started: its interpreter and what `worker.py` is told."""

    python: Path
    settings: dict[str, Any]

    def on(self, cores: int) -> dict[str, Any]:
        """The settings for so many CPUs, and as many threads."""
        cpus = sorted(os.sched_getaffinity(0))[:cores] if hasattr(os, "sched_getaffinity") else []
        return {**self.settings, "threads": cores, "cpus": cpus}


@contextmanager
def started(ready: Mapping[str, Ready], cores: int) -> Iterator[list[Process]]:
    """All contenders' processes, on the same CPUs; they end with the block."""
    with ExitStack() as stack:
        processes = []
        for name, item in ready.items():
            processes.append(Process(name, item.python, item.on(cores)))
            stack.callback(processes[-1].close)
        yield processes


@dataclass(frozen=True)
class Rivals:
    """What runs models of another kind than encoders of dense vectors.

    Attributes:
        ours: the adapter of our own runtime.
        maker: the adapter of sentence-transformers, which also makes the exports that others read.
        peers: contender to its environment, its adapter, the backend whose export it reads (empty: the model itself),
            and options.
        outputs: what ours is exported with.
        accepted: the least cosine that ours is held to; None takes the target's own. Seeded weights of many layers
            lose more to rounding than trained ones.
    """

    ours: str
    maker: str
    peers: Mapping[str, tuple[str, str, str, dict[str, Any]]]
    outputs: tuple[str, ...] = ("sentence_embedding",)
    accepted: float | None = None

    def ready(self, model: Path, work: Path, only: Sequence[str]) -> dict[str, Ready]:
        """Compiles the model, and makes what the peers read that is not there yet.

        Args:
            model: its folder.
            work: where environments and models are kept.
            only: peers with one of these in their name; none means all. The reference is always there.
        """
        found = {}
        for target in ("onnx-fp32", "onnx-int8"):
            folder = work / "models" / model.name / target
            status(f"Compiling {target}")
            export_model(model, folder, target, outputs=self.outputs, min_cosine=self.accepted)
            python = python_of("stcompile", work / "environments")
            found[f"stcompile {target}"] = Ready(python, {"adapter": self.ours, "model": str(folder), "options": {}})
        for name, (environment, adapter, backend, options) in self.peers.items():
            if only and name != REFERENCE and not any(word in name for word in only):
                continue
            python = python_of(environment, work / "environments")
            folder = model if not backend else work / "models" / model.name / f"{self.maker}-{backend}"
            if not folder.is_dir():
                status(f"Making {folder.name}")
                made = {"backend": backend, "int8": "avx512_vnni" if adds_int8_products() else "avx2"}
                settings = {"adapter": self.maker, "source": str(model), "model": str(folder), "options": made}
                prepare(name, python_of(f"st-{backend}", work / "environments"), settings)
            found[name] = Ready(python, {"adapter": adapter, "model": str(folder), "options": options})
        return found


def chosen_contenders(words: Sequence[str]) -> dict[str, Contender]:
    """The contenders that were asked for and that this CPU can run; the reference always, and all of ours where none is
    named.
    """
    has_bf16 = computes_bfloat16()
    names_ours = any(word in name for word in words for name, one in CONTENDERS.items() if one.is_ours)
    found = {}
    for name, contender in CONTENDERS.items():
        wanted = not words or name == REFERENCE or any(word in name for word in words)
        wanted |= contender.is_ours and not names_ours
        runs = not Target.parse(contender.model).refusals() if contender.is_ours else True
        if wanted and runs and (has_bf16 or contender.precision != "bf16"):
            found[name] = contender
    return found


@dataclass(frozen=True)
class Preparation:
    """Makes contenders ready; what it made once stays.

    Attributes:
        model: the model folder.
        stack: the same, read.
        work: where environments and models are kept.
        compiled: target to its artifact, of those that need not be compiled.
    """

    model: Path
    stack: ModuleStack
    work: Path
    compiled: Mapping[str, Path]

    def ready(self, contender: Contender) -> Ready:
        """Installs, and exports or compiles, what is missing.

        Raises:
            InputError: pip or an export failed; its last line says why.
        """
        python = python_of(contender.environment, self.work / "environments")
        folder = self._compiled(contender.model) if contender.is_ours else self._prepared(contender.model)
        options = {**self._shape(), **contender.options}
        return Ready(python, {"adapter": contender.adapter, "model": str(folder), "options": options})

    def _shape(self) -> dict[str, Any]:
        return {"dim": self.stack.dim, "max_seq_length": self.stack.routes[""].front.max_seq_length}

    def _folder(self, name: str) -> Path:
        return self.work / "models" / self.model.name / name

    def _compiled(self, target: str) -> Path:
        if target in self.compiled:
            return self.compiled[target]
        status(f"Compiling {target}")
        return export_model(self.model, self._folder(target), target).folder

    def _prepared(self, name: str) -> Path:
        if name == SOURCE:
            return self.model
        folder, wanted = self._folder(name), PREPARED[name]
        if not folder.is_dir():
            source = self._prepared(wanted.of)
            python = python_of(wanted.environment, self.work / "environments")
            status(f"Making {name}")
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder.parent) as staged:
                half = Path(staged) / name
                settings = {"adapter": wanted.adapter, "source": str(source), "model": str(half)}
                prepare(name, python, {**settings, "options": {**_export(), **self._shape(), **wanted.options}})
                half.rename(folder)
        return folder


def _export() -> dict[str, Any]:
    """What the peers' 8-bit exports ask for: the instructions of this machine, and texts to calibrate on."""
    return {"int8": "avx512_vnni" if adds_int8_products() else "avx2", "calibration": list(default_set().texts)}
