"""`ModuleStack`: the modules of a sentence-embedding model in order, as one torch network per route."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Iterator, Mapping, Sequence
from itertools import count

import numpy as np
from numpy.typing import NDArray
from torch import nn

from stcompile.errors import InputError
from stcompile.manifest import SENTENCE, ModuleSummary, RoutingSpec
from stcompile.modules import InputModule, Module, Router, Transformer
from stcompile.modules.base import Features
from stcompile.runtime.route import route_of
from stcompile.runtime.text.base import Text
from stcompile.stack.route import Route

# A task no Router has heard of: what it gets is what every such task gets.
_UNHEARD_OF = "\0"


class ModuleStack(nn.Module):
    """What a model folder holds: a module that reads text, what follows it, and prompts.

    Args:
        modules: a module that reads text first (Transformer, StaticEmbedding, WordEmbeddings, BoW, or a Router whose
            routes begin with one), then any of `stcompile.modules`.
        prompts: prompt name to text.
        default_prompt_name: the prompt plain encoding uses.
        similarity: `cosine`, `dot`, `euclidean` or `manhattan`.
        truncate_dim: dimensions kept by default; None keeps all.
        name: what the model is called.

    Attributes:
        routes: route name to its modules, laid out; one, with an empty name, where there is no Router.
        routing: which task takes which route; None where there is no Router.

    Raises:
        InputError: the first module does not read text.
        UnsupportedError: the modules of a route do not fit each other; names everything found.
    """

    def __init__(
        self,
        modules: Sequence[Module],
        *,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
        similarity: str = "cosine",
        truncate_dim: int | None = None,
        name: str = "model",
    ) -> None:
        super().__init__()
        if not modules or not isinstance(modules[0], (InputModule, Router)):
            first = type(modules[0]).__name__ if modules else "nothing"
            raise InputError(
                f"the first module, {first}, does not read text: begin the stack with a Transformer or the like"
            )
        self.blocks = nn.ModuleList(modules)
        self.prompts = {"query": "", "document": "", **(prompts or {})}
        self.default_prompt_name = default_prompt_name
        self.similarity = similarity
        self.truncate_dim = truncate_dim
        self.name = name
        self.routes, self.routing = _lay_out(modules, name)
        self.eval()

    @property
    def dim(self) -> int:
        """Width of the sentence embedding; of several routes, that of the default one."""
        return self.route(None, or_first=True).dim

    @property
    def default_prompt(self) -> str:
        """What plain `encode` puts in front of a text; empty where there is no default prompt."""
        return self.prompts.get(self.default_prompt_name or "", "")

    def route(self, task: str | None, *, or_first: bool = False) -> Route:
        """The route a task takes.

        Args:
            task: what `encode(task=...)` was given.
            or_first: the first route where there is no default.

        Raises:
            InputError: the task has no route.
        """
        if or_first and self.routing is not None and self.routing.default is None:
            return next(iter(self.routes.values()))
        return self.routes[route_of(self.routing, task)]

    def forward(self, features: Features) -> Features:
        return self.route(None)(features)  # type: ignore[no-any-return] # a Route's forward

    def encode(
        self,
        texts: Sequence[Text],
        prompt: str | None = None,
        batch_size: int = 32,
        output: str = SENTENCE,
        task: str | None = None,
    ) -> NDArray[np.float32]:
        """The reference of parity: torch's vectors, batches of like length. Arguments as `Route.encode`."""
        return self.route(task).encode(texts, prompt, batch_size, output)

    def summaries(self) -> tuple[ModuleSummary, ...]:
        """The stack as a manifest records it."""
        return tuple(ModuleSummary(type(block).__name__, block.summary()) for block in self._modules_in_order())

    def fingerprint(self) -> str:
        """sha256 over configuration, weights and tokenizers, as they were read."""
        digest = hashlib.sha256()
        summary = [[item.type, item.config] for item in self.summaries()]
        digest.update(json.dumps([summary, self.prompts, self.default_prompt_name], sort_keys=True).encode())
        for route in self.routes.values():
            digest.update(route.front_end("")[1].encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def notes(self) -> tuple[str, ...]:
        """What a user of the model should know, one sentence each."""
        return tuple(dict.fromkeys(note for route in self.routes.values() for note in route.notes()))

    def _modules_in_order(self) -> Iterator[Module]:
        for block in self.blocks:
            assert isinstance(block, Module)
            yield block


def _lay_out(modules: Sequence[Module], name: str) -> tuple[dict[str, Route], RoutingSpec | None]:
    routers = list(_routers(modules))
    if not routers:
        return {"": Route(list(modules), name)}, None
    modality = _modality(modules[0])
    known = dict.fromkeys(task for router in routers for task in router.tasks)
    routes: dict[str, Route] = {}
    names: dict[tuple[str, ...], str] = {}
    answers: dict[str | None, str | None] = {}
    for task in (None, *known, _UNHEARD_OF):
        path = _Path(task, modality)
        if not path.follow(modules):
            answers[task] = None
            continue
        choices = tuple(path.choices)
        if choices not in names:
            # Of one Router the route's own name; of several, one that no other way through them has.
            names[choices] = label = _unused("-".join(dict.fromkeys(choices)), routes)
            routes[label] = Route(path.modules, f"{name}, route {label}")
        answers[task] = names[choices]
    if not routes:
        raise InputError("no task reaches any route of the Router: give it a default_route or name its routes")
    tasks = {task: route for task in known if (route := answers[task]) is not None}
    return routes, RoutingSpec(tasks, answers[None], answers[_UNHEARD_OF])


def _modality(first: Module) -> str | None:
    """What sentence-transformers notes of its input, for the Routers to come: only these two modules say anything."""
    if isinstance(first, Transformer):
        return "message" if "message" in first.modality_config else "text"
    return "text" if isinstance(first, Router) else None


def _unused(name: str, taken: Container[str]) -> str:
    return next(label for number in count(1) if (label := name if number == 1 else f"{name}-{number}") not in taken)


class _Path:
    """The modules one task takes, and the routes chosen on the way."""

    def __init__(self, task: str | None, modality: str | None) -> None:
        self._task = task
        self._modality = modality
        self.modules: list[Module] = []
        self.choices: list[str] = []

    def follow(self, modules: Sequence[Module]) -> bool:
        """Walks through; False where some Router has no route for the task."""
        for module in modules:
            if not isinstance(module, Router):
                self.modules.append(module)
                continue
            choice = module.route(self._task, self._modality)
            if choice is None:
                return False
            self.choices.append(choice)
            if not self.follow(module.routes[choice]):
                return False
        return True


def _routers(modules: Sequence[Module]) -> Iterator[Router]:
    for module in modules:
        if isinstance(module, Router):
            yield module
            for inner in module.routes.values():
                yield from _routers(inner)
