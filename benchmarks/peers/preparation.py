"""Everything a contender needs before it can start: its environment, and the model in the form it reads."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks._common import status
from benchmarks.peers.contenders import CONTENDERS, PREPARED, REFERENCE, SOURCE, Contender
from benchmarks.peers.environments import python_of
from benchmarks.peers.processes import prepare
from stcompile.cpu_features import adds_int8_products, computes_bfloat16
from stcompile.export import export_model
from stcompile.quantize.calibration import default_set
from stcompile.stack.load import load_stack


@dataclass(frozen=True)
class Ready:
    """A contender that can be started: its interpreter and what `worker.py` is told."""

    python: Path
    settings: dict[str, Any]

    def on(self, cores: int) -> dict[str, Any]:
        """The settings for so many CPUs, and as many threads."""
        cpus = sorted(os.sched_getaffinity(0))[:cores] if hasattr(os, "sched_getaffinity") else []
        return {**self.settings, "threads": cores, "cpus": cpus}


def chosen_contenders(words: Sequence[str]) -> dict[str, Contender]:
    """The contenders that were asked for and that this CPU can run; ours and the reference always."""
    has_bf16 = computes_bfloat16()
    found = {}
    for name, contender in CONTENDERS.items():
        wanted = not words or contender.is_ours or name == REFERENCE or any(word in name for word in words)
        if wanted and (has_bf16 or contender.precision != "bf16"):
            found[name] = contender
    return found


def made_ready(
    chosen: Mapping[str, Contender], model: Path, work: Path, compiled: Mapping[str, Path]
) -> dict[str, Ready]:
    """Installs and exports what is missing under `work`, and compiles each target that is not in `compiled`.

    Raises:
        InputError: pip or an export failed; its last line says why.
    """
    stack = load_stack(model)
    options = {
        "dim": stack.dim,
        "max_seq_length": stack.routes[""].front.max_seq_length,
        "int8": "avx512_vnni" if adds_int8_products() else "avx2",
        "calibration": list(default_set().texts),
    }
    found = {}
    for name, contender in chosen.items():
        python = python_of(contender.environment, work / "environments")
        folder = _model(contender, model, work, options, compiled)
        given = {**{key: options[key] for key in ("dim", "max_seq_length")}, **contender.options}
        found[name] = Ready(python, {"adapter": contender.adapter, "model": str(folder), "options": given})
    return found


def _model(
    contender: Contender, model: Path, work: Path, options: Mapping[str, Any], compiled: Mapping[str, Path]
) -> Path:
    if contender.model == SOURCE:
        return model
    folder = work / "models" / model.name / contender.model
    if contender.is_ours and contender.model in compiled:
        return compiled[contender.model]
    if contender.is_ours:
        status(f"Compiling {contender.model}")
        return export_model(model, folder, contender.model).folder
    return _prepared(contender.model, model, work, options)


def _prepared(name: str, model: Path, work: Path, options: Mapping[str, Any]) -> Path:
    if name == SOURCE:
        return model
    folder = work / "models" / model.name / name
    wanted = PREPARED[name]
    if not folder.is_dir():
        source = _prepared(wanted.of, model, work, options)
        python = python_of(wanted.environment, work / "environments")
        status(f"Making {name}")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as staged:
            half = Path(staged) / name
            settings = {"adapter": wanted.adapter, "source": str(source), "model": str(half)}
            prepare(name, python, {**settings, "options": {**options, **wanted.options}})
            half.rename(folder)
    return folder
