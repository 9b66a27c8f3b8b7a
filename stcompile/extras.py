"""Which pip extra brings which import, so that a missing one is a single sentence; and what is installed."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

from stcompile.errors import MissingExtraError

_EXTRA_OF = {
    "onnxruntime": "cpu",
    "openvino": "openvino",
    "nncf": "nncf",
    "typer": "cli",
    "rich": "cli",
    **dict.fromkeys(("torch", "transformers", "sentence_transformers", "filelock"), "compile"),
    **dict.fromkeys(("safetensors", "onnx", "onnx_ir", "onnxscript"), "compile"),
    **dict.fromkeys(("starlette", "uvicorn", "pydantic", "orjson", "prometheus_client"), "serve"),
    "huggingface_hub": "hub",
    "fsspec": "bulk",
    "pyarrow": "bulk",
    "ray": "ray",
    "lance": "lance",
    "PIL": "images",
    "nltk": "phrases",
    "model2vec": "static",
    "skeletoken": "static",
    "peft": "peft",
    "scipy": "pooling",
    "matplotlib": "plot",
}


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Name to version of those packages that are installed; none is imported."""
    found = {}
    for package in packages:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def require(module: str, purpose: str, extra: str | None = None) -> ModuleType:
    """Imports `module`, or raises `MissingExtraError` naming the pip line.

    Args:
        module: the import name of a package of the table above, or of a module in it.
        purpose: what needs it, as the start of the sentence ("Compiling a model").
        extra: the pip extra to name where it is not the table's, e.g. `cuda` for onnxruntime.
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except MissingExtraError:
        raise
    except ModuleNotFoundError as error:
        missing = (error.name or module).partition(".")[0]
        chosen = extra or _EXTRA_OF.get(missing) or _EXTRA_OF[package]
        raise MissingExtraError(
            f"{purpose} needs {missing}, which is not installed: pip install 'stcompile[{chosen}]'"
        ) from error
    except ImportError as error:
        chosen = extra or _EXTRA_OF[package]
        raise MissingExtraError(
            f"{purpose} needs {module}, which is installed but cannot be imported ({error}): "
            f"pip install --force-reinstall 'stcompile[{chosen}]'"
        ) from error
