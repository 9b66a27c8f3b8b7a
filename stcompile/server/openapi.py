"""What the server answers, as OpenAPI 3.1, made of the tables it is served from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from stcompile import __version__
from stcompile.server.endpoint import Endpoint

_REFERENCE = "#/components/schemas/{model}"

# Every path may answer so, each family in its own words.
_ERRORS = {
    "401": "The API key is missing or wrong.",
    "404": "There is no such model.",
    "408": "The request was not sent in time.",
    "413": "More bytes, texts or tokens than are taken.",
    "415": "The body is compressed.",
    "422": "What was sent is not what is asked for.",
    "424": "No model of this server can do it.",
    "429": "Too many texts wait: come again.",
    "500": "The model failed.",
    "503": "The server cannot take it now, or ends.",
}
_PAGES = {
    "/": ("A playground", "text/html"),
    "/docs": ("What there is, for people", "text/html"),
    "/openapi.json": ("This description", "application/json"),
    "/v1/models": ("The models of this server", "application/json"),
    "/info": ("What is served, its limits, and the proof of it", "application/json"),
    "/health": ("Whether it answers", "application/json"),
    "/metrics": ("Counts for Prometheus", "text/plain"),
}


def described(endpoints: Sequence[Endpoint], *, keys: bool) -> dict[str, Any]:
    """The whole description; `keys` says whether one must come with every request."""
    models: list[type[BaseModel]] = [model for one in endpoints for model in (one.asked, one.told)]
    references, found = models_json_schema(
        [(model, "validation") for model in dict.fromkeys(models)], ref_template=_REFERENCE
    )
    paths: dict[str, dict[str, Any]] = {}
    for one in endpoints:
        asked, told = (references[model, "validation"] for model in (one.asked, one.told))
        paths[one.path] = {"post": _operation(one, asked, told)}
    for path, (summary, kind) in _PAGES.items():
        schema: dict[str, Any] = {} if kind == "application/json" else {"type": "string"}
        answers = {"200": {"description": summary, "content": {kind: {"schema": schema}}}}
        if path not in ("/", "/health"):
            answers["401"] = {"description": _ERRORS["401"], "content": {"application/json": {"schema": {}}}}
        about = {"summary": summary, "operationId": f"get_{_name(path)}", "tags": ["Server"], "responses": answers}
        paths.setdefault(path, {})["get"] = about
    schemes = {"key": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "stcompile serve",
            "version": __version__,
            "description": "Compiled Sentence-Transformers models, answering as OpenAI, text-embeddings-inference, "
            "Cohere and Jina do.",
        },
        "paths": paths,
        "components": {"schemas": found.get("$defs", {}), **({"securitySchemes": schemes} if keys else {})},
        **({"security": [{"key": []}]} if keys else {}),
    }


def _operation(one: Endpoint, asked: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
    wrong = {
        status: {"description": why, "content": {"application/json": {"schema": {"type": "object"}}}}
        for status, why in _ERRORS.items()
    }
    return {
        "summary": one.summary,
        "operationId": _name(one.path),
        "tags": [one.family],
        "requestBody": {"required": True, "content": {"application/json": {"schema": asked}}},
        "responses": {"200": {"description": one.summary, "content": {"application/json": {"schema": told}}}, **wrong},
    }


def _name(path: str) -> str:
    return path.strip("/").replace("/", "_").replace(".", "_") or "root"
