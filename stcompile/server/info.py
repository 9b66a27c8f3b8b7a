"""`/info`: what is served, its limits, and the proof of it, with the fields of text-embeddings-inference and more."""

from __future__ import annotations

import contextlib
from typing import Any

from stcompile import __version__
from stcompile.artifact.manifest import RERANKER
from stcompile.artifact.report import read_report
from stcompile.errors import ArtifactError
from stcompile.runtime.cpus import available_cpus
from stcompile.server.endpoint import Server, written
from stcompile.server.served import RERANK, Served


def shown(server: Server) -> bytes:
    """The first model with the names of text-embeddings-inference, and all under `models`."""
    if "info" not in server.facts:
        settings = server.settings
        models = [_about(one) for one in server.models.values()]
        first = models[0]
        kind = {"reranker": {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}}
        server.facts["info"] = written(
            {
                "model_id": first["model_id"],
                "model_sha": first["fingerprint"],
                "model_dtype": first["precision"],
                "model_type": kind if RERANK in first["operations"] else {"embedding": {"pooling": "compiled"}},
                "max_concurrent_requests": settings.max_queue,
                "max_input_length": first["max_input_length"],
                "max_batch_tokens": settings.max_batch_tokens,
                "max_batch_requests": None,
                "max_client_batch_size": settings.max_texts,
                "auto_truncate": settings.truncates,
                "tokenization_workers": available_cpus(),
                "version": __version__,
                "sha": None,
                "docker_label": None,
                "models": models,
            }
        )
    content: bytes = server.facts["info"]
    return content


def _about(served: Served) -> dict[str, Any]:
    loaded, manifest = served.loaded, served.manifest
    parity = None
    with contextlib.suppress(ArtifactError):
        parity = read_report(loaded.artifact).parity.to_dict()
    return {
        "model_id": served.name,
        "kind": loaded.kind,
        "operations": served.operations,
        "target": manifest.target,
        "precision": manifest.target.rpartition("-")[2],
        "fingerprint": loaded.fingerprint,
        "dim": manifest.dim if loaded.kind != RERANKER else None,
        "max_input_length": loaded.max_seq_length,
        "prompts": loaded.prompts,
        "tasks": list(getattr(loaded, "tasks", ())),
        "device": str(loaded.device),
        "threads": loaded.threads,
        "kernels": loaded.kernels,
        "parity": parity,
    }
