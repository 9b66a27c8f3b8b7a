"""stcompile: a Sentence-Transformers model folder, the whole module stack, as one verified graph.

Public names are imported on first use, because this file also runs in front of the torch-free
runtime: `import stcompile` alone imports neither numpy nor an engine, and `stcompile.load` never
imports torch, transformers or onnx.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

__version__ = "0.1.0"

_PUBLIC = {
    "AsyncEncoder": "stcompile.runtime.async_encoder",
    "Usage": "stcompile.runtime.collector",
    **dict.fromkeys(
        ("AsyncMultiVectorEncoder", "AsyncReranker", "AsyncSparseEncoder"), "stcompile.runtime.async_kinds"
    ),
    "Encoder": "stcompile.runtime.encoder",
    "HybridEncoder": "stcompile.runtime.hybrid_encoder",
    "MultiVectorEncoder": "stcompile.runtime.multi_vector_encoder",
    "Reranker": "stcompile.runtime.reranker",
    "SentenceTransformer": "stcompile.runtime.drop_in",
    "SparseEncoder": "stcompile.runtime.sparse_encoder",
    "TokenPooling": "stcompile.runtime.token_pooling",
    "load": "stcompile.runtime.loading",
    "ModuleStack": "stcompile.compiler.stack.module_stack",
    "load_stack": "stcompile.compiler.stack.load",
    "export_model": "stcompile.compiler.export",
    "verify_artifact": "stcompile.compiler.parity.verify",
    "Target": "stcompile.artifact.target",
    **dict.fromkeys(("StcompileError", "InputError", "ModelFolderError", "UnsupportedError"), "stcompile.errors"),
    **dict.fromkeys(("TargetError", "ArtifactError", "ProviderError", "MissingExtraError"), "stcompile.errors"),
    **dict.fromkeys(("ParityError", "BudgetError", "UnavailableError"), "stcompile.errors"),
}

_NEEDS_TORCH = "stcompile.compiler"

__all__ = [
    "ArtifactError",
    "AsyncEncoder",
    "AsyncMultiVectorEncoder",
    "AsyncReranker",
    "AsyncSparseEncoder",
    "BudgetError",
    "Encoder",
    "HybridEncoder",
    "InputError",
    "MissingExtraError",
    "ModelFolderError",
    "ModuleStack",
    "MultiVectorEncoder",
    "ParityError",
    "ProviderError",
    "Reranker",
    "SentenceTransformer",
    "SparseEncoder",
    "StcompileError",
    "Target",
    "TargetError",
    "TokenPooling",
    "UnavailableError",
    "UnsupportedError",
    "Usage",
    "__version__",
    "export_model",
    "load",
    "load_stack",
    "verify_artifact",
]

if TYPE_CHECKING:
    from stcompile.artifact.target import Target
    from stcompile.compiler.export import export_model
    from stcompile.compiler.parity.verify import verify_artifact
    from stcompile.compiler.stack.load import load_stack
    from stcompile.compiler.stack.module_stack import ModuleStack
    from stcompile.errors import (
        ArtifactError,
        BudgetError,
        InputError,
        MissingExtraError,
        ModelFolderError,
        ParityError,
        ProviderError,
        StcompileError,
        TargetError,
        UnavailableError,
        UnsupportedError,
    )
    from stcompile.runtime.async_encoder import AsyncEncoder
    from stcompile.runtime.async_kinds import AsyncMultiVectorEncoder, AsyncReranker, AsyncSparseEncoder
    from stcompile.runtime.collector import Usage
    from stcompile.runtime.drop_in import SentenceTransformer
    from stcompile.runtime.encoder import Encoder
    from stcompile.runtime.hybrid_encoder import HybridEncoder
    from stcompile.runtime.loading import load
    from stcompile.runtime.multi_vector_encoder import MultiVectorEncoder
    from stcompile.runtime.reranker import Reranker
    from stcompile.runtime.sparse_encoder import SparseEncoder
    from stcompile.runtime.token_pooling import TokenPooling


def __getattr__(name: str) -> object:
    home = _PUBLIC.get(name)
    if home is None:
        raise AttributeError(f"module 'stcompile' has no attribute {name!r}")
    if not home.startswith(_NEEDS_TORCH):
        return getattr(importlib.import_module(home), name)
    from stcompile.extras import require  # noqa: PLC0415 - nothing is imported before it is needed

    try:
        require("torch", f"stcompile.{name}")
        return getattr(require(home, f"stcompile.{name}", "compile"), name)
    except ImportError as error:
        return _refusal(name, error)


def _refusal(name: str, error: ImportError) -> Callable[..., NoReturn]:
    """What stands for a name whose packages are not installed: who only looks is told nothing, who calls it is."""

    def refused(*_: object, **__: object) -> NoReturn:
        raise error

    refused.__name__ = refused.__qualname__ = name
    refused.__doc__ = str(error)
    return refused


def __dir__() -> list[str]:
    return sorted(__all__)
