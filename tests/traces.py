"""Traced graphs, kept between the workers of a run and from run to run, for to trace is what most tests pay for.

They lie in pytest's own cache (`pytest --cache-clear` empties it), under a digest of everything that traces: the
package's rooms that torch's exporter sees, and the versions of what it stands on. Those of another digest are deleted
once nobody has opened them for a while: a run beside other releases, in another environment, may be reading them now.
What is traced by the tests themselves is never kept.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import pytest
from filelock import FileLock

import stcompile
from stcompile.artifact.manifest import IMAGE

# What a graph depends on beside the model: rooms of the package, and what other packages do.
_ROOMS = ("compiler/kinds", "compiler/modules", "compiler/stack", "compiler/trace")
_PACKAGES = ("torch", "transformers", "onnxscript", "onnx-ir", "onnx", "numpy", "tokenizers")

# Longer than any run: what nobody opened or wrote into for so many seconds is not in use.
UNUSED_AFTER = 2 * 3600


class Traces:
    """Graphs by what they were traced of."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, key: str, trace: Callable[[], ir.Model]) -> ir.Model:
        """The graph of that key, a copy of the caller's own; traced where nobody did before."""
        file = self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.onnx"
        with FileLock(f"{file}.lock"):
            if not file.is_file():
                content = bytes(ir.to_proto(trace()).SerializeToString())
                with tempfile.NamedTemporaryFile(dir=self._folder, delete=False) as half:
                    half.write(content)
                Path(half.name).replace(file)
        return ir.from_proto(onnx.load(file))


def opened(config: pytest.Config) -> Traces:
    """The graphs of today's sources and versions; those of others that nobody uses any more are deleted."""
    assert config.cache is not None
    return opened_in(config.cache.mkdir("traces"))


def opened_in(base: Path) -> Traces:
    """The same of a folder that is there."""
    return Traces(kept(base, _digest()))


def kept(base: Path, digest: str) -> Path:
    """The folder of that digest in `base`, made or marked as in use; unused ones beside it are deleted."""
    folder = base / digest
    folder.mkdir(exist_ok=True)
    folder.touch()
    for other in base.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another worker was first
            if time.time() - other.stat().st_mtime > UNUSED_AFTER:
                shutil.rmtree(other, ignore_errors=True)
    return folder


def key_of(content: str, trusted: bool, name: str, route: Any, outputs: Sequence[str]) -> str:
    """What a trace is kept under, whoever makes it.

    The modules are part of it: one folder is read as several, with `sparse=True` and without.
    """
    return f"{content} {trusted} {name!r} {route!r} {tuple(outputs)!r}"


def routes_of(stack: Any) -> list[tuple[str, Any]]:
    """Each route that is traced, by its name."""
    return [*stack.routes.items(), *([] if stack.image is None else [(IMAGE, stack.image)])]


def content_now(folder: Path) -> str:
    """A digest of a model folder's files, whose weights and settings a graph depends on."""
    return _of_files(folder, "*")


@functools.cache
def content_of(folder: Path) -> str:
    """The same of a folder that nobody changes."""
    return content_now(folder)


@functools.cache
def _digest() -> str:
    package = Path(stcompile.__file__).parent
    parts = [sys.version, *(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)]
    parts += [_of_files(package / room, "*.py") for room in _ROOMS]
    parts += [Path(__file__).read_text(encoding="utf-8")]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _of_files(folder: Path, pattern: str) -> str:
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob(pattern) if path.is_file()):
        digest.update(f"{file.relative_to(folder)}\0".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
