"""Router: where it stands, how it picks a route, and what its routes share."""

from __future__ import annotations

from typing import Any

from sentence_transformers.sentence_transformer import modules
from torch import nn

from golden.generate.backbones import HIDDEN
from golden.generate.builder import FolderBuilder
from golden.generate.case import Case
from golden.generate.files import edit_json, read_json, write_json
from golden.generate.legacy import DENSE_KEYS, as_v3
from golden.generate.static import static_embedding
from golden.generate.tokenizers import FAMILIES

PROMPTS = {"query": "query: ", "document": "passage: "}


def _run_routes(builder: FolderBuilder) -> None:
    builder.run("encode_query", method="encode_query")
    builder.run("encode_document", method="encode_document")


def _run_all(builder: FolderBuilder) -> None:
    builder.run()
    _run_routes(builder)


def _run_keys(builder: FolderBuilder) -> None:
    for key in ("query", "document"):
        builder.run(f"key_{key}", key=key)


def dense_heads(builder: FolderBuilder) -> None:
    heads = {
        "query": [builder.dense(HIDDEN, 16)],
        "document": [builder.dense(HIDDEN, 24, nn.GELU()), builder.dense(24, 16, nn.Identity())],
    }
    router = modules.Router(heads, default_route="document")
    builder.save([builder.transformer(), builder.pooling(), router, modules.Normalize()])
    _run_all(builder)
    builder.run("task_query", task="query")


def first_static_query(builder: FolderBuilder) -> None:
    router = modules.Router.for_query_document(
        query_modules=[static_embedding(builder, width=16)],
        document_modules=[builder.transformer(), builder.pooling(), builder.dense(HIDDEN, 16)],
    )
    builder.save([router, modules.Normalize()], prompts=PROMPTS)
    _run_all(builder)
    _run_keys(builder)
    builder.run("key_query_prompt", key="query", prompt_name="query")


def two_encoders(builder: FolderBuilder) -> None:
    routes = {
        "query": [builder.transformer("qwen"), builder.pooling("lasttoken")],
        "document": [builder.transformer("mpnet", model_max_length=32), builder.pooling("cls")],
    }
    builder.save([modules.Router(routes)])
    _run_all(builder)
    _run_keys(builder)


def route_mappings(builder: FolderBuilder) -> None:
    mappings = {("query", None): "a", (None, "text"): "b", ("document", "text"): "a"}
    heads = {"a": [builder.dense(HIDDEN, 16)], "b": [builder.dense(HIDDEN, 16)]}
    router = modules.Router(heads, default_route="b", route_mappings=mappings)
    builder.save([builder.transformer(), builder.pooling(), router])
    _run_all(builder)


def shared_encoder(builder: FolderBuilder) -> None:
    encoder = [builder.transformer(), builder.pooling()]
    routes = {
        "query": [*encoder, builder.dense(HIDDEN, 16)],
        "document": [*encoder, builder.dense(HIDDEN, 16, nn.GELU())],
    }
    builder.save([modules.Router(routes, default_route="document")], prompts=PROMPTS)
    _run_all(builder)
    _run_keys(builder)


def no_default(builder: FolderBuilder) -> None:
    routes = {
        "query": [static_embedding(builder, width=16)],
        "document": [static_embedding(builder, FAMILIES["t5"].build(), width=16)],
    }
    builder.save([modules.Router(routes, allow_empty_key=False)])
    _run_routes(builder)
    _run_keys(builder)


def different_widths(builder: FolderBuilder) -> None:
    routes = {
        "query": [static_embedding(builder, width=16)],
        "document": [builder.transformer(), builder.pooling()],
    }
    builder.save([modules.Router(routes, default_route="document")])
    _run_all(builder)
    _run_keys(builder)


def asym(builder: FolderBuilder) -> None:
    heads = {"query": [builder.dense(HIDDEN, 16)], "doc": [builder.dense(HIDDEN, 16, nn.GELU())]}
    builder.save([builder.transformer(), builder.pooling(), modules.Router(heads)])
    folder = builder.folder / "2_Asym"
    (builder.folder / "2_Router").rename(folder)
    structure = read_json(folder / "router_config.json")["structure"]
    (folder / "router_config.json").unlink()
    ids = {route: f"14000000000{i}_Dense" for i, route in enumerate(structure)}
    for route, id_ in ids.items():
        (folder / structure[route][0]).rename(folder / id_)
        edit_json(folder / id_ / "config.json", lambda config: {key: config[key] for key in DENSE_KEYS})
    config = {
        "types": dict.fromkeys(ids.values(), "sentence_transformers.models.Dense"),
        "structure": {route: [id_] for route, id_ in ids.items()},
        "parameters": {"allow_empty_key": True},
    }
    write_json(folder / "config.json", config)
    as_v3(builder)

    def change(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [*entries[:-1], {**entries[-1], "path": "2_Asym", "type": "sentence_transformers.models.Asym"}]

    builder.edit("modules.json", change)
    builder.run()
    builder.run("encode_query", method="encode_query")
    builder.run("task_doc", task="doc")


CASES: dict[str, Case] = {
    "router_dense_heads": Case("one encoder, then Router with a head for queries and one for documents", dense_heads),
    "router_first_static_query": Case(
        "Router first: StaticEmbedding for queries, an encoder for documents", first_static_query
    ),
    "router_two_encoders": Case(
        "Router first, two encoders that differ in tokenizer, padding side and length; the first route is the default",
        two_encoders,
    ),
    "router_route_mappings": Case("route_mappings from task and modality to a route", route_mappings),
    "router_shared_encoder": Case(
        "Router first, both routes go through the same encoder: it is stored once", shared_encoder
    ),
    "router_no_default": Case("Router first without a default route: every call must name one", no_default),
    "router_different_widths": Case("Router first, routes of different output width", different_widths),
    "asym_legacy": Case("release 3: Asym with config.json, old type paths, routes query and doc", asym),
}
