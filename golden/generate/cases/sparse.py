"""Sparse encoders: each head, each way to a weight of a token, and each generation of folders."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Router
from sentence_transformers.sparse_encoder.modules import SparseAutoEncoder, SparseStaticEmbedding, SpladePooling
from transformers import AutoTokenizer

from golden.generate.backbones import HIDDEN
from golden.generate.builder import FolderBuilder
from golden.generate.case import Case
from golden.generate.files import edit_json

_FEATURES = 96


def _runs(builder: FolderBuilder, **more: dict[str, Any]) -> None:
    builder.kind = "SparseEncoder"
    builder.run()
    builder.run("five", max_active_dims=5)
    for name, kwargs in more.items():
        builder.run(name, **kwargs)


def _fills(builder: FolderBuilder, kind: str, **checkpoint: Any) -> Transformer:
    return Transformer(str(builder.checkpoint(kind, head="mlm", **checkpoint)), transformer_task="fill-mask")


def splade(builder: FolderBuilder, kind: str, checkpoint: dict[str, Any] | None = None, **pooling: Any) -> None:
    _runs(builder, one_by_one={"batch_size": 1})
    builder.save([_fills(builder, kind, **(checkpoint or {})), SpladePooling(**pooling)])


def with_prompts(builder: FolderBuilder) -> None:
    _runs(builder)
    builder.run("encode_query", method="encode_query")
    builder.run("encode_document", method="encode_document")
    builder.save(
        [_fills(builder, "bert"), SpladePooling()],
        prompts={"query": "query: ", "document": "passage: "},
        similarity_fn_name="cosine",
        max_active_dims=12,
    )


def saved_by_5(builder: FolderBuilder) -> None:
    splade(builder, "bert")
    package = "sentence_transformers.sparse_encoder.models"
    names = ("MLMTransformer", "SpladePooling")
    edit_json(
        builder.folder / "modules.json",
        lambda rows: [{**row, "type": f"{package}.{name}"} for row, name in zip(rows, names, strict=True)],
    )
    edit_json(builder.folder / "sentence_bert_config.json", lambda _: {"max_seq_length": 64, "do_lower_case": False})
    edit_json(
        builder.folder / "1_SpladePooling" / "config.json",
        lambda config: {
            "pooling_strategy": "max",
            "activation_function": "relu",
            "word_embedding_dimension": config["embedding_dimension"],
        },
    )
    edit_json(
        builder.folder / "config_sentence_transformers.json",
        lambda config: {**config, "model_type": "SparseEncoder"},
    )


def csr(builder: FolderBuilder, **options: Any) -> None:
    _runs(builder, many={"max_active_dims": _FEATURES})
    features = builder.random(SparseAutoEncoder(HIDDEN, _FEATURES, **options))
    builder.save([builder.transformer(), builder.pooling(), features])


def _static(builder: FolderBuilder) -> SparseStaticEmbedding:
    tokenizer = AutoTokenizer.from_pretrained(builder.checkpoint("bert"))
    # Weights of rare words are large; some are below zero, and some are nothing.
    weight = torch.linspace(-0.5, 4.0, len(tokenizer.get_vocab()))
    weight[10:20] = 0
    return SparseStaticEmbedding(tokenizer, weight=weight, frozen=True)


def static(builder: FolderBuilder) -> None:
    # In a padded batch the library loses a [PAD] that a text spells out.
    builder.kind = "SparseEncoder"
    builder.run(batch_size=1)
    builder.run("five", max_active_dims=5, batch_size=1)
    builder.run("prompted", prompt="what is ", batch_size=1)
    builder.save([_static(builder)])


def without_inference(builder: FolderBuilder) -> None:
    router = Router.for_query_document(
        query_modules=[_static(builder)], document_modules=[_fills(builder, "bert"), SpladePooling()]
    )
    builder.kind = "SparseEncoder"
    builder.run("encode_query", method="encode_query", batch_size=1)
    builder.run("encode_document", method="encode_document")
    builder.run("five", method="encode_document", max_active_dims=5)
    builder.save([router])


CASES: dict[str, Case] = {
    "sparse_splade": Case("a masked language model's logits, their maximum", partial(splade, kind="bert")),
    "sparse_splade_prompts": Case("prompts, a similarity and a number of dimensions that are stored", with_prompts),
    "sparse_splade_v5": Case("MLMTransformer, and the keys of 5.x", saved_by_5),
    "sparse_splade_sum": Case("a sum over tokens", partial(splade, kind="bert", pooling_strategy="sum")),
    "sparse_splade_log_log": Case(
        "two logarithms, a head without token types",
        partial(splade, kind="distilbert", activation_function="log1p_relu"),
    ),
    "sparse_splade_sum_log_log": Case(
        "a sum of two logarithms, of a head of another network",
        partial(splade, kind="modernbert", pooling_strategy="sum", activation_function="log1p_relu"),
    ),
    "sparse_splade_xlmr": Case(
        "positions with an offset", partial(splade, kind="xlmr", checkpoint={"model_max_length": 62})
    ),
    "sparse_splade_electra": Case("a narrower layer before the vocabulary", partial(splade, kind="electra")),
    "sparse_splade_mpnet": Case(
        "relative positions", partial(splade, kind="mpnet", checkpoint={"model_max_length": 62})
    ),
    "sparse_csr": Case("the largest of learned features of a sentence embedding", partial(csr, k=12)),
    "sparse_csr_normalized": Case("the same of an embedding that is normalized", partial(csr, k=7, normalize=True)),
    "sparse_static": Case("the weight of each token, without a network", static),
    "sparse_router": Case("queries by weights of tokens, documents by a network", without_inference),
}
