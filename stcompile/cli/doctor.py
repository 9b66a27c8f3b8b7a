"""`stcompile doctor`: what this machine has and runs, to paste into a bug report."""

from __future__ import annotations

import contextlib
import os
import platform
from pathlib import Path
from typing import Annotated, Any

import typer

from stcompile import __version__
from stcompile.artifact.target import TARGETS
from stcompile.cli import options, render
from stcompile.cli.console import out, print_json
from stcompile.extras import require, versions
from stcompile.kernels import native
from stcompile.kernels.cpu_features import processor
from stcompile.runtime.cpus import available_cpus

_PACKAGES = (
    *("onnxruntime", "onnxruntime-gpu", "openvino", "numpy", "tokenizers", "typer", "rich"),
    *("torch", "transformers", "sentence-transformers", "onnx", "onnx-ir", "onnxscript", "safetensors"),
    *("huggingface-hub", "model2vec", "pyarrow", "fsspec", "ray", "pylance", "nltk", "nncf"),
    *("starlette", "uvicorn", "pydantic", "orjson", "prometheus-client"),
)

# What changes how this package or its engines run. None of them holds a secret.
_VARIABLES = (
    *(native.VARIABLE, "STCOMPILE_DEBUG", "OMP_NUM_THREADS", "TOKENIZERS_PARALLELISM", "RAYON_NUM_THREADS"),
    *("HF_HUB_OFFLINE", "HF_HOME", "CUDA_VISIBLE_DEVICES", "LD_PRELOAD", "MALLOC_ARENA_MAX"),
)

_CGROUP = Path("/sys/fs/cgroup")


def doctor(
    artifact: Annotated[
        Path | None, typer.Argument(help="An artifact to run its self-test here, too.", show_default=False)
    ] = None,
    device: options.DeviceOption = "cpu",
    as_json: options.JsonOption = False,
) -> None:
    """Tell what this machine has and runs: versions, CPU, kernels, engines, targets. Paste it into a bug report.

    Nothing is changed, and nothing is sent anywhere. With an artifact, a few texts that it carries are encoded here and
    compared with what sentence-transformers made of them at export: exit code 1 where that is something else.

    Example: stcompile doctor minilm-int8
    """
    found = examined()
    if artifact is not None:
        found["artifact"] = tested(artifact, device)
    if as_json:
        print_json(found)
    else:
        out.print(render.doctor(found))


def examined() -> dict[str, Any]:
    """What there is to tell, as JSON carries it."""
    title, features = processor()
    return {
        "stcompile": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}, {_libc()}",
        "packages": versions(_PACKAGES),
        "cpu": {
            "model": title,
            "features": features,
            "logical": os.cpu_count(),
            "usable": available_cpus(),
        },
        "memory_gb": _memory(),
        "kernels": {
            "runs": native.generation(),
            "available": list(native.generations()),
            "refusals": list(native.refusals()),
        },
        "engines": {"onnxruntime": _providers(), "openvino": _devices()},
        "targets": {
            target.name: {"refusals": list(target.refusals()), "caveats": list(target.caveats())}
            for target in TARGETS.values()
        },
        "environment": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
    }


def tested(folder: Path, device: str) -> dict[str, Any]:
    """What an artifact is, and how its self-test went.

    Raises:
        ParityError: it failed.
        ArtifactError: it cannot be opened, or has none.
    """
    from stcompile.runtime.loading import load  # noqa: PLC0415 - imports numpy and the engine

    with load(folder, device=device) as loaded:
        return {
            "name": loaded.artifact.name,
            "kind": loaded.kind,
            "target": loaded.artifact.manifest.target,
            "kernels": loaded.kernels,
            "fingerprint": loaded.fingerprint,
            "least_cosine": loaded.self_test(),
        }


def _libc() -> str:
    return " ".join(platform.libc_ver()).strip() or "no glibc"


def _memory() -> dict[str, float]:
    """What the machine has, and what this process may use of it where a container says so."""
    found = {}
    with contextlib.suppress(ValueError, OSError, AttributeError):
        found["machine"] = round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1)
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        with contextlib.suppress(ValueError, OSError):
            limit = round(int((_CGROUP / name).read_text(encoding="ascii")) / 1e9, 1)
            if limit < found.get("machine", limit + 1):
                found["container"] = limit
    return found


def _providers() -> list[str]:
    try:
        return [str(name) for name in require("onnxruntime", "Running an artifact").get_available_providers()]
    except Exception:  # whatever a broken installation raises: that there is no engine is what is told
        return []


def _devices() -> list[str]:
    try:
        return [str(name) for name in require("openvino", "Running an artifact").Core().available_devices]
    except Exception:
        return []
