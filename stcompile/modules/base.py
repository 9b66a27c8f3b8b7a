"""What every building block is: an `nn.Module` over the feature dictionary that knows its folder format."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from safetensors.torch import save_file
from torch import Tensor, nn
from typing_extensions import Self

from stcompile.modules.weights import read_weights

Features = dict[str, Tensor]


class Module(nn.Module, ABC):
    """Base of the building blocks, the counterpart of `sentence_transformers.base.modules.Module`.

    Attributes:
        config_file: name of the module's JSON file in its folder.
        has_weights: whether the folder also holds a `model.safetensors`.
    """

    config_file: ClassVar[str] = "config.json"
    has_weights: ClassVar[bool] = False

    @abstractmethod
    def forward(self, features: Features) -> Features:
        """Reads and writes the feature dictionary (module-stack spec, section 3)."""

    @abstractmethod
    def get_config(self) -> dict[str, Any]:
        """The module's JSON, with the keys that sentence-transformers 5.4 and later use."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Builds the module from its checked JSON; the weights come after."""
        return cls(**config)

    @classmethod
    def load(cls, folder: Path, config: dict[str, Any]) -> Self:
        """Builds the module from its folder.

        Raises:
            ModelFolderError: the weights are missing, or do not fit the configuration.
        """
        module = cls.from_config(config)
        if cls.has_weights:
            read_weights(folder, module)
        return module

    def save(self, folder: Path) -> None:
        """Writes the module's folder so that sentence-transformers loads it."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / self.config_file).write_text(json.dumps(self.get_config(), indent=4), encoding="utf-8")
        if self.has_weights:
            state = {name: tensor.detach().contiguous() for name, tensor in self.state_dict().items()}
            save_file(state, str(folder / "model.safetensors"), metadata={"format": "pt"})

    def output_dimension(self, input_dimension: int) -> int:
        """Width of the embedding this module leaves behind when it is given `input_dimension`."""
        return input_dimension
