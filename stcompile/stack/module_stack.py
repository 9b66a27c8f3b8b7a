"""`ModuleStack`: the modules of a sentence-embedding model in order, as one torch network per route."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import nn

from stcompile.errors import InputError
from stcompile.manifest import SENTENCE, ModuleSummary, RoutingSpec
from stcompile.modules import InputModule, Module, Router
from stcompile.modules.base import Features
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

    def route(self, task: str | None, *, or_first: bool = False) -> Route:
        """The route a task takes.

        Args:
            task: what `encode(task=...)` was given.
            or_first: the first route where there is no default.

        Raises:
            InputError: the task has no route.
        """
        if self.routing is None:
            return self.routes[""]
        name = self.routing.default if task is None else self.routing.tasks.get(task, self.routing.otherwise)
        if name is None and or_first:
            name = next(iter(self.routes))
        if name is None:
            raise InputError(f"no route for task {task!r}: this model has {', '.join(self.routing.tasks)}")
        return self.routes[name]

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
            digest.update(route.front.front_end("")[1].encode())
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
    known = dict.fromkeys(task for router in routers for task in router.tasks)
    paths = {task: _path(modules, task) for task in (None, *known, _UNHEARD_OF)}
    routes: dict[str, Route] = {}
    answers: dict[str | None, str | None] = {}
    for task, path in paths.items():
        answers[task] = None if path is None else path.name
        if path is not None and path.name not in routes:
            routes[path.name] = Route(path.modules, f"{name}, route {path.name}")
    if not routes:
        raise InputError("no task reaches any route of the Router: give it a default_route or name its routes")
    tasks = {task: route for task, route in answers.items() if task in known and task is not None and route is not None}
    return routes, RoutingSpec(tasks, answers[None], answers[_UNHEARD_OF])


class _Path:
    """The modules one task takes, and the names of the routes it chose on the way."""

    def __init__(self) -> None:
        self.modules: list[Module] = []
        self.choices: list[str] = []

    @property
    def name(self) -> str:
        return "-".join(dict.fromkeys(self.choices))


def _path(modules: Sequence[Module], task: str | None) -> _Path | None:
    """What a task takes, or None where some Router has no route for it."""
    path = _Path()
    return path if _follow(modules, task, path) else None


def _follow(modules: Sequence[Module], task: str | None, path: _Path) -> bool:
    for module in modules:
        if not isinstance(module, Router):
            path.modules.append(module)
            continue
        choice = module.route(task)
        if choice is None:
            return False
        path.choices.append(choice)
        if not _follow(module.routes[choice], task, path):
            return False
    return True


def _routers(modules: Sequence[Module]) -> Iterator[Router]:
    for module in modules:
        if isinstance(module, Router):
            yield module
            for inner in module.routes.values():
                yield from _routers(inner)
