"""Where a graph runs: `cpu`, `cuda` or `cuda:1`, as torch names devices."""

from __future__ import annotations

import re
from dataclasses import dataclass

from stcompile.errors import InputError, ProviderError

CPU, CUDA = "cpu", "cuda"

_NAME = re.compile(rf"({CPU}|{CUDA})(?::(\d{{1,3}}))?")


@dataclass(frozen=True)
class Device:
    """One device.

    Attributes:
        kind: `cpu` or `cuda`.
        index: which of several GPUs.
        graphs: whether runs are captured as CUDA graphs.
    """

    kind: str
    index: int = 0
    graphs: bool = False

    def __str__(self) -> str:
        return self.kind if self.kind == CPU else f"{self.kind}:{self.index}"

    @classmethod
    def parse(cls, name: str, *, graphs: bool = False) -> Device:
        """The device called `name`.

        Raises:
            ProviderError: there is none of that name.
            InputError: graphs are asked for on a CPU.
        """
        found = _NAME.fullmatch(name) if isinstance(name, str) else None
        if found is None or (found[1] == CPU and found[2] not in (None, "0")):
            raise ProviderError(f"unknown device {name!r}: choose {CPU}, {CUDA}, or {CUDA}:1 for the second GPU")
        if graphs and found[1] != CUDA:
            raise InputError(f"cuda_graphs is for {CUDA}, not for {name}: leave it out")
        return cls(found[1], int(found[2] or 0), graphs)
