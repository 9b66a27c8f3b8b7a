"""Multi-vector encoders: which tokens have a vector, how queries are made longer, and each library's folders."""

from __future__ import annotations

import json
import string
from functools import partial
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from sentence_transformers.base.modules import Dense
from sentence_transformers.multi_vector_encoder.modules import HierarchicalTokenPooling, MultiVectorMask
from sentence_transformers.sentence_transformer import modules
from torch import nn
from transformers import AutoModel, AutoTokenizer

from golden.generate.backbones import HIDDEN
from golden.generate.builder import FolderBuilder
from golden.generate.case import Case
from golden.generate.files import edit_json, write_json
from golden.generate.weights import randomize

_TOKENS, _WIDTH = "token_embeddings", 16
_PUNCTUATION = list(string.punctuation)


def _runs(builder: FolderBuilder, **more: dict[str, Any]) -> None:
    builder.kind = "MultiVectorEncoder"
    builder.run(ragged=True, convert_to_numpy=True)
    for method in ("encode_query", "encode_document"):
        builder.run(method, method=method, ragged=True, convert_to_numpy=True)
    for name, kwargs in more.items():
        builder.run(name, ragged=True, convert_to_numpy=True, **kwargs)


def _dense(builder: FolderBuilder, **options: Any) -> Any:
    return builder.random(Dense(HIDDEN, _WIDTH, bias=False, activation_function=nn.Identity(), **options))


def native(
    builder: FolderBuilder,
    kind: str = "bert",
    checkpoint: dict[str, Any] | None = None,
    mask: dict[str, Any] | None = None,
    pooling: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
    **arguments: Any,
) -> None:
    _runs(builder, another_task={"task": "passage"})
    stack = [
        builder.transformer(kind, arguments=arguments, **(checkpoint or {})),
        _dense(builder, module_input_name=_TOKENS),
        MultiVectorMask(**(mask or {})),
        modules.Normalize(module_input_name=_TOKENS),
    ]
    if pooling is not None:
        stack.append(HierarchicalTokenPooling(**pooling))
    builder.save(stack, **(settings or {}))


def residual(builder: FolderBuilder) -> None:
    """Two layers of each token, as mxbai's small models have them, and no norm."""
    _runs(builder)
    layers = [
        builder.random(
            Dense(HIDDEN, 2 * HIDDEN, activation_function=nn.GELU(), use_residual=True, module_input_name=_TOKENS)
        ),
        builder.random(Dense(2 * HIDDEN, _WIDTH, activation_function=nn.Identity(), module_input_name=_TOKENS)),
    ]
    builder.save([builder.transformer("modernbert"), *layers, MultiVectorMask()])


def pylate(builder: FolderBuilder, markers: bool = False, added: bool = False, **settings: Any) -> None:
    """As PyLate writes a folder: two modules, and all else in the settings."""
    _runs(builder)
    builder.save([builder.transformer("bert"), _dense(builder, module_input_name=_TOKENS)])
    rows = ("sentence_transformers.models.Transformer", "pylate.models.Dense.Dense")
    edit_json(
        builder.folder / "modules.json",
        lambda listed: [{**row, "type": path} for row, path in zip(listed, rows, strict=True)],
    )
    edit_json(builder.folder / "sentence_bert_config.json", lambda _: {"max_seq_length": 63, "do_lower_case": False})
    names = ("in_features", "out_features", "bias", "activation_function")
    edit_json(builder.folder / "1_Dense" / "config.json", lambda config: {name: config[name] for name in names})
    if markers:
        _unused(builder)
    if added:
        _added(builder, [settings["query_prefix"], settings["document_prefix"]])
    write_json(
        builder.folder / "config_sentence_transformers.json",
        {
            "__version__": {"sentence_transformers": "5.1.1", "transformers": "4.56.2", "pytorch": "2.8.0"},
            "prompts": {"query": "", "document": ""},
            "default_prompt_name": None,
            "similarity_fn_name": "MaxSim",
            "model_type": "ColBERT",
            "query_length": 12,
            "document_length": 40,
            "attend_to_expansion_tokens": False,
            "skiplist_words": _PUNCTUATION,
            "do_query_expansion": True,
            **settings,
        },
    )


def _added(builder: FolderBuilder, prefixes: list[str]) -> None:
    """As PyLate trains by default: its prefixes, a space behind each, are tokens of their own."""
    tokenizer = AutoTokenizer.from_pretrained(builder.folder)
    tokenizer.add_tokens(prefixes)
    tokenizer.save_pretrained(builder.folder)
    network: Any = AutoModel.from_pretrained(builder.folder)
    network.resize_token_embeddings(len(tokenizer))
    randomize(network, builder.next_seed()).save_pretrained(builder.folder)


