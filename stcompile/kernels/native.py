"""The package's own operators for ONNX Runtime: where their library is, and what keeps them from running here."""

from __future__ import annotations

from pathlib import Path

from stcompile.errors import ProviderError
from stcompile.kernels.cpu_features import runs_native_operators

# The domain of the operators in a graph.
DOMAIN = "stcompile"

_LIBRARY = Path(__file__).with_name("_native.so")

_INSTEAD = "use onnx-int8 or onnx-fp32"


def refusals() -> tuple[str, ...]:
    """Why the operators cannot run here, one sentence each; empty where they can."""
    reasons = []
    if runs_native_operators() is not True:
        reasons.append(
            "the fused operators need Linux on x86-64 with AVX512-VNNI and AVX512-BF16 (AMD Zen 4, Intel Sapphire "
            f"Rapids, or later): {_INSTEAD}"
        )
    if not _LIBRARY.is_file():
        reasons.append(
            "this installation has no fused operators: install stcompile again where there is a C++ compiler (g++ 12 "
            f"or later); or {_INSTEAD}"
        )
    return tuple(reasons)


def library() -> Path:
    """The library to register with ONNX Runtime.

    Raises:
        ProviderError: the operators cannot run here.
    """
    reasons = refusals()
    if reasons:
        raise ProviderError(f"the artifact cannot run here: {'; '.join(reasons)}")
    return _LIBRARY
