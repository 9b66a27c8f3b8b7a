"""CNN."""

from __future__ import annotations

from collections.abc import Iterator

from stcompile.compiler.kinds.base import Config, ModuleType, keep
from stcompile.compiler.kinds.values import is_positive, not_positive


def _problems(config: Config) -> Iterator[str]:
    yield from not_positive({"out_channels": 256, **config}, "in_embedding_dimension", "out_channels")
    kernels = config.get("kernel_sizes", [1, 3, 5])
    strides = config.get("stride_sizes")
    for name, sizes in (("kernel_sizes", kernels), ("stride_sizes", [1] if strides is None else strides)):
        if not isinstance(sizes, list) or not sizes or not all(map(is_positive, sizes)):
            yield f"its {name} are {sizes!r}: they must be a list of positive whole numbers"
            return
    if strides is not None and len(strides) != len(kernels):
        yield f"it has {len(kernels)} kernel_sizes and {len(strides)} stride_sizes: give each kernel a stride"
    if len({(size % 2, stride) for size, stride in zip(kernels, strides or [1] * len(kernels), strict=False)}) > 1:
        yield "its kernels make outputs of different lengths (even and odd sizes, or different strides): it cannot run"


KIND = ModuleType(
    "CNN",
    "cnn",
    config_files=("cnn_config.json",),
    normalized=keep(
        *("out_channels", "kernel_sizes", "stride_sizes"), in_embedding_dimension="in_word_embedding_dimension"
    ),
    problems=_problems,
)
