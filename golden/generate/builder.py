"""What a case works with: the pieces of a model, its folder, and the runs to record."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sentence_transformers
from sentence_transformers.sentence_transformer import modules
from torch import nn

from golden.generate.backbones import CONFIGS, HEADS, HIDDEN
from golden.generate.files import edit_json
from golden.generate.tokenizers import FAMILIES, write_tokenizer
from golden.generate.weights import ModuleT, randomize

POSITIONS = 64


@dataclass(frozen=True)
class Run:
    """One recorded call: the method of the loaded model and its arguments; a key wraps every text in a dict.

    Of images it says whether they are given `opened`, by Pillow, or as `paths`.
    """

    name: str
    method: str
    kwargs: dict[str, Any]
    ragged: bool
    key: str | None = None
    images: str | None = None


@dataclass
class FolderBuilder:
    """Builds one model folder with the libraries' own `save`, and notes the runs to record."""

    name: str
    folder: Path
    scratch: Path
    kind: str = "SentenceTransformer"
    inputs: str = "sentences"
    runs: list[Run] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    load_kwargs: dict[str, Any] = field(default_factory=dict)
    # Loaded in place of the folder, where the library cannot load the folder itself.
    twin: Path | None = None
    _seeds_taken: int = 0

    @property
    def seed(self) -> int:
        """A seed of its own for every case: renaming a case changes its weights."""
        return 1000 + sum(ord(char) * (i + 1) for i, char in enumerate(self.name)) % 7919

    def next_seed(self) -> int:
        """A fresh seed: the order in which a case makes its pieces decides their weights."""
        self._seeds_taken += 1
        return self.seed + 101 * self._seeds_taken

    # Pieces

    def checkpoint(
        self,
        kind: str = "bert",
        *,
        head: str = "base",
        model_max_length: int = POSITIONS,
        tokenizer: dict[str, Any] | None = None,
    ) -> Path:
        """A Transformers folder with random weights, outside the model folder."""
        folder = self.scratch / f"checkpoint_{self._seeds_taken}"
        written = write_tokenizer(kind, folder, model_max_length, **(tokenizer or {}))
        pad_id = written.get_vocab()[FAMILIES[kind].special_names["pad_token"]]
        config = CONFIGS[kind](written.get_vocab_size(), pad_id, POSITIONS)
        model: Any = randomize(HEADS[head](config), self.next_seed())
        model.save_pretrained(folder)
        return folder

    def transformer(self, kind: str = "bert", *, arguments: dict[str, Any] | None = None, **checkpoint: Any) -> Any:
        """A Transformer module; `arguments` go to its constructor, the rest to `checkpoint`."""
        return modules.Transformer(str(self.checkpoint(kind, **checkpoint)), **(arguments or {}))

    def random(self, module: ModuleT) -> ModuleT:
        """The module with this case's next random weights."""
        return randomize(module, self.next_seed())

    def dense(self, width_in: int, width_out: int, activation: nn.Module | None = None, **kwargs: Any) -> Any:
        """A Dense module, Tanh unless told otherwise."""
        activation = nn.Tanh() if activation is None else activation
        return self.random(modules.Dense(width_in, width_out, activation_function=activation, **kwargs))

    def pooling(self, mode: str | tuple[str, ...] = "mean", width: int = HIDDEN, **kwargs: Any) -> Any:
        """A Pooling module."""
        return modules.Pooling(width, mode, **kwargs)

    # The folder

    def save(self, stack: Sequence[nn.Module], **kwargs: Any) -> None:
        """Let the library write the stack as a model folder."""
        model = getattr(sentence_transformers, self.kind)(modules=list(stack), device="cpu", **kwargs)
        model.save(str(self.folder), create_model_card=False)

    def save_plain(self, checkpoint: Path) -> None:
        """Use a Transformers folder as it is, without modules.json."""
        shutil.copytree(checkpoint, self.folder)

    def edit(self, path: str, change: Callable[[Any], Any]) -> None:
        """Replace a JSON file of the folder by what `change` makes of it."""
        edit_json(self.folder / path, change)

    # Runs

    def run(
        self,
        name: str = "default",
        method: str = "encode",
        *,
        ragged: bool = False,
        key: str | None = None,
        images: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Record one call of the loaded model; a case without any records one plain call."""
        self.runs.append(Run(name, method, kwargs, ragged, key, images))
