"""A stack's modules laid out as routes: one straight line for everything a task can choose."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from itertools import count
from typing import Any

from stcompile.artifact.manifest import RERANKER, RoutingSpec
from stcompile.compiler.metrics import equal
from stcompile.compiler.modules import InputModule, Module, Router
from stcompile.compiler.stack.route import Route
from stcompile.errors import InputError, UnsupportedError, one_line

# A task no Router has heard of: what it gets is what every such task gets.
_UNHEARD_OF = "\0"

# What encode_query and encode_document ask for.
_USUAL_TASKS = ("query", "document")

# Short, padded, and longer than most prompts: two tasks that treat these alike, bit for bit, are one route.
_COMPARED = ("a", "The quick brown fox jumps over the lazy dog.", "one two three four five " * 20)


def lay_out(
    modules: Sequence[Module], name: str, prompt_names: Sequence[str], kind: str
) -> tuple[dict[str, Route], RoutingSpec | None]:
    """The routes of a stack, and which task takes which.

    A task chooses the routes of Routers. Where a module is called with it (`kwargs` of modules.json, `forward_kwargs`
    of a class, or a network in a Router whose forward names it), each task is a graph of its own as far as its vectors
    differ. Where tasks differ in how a text is read alone, or in which of its tokens are scored, their routes share one
    graph. Which tasks a network knows is nowhere written down for sure: the usual two, those that its configuration
    names, and the names of prompts are tried, and any other is refused when it is asked for.

    Args:
        modules: the stack.
        name: what to call it in an error.
        prompt_names: names that tasks may have too.
        kind: what is made of it, one of `ANSWERS`.

    Returns:
        route name to route, one with an empty name where no task chooses anything; and the tasks, None for that one.

    Raises:
        InputError: no task reaches any route.
        UnsupportedError: the modules of a route do not fit each other, or no task can be run.
    """
    _introduce_front(modules)
    routers = [module for module in _all(modules) if isinstance(module, Router)]
    noted = isinstance(modules[0], Router)
    by_task = any(module.reads_task(noted=noted) for module in _all(modules))
    if kind == RERANKER and modules[0].modality == "message" and not getattr(modules[0], "wants_pairs", False):
        raise UnsupportedError(
            name,
            "its pairs go through a chat template, which is compiled of networks that classify or generate alone: "
            "remove `message` from its modality_config",
        )
    # The texts of pairs have no task.
    treated = () if kind == RERANKER else _treated(modules)
    if not routers and not by_task and not treated:
        return {"": Route([module.for_task(None) for module in modules], name, kind=kind)}, None
    modality = modules[0].modality
    tasks = [*(task for router in routers for task in router.tasks), *treated]
    if by_task:
        tasks += [*_USUAL_TASKS, *(task for module in _all(modules) for task in module.task_names), *prompt_names]
    known = dict.fromkeys(tasks)
    if kind == RERANKER:
        raise UnsupportedError(name, "it scores pairs, and a Router or a task chooses how: load it without")
    found = _Routes(name, by_task, kind, treated=bool(treated))
    answers: dict[str | None, str | None] = {}
    # Documents first: where routes share a graph it is calibrated on what the first one reads.
    first = ("document",) if treated else ()
    for task in dict.fromkeys((*first, None, *known, _UNHEARD_OF)):
        path = _Path(task, modality)
        # What an unheard-of task would mean to a network, only its author knows.
        if path.follow(modules) and not (by_task and task == _UNHEARD_OF):
            answers[task] = found.add(path, {"task": task, "modality": modality} if noted else {})
        else:
            answers[task] = None
    if not found.routes:
        if found.failures:
            raise UnsupportedError(name, f"it fails for every task ({found.failures[0]}): correct its modules")
        raise InputError("no task reaches any route of the Router: give it a default_route or name its routes")
    for label, owner in found.routes.items():
        owner.serve([other for other in found.routes.values() if other.shares == label])
    chosen = {task: route for task in known if (route := answers[task]) is not None}
    return found.routes, RoutingSpec(chosen, answers[None], answers[_UNHEARD_OF])


class _Routes:
    """The routes found so far; equal ones are one."""

    def __init__(self, name: str, by_task: bool, kind: str, *, treated: bool) -> None:
        self._name = name
        self._kind = kind
        self._by_task = by_task
        self._treated = treated
        self._known: list[tuple[tuple[str, ...], tuple[Any, ...], str, Any]] = []
        self.routes: dict[str, Route] = {}
        self.failures: list[str] = []

    def add(self, path: _Path, noted: dict[str, Any]) -> str | None:
        """The name of the route that a path is; None where its modules refuse the task."""
        choices, treatment = tuple(path.choices), tuple(module.treatment for module in path.modules)
        if not self._by_task:
            for known, like, label, _ in self._known:
                if (known, like) == (choices, treatment):
                    return label
        alike = (label for known, _, label, _ in self._known if known == choices)
        shares = None if self._by_task else next(alike, None)
        # Of one Router the route's own name; of several, one that no other way through them has.
        parts = [*choices, *([path.task or "default"] if self._by_task or self._treated else [])]
        label = _unused("-".join(dict.fromkeys(parts)).replace(_UNHEARD_OF, "other"), self.routes)
        route = Route(
            path.modules,
            f"{self._name}, route {label}",
            keywords=path.keywords,
            noted=noted,
            kind=self._kind,
            shares=shares,
        )
        vectors = None
        if self._by_task:
            try:
                vectors = route.encode(_COMPARED)
            except Exception as error:  # it is somebody else's code, which may know no such task
                self.failures.append(f"{type(error).__name__}: {one_line(error, 200)}")
                return None
            for known, like, same, others in self._known:
                if (known, like) == (choices, treatment) and equal(vectors, others):
                    return same
        self._known.append((choices, treatment, label, vectors))
        self.routes[label] = route
        return label


class _Path:
    """The modules one task takes, what each is called with, and the routes chosen on the way."""

    def __init__(self, task: str | None, modality: str | None) -> None:
        self.task = task
        self._modality = modality
        self.modules: list[Module] = []
        self.keywords: list[dict[str, Any]] = []
        self.choices: list[str] = []

    def follow(self, modules: Sequence[Module], *, routed: bool = False) -> bool:
        """Walks through; False where some Router has no route for the task."""
        for module in modules:
            if not isinstance(module, Router):
                self.modules.append(module.for_task(self.task))
                self.keywords.append(module.called_with(self.task, self._modality, routed=routed))
                continue
            choice = module.route(self.task, self._modality)
            if choice is None:
                return False
            self.choices.append(choice)
            if not self.follow(module.routes[choice], routed=True):
                return False
        return True


def _introduce_front(modules: Sequence[Module]) -> None:
    """Tells each module which one reads the text, the first of several in Routers."""
    front = next((module for module in _all(modules) if isinstance(module, InputModule)), None)
    if front is not None:
        for module in _all(modules):
            module.meets(front)


def _treated(modules: Sequence[Module]) -> tuple[str, ...]:
    """The tasks that modules treat in their own way, where their graphs show nothing of it; none where they do not."""
    tasks = (*_USUAL_TASKS, *(task for module in _all(modules) for task in module.task_names))
    found = [
        module
        for module in _all(modules)
        if len({str(module.for_task(t).treatment) for t in (None, *tasks, _UNHEARD_OF)}) > 1
    ]
    return tuple(dict.fromkeys(tasks)) if found else ()


def _unused(name: str, taken: Container[str]) -> str:
    return next(label for number in count(1) if (label := name if number == 1 else f"{name}-{number}") not in taken)


def _all(modules: Sequence[Module]) -> Iterator[Module]:
    """Every module, those in the routes of Routers too."""
    for module in modules:
        yield module
        if isinstance(module, Router):
            for inner in module.routes.values():
                yield from _all(inner)
