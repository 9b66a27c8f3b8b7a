"""What encoders of dense, sparse and several vectors a text share: tasks, and the route of a text."""

from __future__ import annotations

from stcompile.runtime.inputs import Reading
from stcompile.runtime.loaded import Loaded
from stcompile.runtime.route import OpenRoute, route_of


class Embedding(Loaded):
    """A loaded artifact that makes a vector of a text."""

    @property
    def _width(self) -> str:
        return f"dim={self.get_embedding_dimension()}"

    @property
    def tasks(self) -> tuple[str, ...]:
        """What `task` may be; empty where the model has one route for everything."""
        return () if self._manifest.routing is None else tuple(self._manifest.routing.tasks)

    @property
    def similarity_fn_name(self) -> str:
        """`cosine`, `dot`, `euclidean` or `manhattan`; of a multi-vector encoder `maxsim` or `meanmaxsim`."""
        return self._manifest.similarity

    def get_embedding_dimension(self) -> int:
        """Width of what `encode` returns by default; of several routes, that of the default one."""
        kept, width = self._manifest.truncate_dim, self._manifest.dim
        return width if kept is None else min(kept, width)

    get_sentence_embedding_dimension = get_embedding_dimension

    def _reading(self, task: str | None) -> Reading[OpenRoute]:
        routing = self._manifest.routing
        return Reading(routing is not None, task, lambda task: self._routes[route_of(routing, task)])
