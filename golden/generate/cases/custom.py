"""Modules whose code lies in the model folder."""

from __future__ import annotations

import shutil
from typing import Any

from golden.generate import scaled_tanh
from golden.generate.backbones import HIDDEN
from golden.generate.builder import FolderBuilder
from golden.generate.case import Case


def custom_module(builder: FolderBuilder) -> None:
    stack = [builder.transformer(), builder.pooling(), builder.random(scaled_tanh.ScaledTanh(HIDDEN, factor=1.5))]
    builder.save(stack)
    shutil.copy(scaled_tanh.__file__, builder.folder / "scaled_tanh.py")

    def change(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [*entries[:-1], {**entries[-1], "type": "scaled_tanh.ScaledTanh"}]

    builder.edit("modules.json", change)
    builder.load_kwargs["trust_remote_code"] = True


CASES: dict[str, Case] = {
    "custom_module": Case(
        "a module with its code in the folder: it loads only if remote code is trusted", custom_module
    )
}
