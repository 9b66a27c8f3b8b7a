"""Transformers folders without modules.json, for which the library picks the pooling."""

from __future__ import annotations

from functools import partial
from typing import Any

from golden.generate.builder import FolderBuilder
from golden.generate.case import Case
from golden.generate.tokenizers import CHAT_TEMPLATE


def plain(builder: FolderBuilder, kind: str, **checkpoint: Any) -> None:
    builder.save_plain(builder.checkpoint(kind, **checkpoint))


CASES: dict[str, Case] = {
    "plain_bert": Case("no modules.json: mean pooling", partial(plain, kind="bert")),
    "plain_roberta": Case("no modules.json, positions that start after the padding id", partial(plain, kind="roberta")),
    "plain_qwen3_causal": Case(
        "causal language model without modules.json: last-token pooling",
        partial(plain, kind="qwen", head="causal"),
    ),
    "plain_bert_mlm_arch": Case(
        "masked language model without modules.json: the head is dropped, mean pooling",
        partial(plain, kind="bert", head="mlm"),
    ),
    "plain_chat_template": Case(
        "no modules.json and a tokenizer with a chat template",
        partial(plain, kind="qwen_noeos", head="causal", tokenizer={"chat_template": CHAT_TEMPLATE}),
    ),
}
