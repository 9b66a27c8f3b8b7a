"""Which golden models every run of the tests compiles; `make test-all` compiles the others too.

What a model costs is its trace, so that one of each step is compiled often, and each in all of its tests. Of the others
`make test` reads the folder and compares the vectors of its modules in torch, a tenth of a second each.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

import pytest

# One of each family of networks that a pass or an operator treats in its own way: absolute, relative and rotary
# positions, gates, windows, grouped queries, norms before and behind; in sizes that kernels take as they are, and not.
_NETWORKS = (
    *("wide_bert", "wide_bert_cls", "wide_bert_tokens", "wide_mpnet"),
    *("backbone_modernbert", "backbone_qwen3_lasttoken", "backbone_gemma3_windows", "backbone_t5"),
)

# One of each module and option that becomes nodes of a graph, several at once where that is possible.
_MODULES = (
    *("full_stack", "cnn_over_transformer", "weighted_layer_pooling", "custom_module", "clip_text", "text_pairs"),
    *("pool_mean", "pool_mean_with_prompt", "pool_concat_all"),
    *("postprocessing", "postprocessing_leftpad_tokens"),
    "router_first_static_query",
    *("reranker_bert", "reranker_bert_classes"),
    *("sparse_splade", "sparse_csr", "sparse_static", "sparse_router"),
    *("multi_vector_fixed", "multi_vector_pooled", "multi_vector_residual"),
)

# What has no transformer in it is traced in a moment.
_SMALL = (
    *("static", "static_dense", "static_normalize", "model2vec_plain", "bow_binary", "bow_dense_normalize"),
    *("wordemb_mean", "wordemb_cnn", "wordemb_lstm_bi", "wordemb_wordweights_mean", "wordemb_lower_nostop_max"),
    "wordemb_transformers_tokenizer",
)

COMPILED_OFTEN = frozenset((*_NETWORKS, *_MODULES, *_SMALL))

# Of the tiny networks that tests of passes trace themselves.
TRACED_OFTEN = frozenset(("bert", "mpnet", "modernbert"))


def marked(names: Iterable[str], some: Container[str], mark: pytest.MarkDecorator) -> list[Any]:
    """Names for `parametrize`, some of them marked."""
    return [pytest.param(name, marks=mark) if name in some else name for name in names]
