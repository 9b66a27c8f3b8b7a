"""CNN: convolutions of several widths along the tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import nn

from stcompile.artifact.manifest import TOKENS
from stcompile.compiler.kinds.cnn import KIND
from stcompile.compiler.modules.base import Features, Module
from stcompile.errors import InputError


class CNN(Module):
    """Convolutions along the sequence, their channels side by side (module-stack spec, section 8.2).

    Reads and writes `token_embeddings`, `(batch, sequence, in)` to `(batch, positions, kernels * out)`. With a stride
    of 1, odd kernels keep the length and even ones shorten it by one. Padded positions are convolved like any other,
    so what a short row's last positions become depends on what its padding holds.

    Args:
        in_embedding_dimension: width of the token embeddings.
        out_channels: channels of each kernel.
        kernel_sizes: width of each kernel in tokens.
        stride_sizes: stride of each kernel; None means 1 for all.
        in_word_embedding_dimension: the older name of `in_embedding_dimension`.

    Raises:
        InputError: no width, no kernel, not one stride for each kernel, or a size that is no positive number.
    """

    config_file: ClassVar[str] = KIND.config_files[0]
    config_keys = ("in_embedding_dimension", "out_channels", "kernel_sizes", "stride_sizes")
    has_weights: ClassVar[bool] = True
    reads = TOKENS
    writes = TOKENS

    def __init__(
        self,
        in_embedding_dimension: int | None = None,
        out_channels: int = 256,
        kernel_sizes: Sequence[int] = (1, 3, 5),
        stride_sizes: Sequence[int] | None = None,
        *,
        in_word_embedding_dimension: int | None = None,
    ) -> None:
        super().__init__()
        width = in_embedding_dimension if in_embedding_dimension is not None else in_word_embedding_dimension
        kernels = list(kernel_sizes)
        strides = [1] * len(kernels) if stride_sizes is None else list(stride_sizes)
        sizes = (width, out_channels, *kernels, *strides)
        if not kernels or len(strides) != len(kernels) or not all(isinstance(size, int) and size > 0 for size in sizes):
            raise InputError(
                "CNN needs in_embedding_dimension, out_channels, kernel_sizes, and as many stride_sizes or none, all "
                "positive whole numbers"
            )
        assert width is not None
        self.in_embedding_dimension = width
        self.out_channels = out_channels
        self.kernel_sizes = kernels
        self.stride_sizes = strides
        self.convs = nn.ModuleList(
            nn.Conv1d(width, out_channels, kernel, stride=stride, padding=(kernel - 1) // 2)
            for kernel, stride in zip(kernels, strides, strict=True)
        )

    @property
    def in_width(self) -> int:
        return self.in_embedding_dimension

    def out_width(self, in_width: int) -> int:
        return self.out_channels * len(self.kernel_sizes)

    def out_length(self, in_length: int) -> int:
        sizes = zip(self.kernel_sizes, self.stride_sizes, strict=True)
        # The padding on both sides leaves one position more than an odd kernel needs, and none for an even one.
        return min((in_length + 2 * ((kernel - 1) // 2) - kernel) // stride + 1 for kernel, stride in sizes)

    def forward(self, features: Features) -> Features:
        x = features[TOKENS].transpose(1, 2)
        channels = torch.cat([conv(x) for conv in self.convs], dim=1)
        return {**features, TOKENS: channels.transpose(1, 2)}
