"""What an endpoint is: a row of the table that is served and described."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from stcompile.runtime.collector import Usage
from stcompile.server.errors import RequestError, invalid
from stcompile.server.served import Served
from stcompile.server.settings import Settings


class Asked(BaseModel):
    """A request's body: what is not known in it is passed over, as clients send more than we read."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


class Told(BaseModel):
    """An answer's body, for the description alone: answers are written from arrays."""


# What JSON calls what is no text.
KINDS = {type(None): "null", bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "an object"}


def _only_texts(value: Any) -> Any:
    """Says what is wrong with them in one sentence, where pydantic says of each form why it is not that one."""
    first = value[0] if isinstance(value, list) and value else value
    first = first[0] if isinstance(first, list) and first else first
    if isinstance(first, int) and not isinstance(first, bool):
        raise ValueError(  # noqa: TRY004 - pydantic hands on this one
            "token ids are not taken, for they are another tokenizer's: send texts (of LangChain's OpenAIEmbeddings "
            "check_embedding_ctx_length=False)"
        )
    if value == []:
        raise ValueError("it is an empty list: send at least one text")
    if not isinstance(value, (str, list)):
        raise ValueError(f"it is {KINDS[type(value)]}: send a text, or a list of texts")  # noqa: TRY004 - as above
    for place, text in enumerate(value if isinstance(value, list) else ()):
        if not isinstance(text, str):
            raise ValueError(f"item {place} is {KINDS[type(text)]}, not text: leave it out")  # noqa: TRY004 - as above
    return value


# One text, or several.
Texts = Annotated[
    str | Annotated[list[str], Field(min_length=1)],
    BeforeValidator(_only_texts, json_schema_input_type=str | Annotated[list[str], Field(min_length=1)]),
]
Name = Annotated[str, Field(max_length=512)]


@dataclass
class Known:
    """What is told of a request besides its answer: to the log and the metrics.

    Attributes:
        model: who answered it.
        texts: that it had.
        usage: what was run of it.
    """

    model: str = ""
    texts: int = 0
    usage: Usage = field(default_factory=Usage)


@dataclass
class Server:
    """What all endpoints share.

    Attributes:
        models: by their names, in the order they were named in.
        settings: of the server.
    """

    models: dict[str, Served]
    settings: Settings
    is_ending: bool = False
    facts: dict[str, Any] = field(default_factory=dict)

    def find(self, name: str | None, operation: str, *, or_any: bool = False) -> Served:
        """The model that a request names, which must be able to do it; without a name the first that is.

        `or_any` takes the first that is able where nobody has that name, too: clients that must send a name, and know
        of one model alone.

        Raises:
            RequestError: there is none.
        """
        able = [one for one in self.models.values() if operation in one.operations]
        if name is not None:
            found = self.models.get(name)
            if found is None and not or_any:
                known = ", ".join(self.models)
                raise RequestError(404, f"there is no model {name[:200]!r}: this server has {known}", "model_not_found")
            if found is not None and operation not in found.operations:
                can = ", ".join(found.operations) or "only be asked for tokens"
                raise invalid(f"{name} cannot {operation}: it can {can}")
            if found is not None:
                return found
        if not able:
            raise RequestError(
                424, f"no model of this server can {operation}: start it with one that is exported for it", "backend"
            )
        return able[0]

    def any_of(self, name: str | None) -> Served:
        """The model of that name; without a name, or where nobody has it, the first."""
        return self.models.get(name or "") or next(iter(self.models.values()))


Answer = Callable[[Server, Any, Known], Awaitable[bytes]]


@dataclass(frozen=True)
class Endpoint:
    """One path that takes a body.

    Attributes:
        path: of it; method POST.
        asked: what its body is.
        told: what it answers.
        answer: makes the answer.
        wrong: an error as clients of this interface read it.
        summary: for people.
        family: whose interface it is.
    """

    path: str
    asked: Any
    told: Any
    answer: Answer
    wrong: Callable[[RequestError], dict[str, Any]]
    summary: str
    family: str


def as_list(texts: str | list[str]) -> list[str]:
    """One text as a list of one."""
    return [texts] if isinstance(texts, str) else texts


def written(content: Any) -> bytes:
    """JSON, rows of arrays among it."""
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
