"""`ModuleStack`: the modules of a sentence-embedding model in order, as one torch network per route."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from stcompile.artifact.image import ImageSpec
from stcompile.artifact.manifest import ENCODER, IMAGE
from stcompile.artifact.report import ModuleSummary
from stcompile.compiler.modules import InputModule, Module, Router, Transformer
from stcompile.compiler.modules.base import Features
from stcompile.compiler.modules.image_tower import ImageTower
from stcompile.compiler.stack.image_route import ImageRoute
from stcompile.compiler.stack.layout import lay_out
from stcompile.compiler.stack.route import Route
from stcompile.errors import InputError, UnsupportedError
from stcompile.runtime.route import route_of
from stcompile.runtime.text.base import Text


class ModuleStack(nn.Module):
    """What a model folder holds: a module that reads text, what follows it, and prompts.

    Args:
        modules: a module that reads text first (Transformer, StaticEmbedding, WordEmbeddings, BoW, or a Router whose
            routes begin with one), then any of `stcompile.compiler.modules`.
        prompts: prompt name to text.
        default_prompt_name: the prompt plain encoding uses.
        similarity: `cosine`, `dot`, `euclidean` or `manhattan`.
        truncate_dim: dimensions kept by default; None keeps all.
        kind: what is made of it: `encoder`, `reranker`, whose last module makes `scores`, or `sparse encoder`.
        max_active_dims: of a sparse encoder, how many of the largest numbers are kept by default; None keeps all.
        name: what the model is called.
        notes: what a user should know of how it was read, one sentence each.
        images: how pictures reach the image tower of its Transformer; None leaves that out.

    Attributes:
        routes: route name to its modules, laid out; one, with an empty name, where no task changes anything.
        routing: which task takes which route; None where no task changes anything.

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
        kind: str = ENCODER,
        max_active_dims: int | None = None,
        name: str = "model",
        notes: Sequence[str] = (),
        images: ImageSpec | None = None,
        file: str | None = None,
    ) -> None:
        super().__init__()
        if not modules or not isinstance(modules[0], (InputModule, Router)):
            first = type(modules[0]).__name__ if modules else "nothing"
            raise InputError(
                f"the first module, {first}, does not read text: begin the stack with a Transformer or the like"
            )
        self.blocks = nn.ModuleList(modules)
        self._line = tuple(modules)
        self.prompts = {"query": "", "document": "", **(prompts or {})}
        self.default_prompt_name = default_prompt_name
        self.similarity = similarity
        self.truncate_dim = truncate_dim
        self.kind = kind
        self.max_active_dims = max_active_dims
        self.name = name
        self.file = file
        self._notes = tuple(notes)
        self.routes, self.routing = lay_out(modules, name, tuple(self.prompts), kind)
        # In a list: its weights are those of the modules, once.
        self._image = [] if images is None else [_image_route(modules, name, images, self.dim)]
        self.eval()

    @property
    def image(self) -> ImageRoute | None:
        """The same modules behind the tower that reads images; None where texts alone are encoded."""
        return next(iter(self._image), None)

    @property
    def graphs(self) -> tuple[str, ...]:
        """The routes that have a graph of their own, that of images last."""
        own = [name for name, route in self.routes.items() if route.shares is None]
        return (*own, *([] if self.image is None else [IMAGE]))

    @property
    def dim(self) -> int:
        """Width of the sentence embedding, or number of labels; of several routes, that of the default one."""
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
        output: str | None = None,
        task: str | None = None,
    ) -> NDArray[np.float32]:
        """Torch's vectors, in batches of like length. Arguments as `Route.encode`."""
        return self.route(task).encode(texts, prompt, batch_size, output)

    def summaries(self) -> tuple[ModuleSummary, ...]:
        """The stack as a report tells it."""
        return tuple(ModuleSummary(type(block).__name__, block.summary()) for block in self._line)

    def fingerprint(self) -> str:
        """sha256 over configuration, weights and tokenizers, as they were read."""
        digest = hashlib.sha256()
        summary = [[item.type, item.config] for item in self.summaries()]
        digest.update(json.dumps([summary, self.prompts, self.default_prompt_name], sort_keys=True).encode())
        for route in self.routes.values():
            digest.update(route.front_end("")[1].encode())
        if self.image is not None:
            digest.update(json.dumps(dataclasses.asdict(self.image.processing), sort_keys=True).encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy())
        return digest.hexdigest()

    def notes(self) -> tuple[str, ...]:
        """What a user of the model should know, one sentence each."""
        routes = [*self.routes.values()]
        known = [*self._notes, *(note for route in routes for note in route.notes())]
        if self.image is None and any(route.front.has_image_side for route in routes):
            known.append("only the text side of this model is compiled: keep images on sentence-transformers")
        return tuple(dict.fromkeys(known))


def _image_route(modules: Sequence[Module], name: str, images: ImageSpec, width: int) -> ImageRoute:
    first, *others = modules
    assert isinstance(first, Transformer)  # nothing else has an image tower
    route = ImageRoute([ImageTower(first, images, name), *others], f"{name}, images")
    if route.dim != width:
        raise UnsupportedError(
            name,
            f"its images have {route.dim} dimensions and its texts {width}, which no space has in common: leave the "
            "image tower out (--modalities text)",
        )
    return route
