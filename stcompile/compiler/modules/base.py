"""What every building block is: an `nn.Module` over the feature dictionary that knows its folder format."""

from __future__ import annotations

import copy
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from safetensors.torch import save_file
from torch import Tensor, nn

from stcompile.artifact.manifest import SENTENCE, TextSpec
from stcompile.compiler.kinds.base import ModuleEntry
from stcompile.compiler.kinds.folder import Folder
from stcompile.compiler.modules.weights import read_weights
from stcompile.runtime.text.base import Text

# Name to tensor; `all_layer_embeddings` alone is a tuple of them.
Features = dict[str, Any]


# The feature of tokens `(batch, sequence)` that are computed and scored, and that no token attends to.
UNSEEN = "unseen_tokens"


# Where configurations name the tasks of a network: adapters by task, and instructions by task (jina's spellings).
_TASK_KEYS = ("lora_adaptations", "task_instructions", "task_names", "tasks")


def named_tasks(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The tasks that a configuration names, in lists or as keys."""
    lists = (value for key in _TASK_KEYS if isinstance(value := config.get(key), (list, tuple, dict)))
    return tuple(dict.fromkeys(name for names in lists for name in names if isinstance(name, str)))


@dataclass(frozen=True)
class SavedModule:
    """A module as a model folder has it.

    Attributes:
        entry: what the folder says of it, checked.
        routes: of a Router, route name to its modules, built.
        folder: the model.
        model: what to call the model in an error.
        trust_remote_code: whether code that comes with the model may run.
        live: the classes of a live object, by name, which are there already.
        graph: the file in the module's own folder that is kept as its network; None where that is built.
    """

    entry: ModuleEntry
    routes: Mapping[str, Sequence[Module]]
    folder: Folder
    model: str
    trust_remote_code: bool
    live: Mapping[str, type]
    graph: str | None = None

    @property
    def home(self) -> Path:
        """The module's own folder."""
        return self.folder.inside(self.entry.path)


class Module(nn.Module, ABC):
    """Base of the building blocks, the counterpart of `sentence_transformers.base.modules.Module`.

    Attributes:
        config_file: name of the module's JSON file in its folder.
        config_keys: what of it that file holds, where each is an attribute of that name.
        has_weights: whether the folder also holds a `model.safetensors`.
        needs: features besides `reads` that must be there, e.g. `sentence_lengths`.
        reads: the embedding it reads.
        writes: the embedding it writes.
        save_in_root: whether it is written into the model's root, where it is first.
        counts_tokens: whether it needs as many positions as there are tokens.
        is_opaque: whether only running it tells what it reads and writes.
        include_prompt: False where it leaves the prompt's tokens out, for which the graph is told how many they are.
        keywords: of `encode`'s keywords those that `kwargs` of modules.json calls it with; only `task` is compiled.
    """

    config_file: ClassVar[str] = "config.json"
    config_keys: ClassVar[tuple[str, ...]] = ()
    has_weights: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ()
    save_in_root: ClassVar[bool] = False
    counts_tokens: ClassVar[bool] = False
    is_opaque: ClassVar[bool] = False
    reads: str = SENTENCE
    writes: str = SENTENCE
    include_prompt: bool = True
    keywords: tuple[str, ...] = ()

    @abstractmethod
    def forward(self, features: Features) -> Features:
        """Reads and writes the feature dictionary (module-stack spec, section 3)."""

    def stands_behind(self, before: Module) -> None:
        """Told what is right before it, wherever it is used, so that the two may share work.

        Raises:
            UnsupportedError: they do not fit each other.
        """

    def meets(self, front: InputModule) -> None:
        """Told which module reads the text, before anything is asked of it."""

    def for_task(self, task: str | None) -> Self:
        """The module as it treats a task where its graph shows nothing of that, with the same weights.

        Itself where it treats all tasks alike.
        """
        return self

    @property
    def treatment(self) -> tuple[Any, ...]:
        """What sets the module of one task apart from that of another, to compare them by."""
        return ()

    def called_with(self, task: str | None, modality: str | None, *, routed: bool) -> dict[str, Any]:
        """The keyword arguments that sentence-transformers calls its `forward` with.

        Args:
            task: what `encode(task=...)` was given.
            modality: `text` or `message`; None where the first module of the stack does not say.
            routed: whether it is in a route of a Router, which does not look at `kwargs` of modules.json.
        """
        return {}

    def reads_task(self, *, noted: bool) -> bool:
        """Whether it may treat one task in another way than the next.

        Args:
            noted: whether a Router in front of it writes the task among the features.
        """
        return False

    def keywords_of_its_code(self, named: Sequence[str]) -> Sequence[str]:
        """The keywords of `encode` that reach code of the model, of those that modules.json names."""
        return named

    @property
    def modality(self) -> str | None:
        """What sentence-transformers notes of its input, where it is first: `text`, `message`, or nothing."""
        return None

    @property
    def task_names(self) -> tuple[str, ...]:
        """Tasks that its configuration names."""
        return ()

    def get_config(self) -> dict[str, Any]:
        """The module's JSON, with the keys that sentence-transformers 5.4 and later use."""
        return {key: getattr(self, key) for key in self.config_keys}

    @property
    def in_width(self) -> int | None:
        """Width of the embedding it reads; None takes any."""
        return None

    def out_width(self, in_width: int) -> int:
        """Width of the embedding it writes when it is given `in_width`."""
        return in_width

    def out_length(self, in_length: int) -> int:
        """Positions of the token embeddings it leaves of `in_length`; below 1 where it cannot work on so few."""
        return in_length

    def misfits(self, front: InputModule) -> list[str]:
        """What keeps it from working behind the module that reads text; each ends in a remedy."""
        return []

    def why_it_failed(self, error: Exception) -> str:
        """The reason and its remedy where it was this module that failed on a text, and the reason is known."""
        return ""

    def notes(self, front: InputModule) -> list[str]:
        """What a user of the model should know of it, behind the module that reads text: one sentence each."""
        return []

    @property
    def type_path(self) -> str:
        """What modules.json calls it: the old path, which every release of sentence-transformers still reads."""
        return f"sentence_transformers.models.{type(self).__name__}"

    def summary(self) -> dict[str, Any]:
        """What a report tells of it: its configuration, without whole vocabularies."""
        return self.get_config()

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Builds the module from its checked JSON; the weights come after."""
        return cls(**config)

    @classmethod
    def build(cls, saved: SavedModule) -> Self:
        """Builds the module as it is in a model; `load` where its own folder is all it needs.

        Raises:
            ModelFolderError: as `load`.
            UnsupportedError: it cannot be compiled.
        """
        return cls.load(saved.home, saved.entry.config)

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


class TaskModule(Module):
    """A block that treats tasks each in its own way, where its graph shows nothing of that.

    Attributes:
        task: the one that it is for; None is no task.
    """

    task: str | None = None

    @property
    def counts_as(self) -> str:
        """The task, where texts without one are documents."""
        return self.task or "document"

    def for_task(self, task: str | None) -> Self:
        other = copy.copy(self)
        other.task = task
        return other


@dataclass(frozen=True)
class Example:
    """What one graph input is traced with.

    Attributes:
        value: a tensor with more than one element on every axis, with padding where the graph will meet some.
        axes: a name per axis; axes of one name have one length.
    """

    value: Tensor
    axes: tuple[str, ...] = ()


class InputModule(Module):
    """A block that turns text into features: the first of every route.

    Attributes:
        max_seq_length: most tokens of a text; None when unlimited.
        clamped_from: a larger limit that its configuration asks for and it cannot keep; None where there is none.
        has_masked_rows: whether a text is a padded row with an attention mask, or its tokens lie flat behind the
            others' with an offset per text.
        has_cls_token: whether a text begins with a token that stands for the whole.
        counts_prompt: whether it can tell how many tokens a prompt takes.
        pads_left: whether shorter rows of a batch are padded in front.
        wants_pairs: whether it reads pairs of texts alone.
        has_image_side: whether the model reads images too.
    """

    max_seq_length: int | None = None
    clamped_from: int | None = None
    save_in_root: ClassVar[bool] = True
    has_masked_rows: ClassVar[bool] = True
    has_cls_token: ClassVar[bool] = True
    counts_prompt: ClassVar[bool] = False
    pads_left: bool = False
    wants_pairs: bool = False
    has_image_side: bool = False

    @property
    @abstractmethod
    def input_names(self) -> tuple[str, ...]:
        """The features a compiled graph takes, in order."""

    @property
    @abstractmethod
    def vocabulary_size(self) -> int:
        """One more than the largest token id it can make."""

    @property
    def features(self) -> frozenset[str]:
        """What is in the feature dictionary after it, besides the embedding it writes."""
        return frozenset(self.input_names)

    @abstractmethod
    def tokenize(self, texts: Sequence[Text], prompt: str | None) -> Features:
        """The reference's text front end: `input_names` as tensors, for one batch.

        Args:
            texts: at least one.
            prompt: put in front of each (of a pair, in front of its first text).
        """

    def widened(self, features: Features, length: int) -> Features:
        """Padded rows of at least `length` positions, which some networks need; the new ones are masked."""
        return features

    @abstractmethod
    def front_end(self, file: str) -> tuple[TextSpec, str]:
        """How the torch-free runtime turns strings into `input_names`.

        Args:
            file: name the artifact will give to the content.

        Returns:
            the manifest's description, and the content of that file.

        Raises:
            UnsupportedError: it does something the runtime cannot.
        """

    @abstractmethod
    def examples(self) -> dict[str, Example]:
        """What to trace each of `input_names` with."""

    def probe_texts(self) -> list[str]:
        """Texts of its own vocabulary, where everyday ones may hold none of its words."""
        return []

    def prompt_length(self, prompt: str | None) -> int:
        """Tokens that pooling leaves out where `include_prompt` is false."""
        return 0
