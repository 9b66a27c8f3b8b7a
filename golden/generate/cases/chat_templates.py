"""Decoders whose tokenizer has a chat template."""

from __future__ import annotations

from typing import Any

from golden.generate.builder import FolderBuilder
from golden.generate.case import Case
from golden.generate.legacy import as_v3
from golden.generate.tokenizers import CHAT_TEMPLATE


def _chat_transformer(builder: FolderBuilder, arguments: dict[str, Any] | None = None) -> Any:
    return builder.transformer("qwen_noeos", tokenizer={"chat_template": CHAT_TEMPLATE}, arguments=arguments)


def saved(builder: FolderBuilder) -> None:
    stack = [_chat_transformer(builder), builder.pooling("lasttoken")]
    builder.save(stack, prompts={"query": "find it", "document": ""})
    builder.run()
    builder.run("encode_query", method="encode_query")


def generation_prompt(builder: FolderBuilder) -> None:
    processing = {"chat_template": {"add_generation_prompt": True}}
    transformer = _chat_transformer(builder, {"processing_kwargs": processing})
    builder.save([transformer, builder.pooling("lasttoken")])


def legacy_folder(builder: FolderBuilder) -> None:
    builder.save([_chat_transformer(builder), builder.pooling("lasttoken")])
    as_v3(builder)


CASES: dict[str, Case] = {
    "chat_template_saved_by_st": Case(
        "a chat template: texts become user messages, prompts become system messages", saved
    ),
    "chat_template_generation_prompt": Case(
        "add_generation_prompt in processing_kwargs, with truncation: the end of the template is kept",
        generation_prompt,
    ),
    "chat_template_legacy_folder": Case(
        "the same tokenizer in a folder without modality_config: plain text, no template", legacy_folder
    ),
}
