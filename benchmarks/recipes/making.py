"""Makes what a recipe reads, once: a folder is called by all that it was made of, and what that took lies beside it."""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks._common import REPOSITORY, status
from benchmarks.peers import adapters
from benchmarks.peers.contenders import SOURCE, Prepared
from benchmarks.peers.environments import ENVIRONMENTS, python_of
from benchmarks.peers.preparation import Ready
from benchmarks.peers.processes import prepare
from benchmarks.recipes.table import BASES, COMPILER, OURS, Recipe
from stcompile import __version__
from stcompile.artifact.target import TARGETS
from stcompile.compiler.quantize.calibration import CalibrationSet
from stcompile.compiler.stack.module_stack import ModuleStack
from stcompile.errors import InputError

# What the numbers of a network lie in, of any of the libraries; the rest of a folder is small.
_WEIGHTS = {".onnx", ".data", ".onnx_data", ".xml", ".bin", ".safetensors", ".pt", ".gguf"}


_SOURCES = {".py", ".json", ".cpp", ".h"}


@dataclass(frozen=True)
class Cost:
    """What it takes to make something of a model folder, every step counted.

    Attributes:
        wall_seconds: by the clock on the wall.
        cpu_seconds: of all threads together.
        peak_mb: the most resident memory of any step.
    """

    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_mb: float = 0.0

    def then(self, later: Cost) -> Cost:
        """Of this step and the one behind it."""
        return Cost(
            self.wall_seconds + later.wall_seconds,
            self.cpu_seconds + later.cpu_seconds,
            max(self.peak_mb, later.peak_mb),
        )


@dataclass(frozen=True)
class Made:
    """What a recipe reads.

    Attributes:
        folder: where it lies.
        cost: what it took.
        key: a hash of all that it was made of.
    """

    folder: Path
    cost: Cost
    key: str

    @property
    def megabytes(self) -> float:
        """Of the files with weights and graphs."""
        files = (path for path in self.folder.rglob("*") if path.suffix in _WEIGHTS)
        return sum(path.stat().st_size for path in files) / 1e6


@dataclass(frozen=True)
class Maker:
    """Makes the files of recipes; what it made once stays.

    Attributes:
        model: the model folder.
        stack: the same, read.
        work: where environments and files are kept.
        calibration: the texts that recipes are given which want some.
    """

    model: Path
    stack: ModuleStack
    work: Path
    calibration: CalibrationSet

    @property
    def folder(self) -> Path:
        """Where the files and the results of this model are kept."""
        return self.work / "recipes" / self.model.name

    def ready(self, recipe: Recipe) -> tuple[Ready, Made]:
        """What a recipe's process is started with, and what it reads.

        Raises:
            InputError: this version has no such target, this machine cannot run it, or pip or its maker failed; the
                sentence says which, and why.
        """
        if recipe.target:
            if recipe.target not in TARGETS:
                raise InputError(f"stcompile {__version__} has no target {recipe.target} yet")
            if refusals := TARGETS[recipe.target].refusals():
                raise InputError(refusals[0])
        made = self._source() if recipe.maker is None else self._made(recipe.maker)
        options = {**self._shape(), **recipe.options}
        python = python_of(recipe.environment, self.work / "environments")
        return Ready(python, {"adapter": recipe.adapter, "model": str(made.folder), "options": options}), made

    def _shape(self) -> dict[str, Any]:
        return {"dim": self.stack.dim, "max_seq_length": self.stack.routes[""].front.max_seq_length}

    def _source(self) -> Made:
        return Made(self.model, Cost(), digest(self.stack.fingerprint()))

    def _made(self, wanted: Prepared) -> Made:
        before = self._source() if wanted.of == SOURCE else self._made(BASES[wanted.of])
        key = digest(before.key, self.calibration.sha256, who(wanted.environment, wanted.adapter), wanted.options)
        folder = self.folder / f"{wanted.adapter}-{key[:12]}"
        beside = folder.with_name(f"{folder.name}.json")
        if not beside.is_file():
            cost = self._make(wanted, before.folder, folder)
            beside.write_text(json.dumps(asdict(cost)), encoding="utf-8")
        cost = Cost(**json.loads(beside.read_text(encoding="utf-8")))
        return Made(folder, before.cost.then(cost), key)

    def _make(self, wanted: Prepared, source: Path, folder: Path) -> Cost:
        environments = self.work / "environments"
        ours = wanted.environment == COMPILER
        python = Path(sys.executable) if ours else python_of(wanted.environment, environments)
        options = {**self._shape(), "calibration": list(self.calibration.texts), **wanted.options}
        folder.parent.mkdir(parents=True, exist_ok=True)
        status(f"Making {folder.name}")
        with tempfile.TemporaryDirectory(dir=folder.parent) as staged:
            half = Path(staged) / folder.name
            settings = {"adapter": wanted.adapter, "source": str(source), "model": str(half), "options": options}
            taken = prepare("it", python, settings)
            half.rename(folder)
        return Cost(**taken)


def who(environment: str, adapter: str) -> str:
    """A hash of what makes or runs something: the package itself where it is ours, packages of others, our adapter."""
    by = _package() if environment in (COMPILER, OURS) else asdict(ENVIRONMENTS[environment])
    return digest(by, _source_of(adapter))


def digest(*parts: Any) -> str:
    """A hash of what JSON can carry."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=list).encode()).hexdigest()


def _source_of(adapter: str) -> str:
    return Path(adapters.__path__[0], f"{adapter}.py").read_text(encoding="utf-8")


@cache
def _package() -> str:
    """A hash of stcompile's own sources, as they lie here."""
    files = sorted(
        path.relative_to(REPOSITORY)
        for folder in ("stcompile", "native")
        for path in (REPOSITORY / folder).rglob("*")
        if path.suffix in _SOURCES
    )
    return digest([[str(path), (REPOSITORY / path).read_text(encoding="utf-8")] for path in files])