def stanford(builder: FolderBuilder, **metadata: Any) -> None:
    """As ColBERT's own library writes a folder: its layer among the network's weights."""
    _runs(builder)
    builder.save_plain(builder.checkpoint("bert"))
    weights = {f"bert.{name}": tensor for name, tensor in load_file(builder.folder / "model.safetensors").items()}
    torch.manual_seed(builder.next_seed())
    weights["linear.weight"] = torch.randn(_WIDTH, HIDDEN) * 0.2
    save_file(weights, builder.folder / "model.safetensors", metadata={"format": "pt"})
    builder.edit("config.json", lambda config: {**config, "architectures": ["HF_ColBERT"]})
    _unused(builder)
    if metadata:
        (builder.folder / "artifact.metadata").write_text(json.dumps(metadata, indent=4), encoding="utf-8")


def _unused(builder: FolderBuilder) -> None:
    """The markers of queries and documents as BERT's vocabulary has them: words that no text is made of."""

    def renamed(tokenizer: dict[str, Any]) -> dict[str, Any]:
        vocab = tokenizer["model"]["vocab"]
        for marker, word in zip(("[unused0]", "[unused1]"), sorted(vocab, key=vocab.get)[-2:], strict=True):
            vocab[marker] = vocab.pop(word)
        return tokenizer

    builder.edit("tokenizer.json", renamed)


_FIXED = {"strategy": "fixed", "attend": False, "length": 12}

CASES: dict[str, Case] = {
    "multi_vector_bert": Case("a vector of every token, queries as they are", native),
    "multi_vector_fixed": Case(
        "queries of a fixed length, by tokens that none attends to, and skip words",
        partial(native, query_expansion=_FIXED, document_length=40, mask={"skiplist_words": [*_PUNCTUATION, "zzzz"]}),
    ),
    "multi_vector_attends": Case(
        "queries of a least length, by tokens that all attend to, and limits of both",
        partial(native, query_expansion={"strategy": "min", "attend": True, "length": 10}, query_length=20),
    ),
    "multi_vector_modernbert": Case(
        "rotary positions and windows, queries of a least length, another token, a prompt of each",
        partial(
            native,
            kind="modernbert",
            query_expansion={"strategy": "min", "attend": False, "token": "[SEP]", "length": 6},
            settings={"prompts": {"query": "query: ", "document": "passage: "}, "similarity_fn_name": "meanmaxsim"},
        ),
    ),
    "multi_vector_xlmr": Case(
        "positions with an offset, and skip words of all texts",
        partial(
            native,
            kind="xlmr",
            checkpoint={"model_max_length": 62},
            query_expansion=_FIXED,
            mask={"skiplist_words": [".", ",", "\u2581the"], "skiplist_tasks": ["query", "document"]},
        ),
    ),
    "multi_vector_kept_ids": Case(
        "some tokens alone of what is no query",
        partial(native, mask={"keep_only_token_ids": [2, 3, *range(20, 120)]}),
    ),
    "multi_vector_pooled": Case(
        "fewer vectors of a document, of length 1", partial(native, pooling={"pool_factor": 2.0})
    ),
    "multi_vector_pooled_all": Case(
        "fewer vectors of all texts, a part of a vector each, two of them as they are",
        partial(
            native,
            pooling={
                "pool_factor": 1.5,
                "num_protected_tokens": 2,
                "normalize_embeddings": False,
                "tasks": ["query", "document"],
            },
        ),
    ),
    "multi_vector_qwen": Case("a causal network", partial(native, kind="qwen", document_length=30)),
    "multi_vector_residual": Case("two layers of each token, one with its input added", residual),
    "multi_vector_pylate": Case(
        "PyLate's folder, its prefixes text", partial(pylate, query_prefix="[Q] ", document_prefix="[D] ")
    ),
    "multi_vector_pylate_added": Case(
        "PyLate's folder, its prefixes tokens of their own",
        partial(pylate, added=True, query_prefix="[Q] ", document_prefix="[D] "),
    ),
    "multi_vector_pylate_markers": Case(
        "PyLate's folder, whose prefixes are words of the vocabulary, without queries made longer",
        partial(
            pylate,
            markers=True,
            query_prefix="[unused0]",
            document_prefix="[unused1]",
            do_query_expansion=False,
            skiplist_words=[],
            prompts={"query": "find ", "document": ""},
        ),
    ),
    "multi_vector_pylate_attends": Case(
        "PyLate's folder with as little as may be stored",
        partial(pylate, query_prefix=None, attend_to_expansion_tokens=True, skiplist_words=None),
    ),
    "multi_vector_stanford": Case(
        "ColBERT's own folder",
        partial(
            stanford,
            query_maxlen=16,
            doc_maxlen=40,
            query_token_id="[unused0]",
            doc_token_id="[unused1]",
            attend_to_mask_tokens=False,
            mask_punctuation=True,
        ),
    ),
    "multi_vector_stanford_bare": Case("the same without its metadata", stanford),
}
