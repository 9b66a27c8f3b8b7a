"""Prompts: which one applies, and what pooling leaves out of it."""

from __future__ import annotations

from functools import partial

from golden.generate.builder import FolderBuilder
from golden.generate.case import Case
from golden.generate.inputs import LONG_PROMPT, PROMPTS

MODES = ("mean", "cls", "max", "weightedmean", "lasttoken", "mean_sqrt_len_tokens")


def included(builder: FolderBuilder) -> None:
    """Every way to name a prompt."""
    builder.save([builder.transformer(), builder.pooling()], prompts=PROMPTS)
    builder.run(prompt_name="query")
    builder.run("none")
    builder.run("explicit", prompt="search  ")
    builder.run("encode_query", method="encode_query")
    builder.run("encode_document", method="encode_document")


def default_name(builder: FolderBuilder) -> None:
    """A default prompt, and the ways around it."""
    prompts = {"title": "title: ", "query": ""}
    builder.save([builder.transformer(), builder.pooling()], prompts=prompts, default_prompt_name="title")
    builder.run()
    builder.run("encode_query", method="encode_query")
    builder.run("encode_document", method="encode_document")
    builder.run("empty", prompt="")


def excluded(builder: FolderBuilder, mode: str, kind: str = "bert") -> None:
    """Pooling that skips the prompt, with a long prompt, a short one and none."""
    stack = [builder.transformer(kind), builder.pooling(mode, include_prompt=False)]
    builder.save(stack, prompts=PROMPTS)
    builder.run(prompt_name="query")
    builder.run("bare", prompt_name="bare")
    builder.run("none")


def filled_window(builder: FolderBuilder, mode: str | tuple[str, ...], kind: str = "bert") -> None:
    """Pooling that skips a prompt that fills the window by itself."""
    stack = [builder.transformer(kind), builder.pooling(mode, include_prompt=False)]
    builder.save(stack, prompts=LONG_PROMPT)
    builder.run(prompt_name="long")


CASES: dict[str, Case] = {
    "pool_mean_with_prompt": Case("prompts stored in the folder, include_prompt true: the prompt is pooled", included),
    "prompt_default_name": Case(
        "default_prompt_name applies to encode but not to encode_query and encode_document", default_name
    ),
    **{
        f"pool_{mode}_exclude_prompt": Case(
            f"Pooling {mode} with include_prompt false and a prompt", partial(excluded, mode=mode)
        )
        for mode in MODES
    },
    "pool_mean_exclude_prompt_leftpad": Case(
        "include_prompt false, mean, left padding", partial(excluded, mode="mean", kind="qwen")
    ),
    "pool_cls_exclude_prompt_leftpad": Case(
        "include_prompt false, cls, left padding", partial(excluded, mode="cls", kind="qwen")
    ),
    "pool_weightedmean_exclude_prompt_leftpad": Case(
        "include_prompt false, weightedmean, left padding",
        partial(excluded, mode="weightedmean", kind="qwen"),
    ),
    "pool_mean_exclude_prompt_no_special": Case(
        "include_prompt false, a tokenizer that adds nothing: nothing is taken off the prompt length",
        partial(excluded, mode="mean", kind="qwen_noeos"),
    ),
    "pool_prompt_longer_than_max": Case(
        "the prompt fills the window: only the trailing special token is left",
        partial(filled_window, mode=("mean", "cls", "max", "weightedmean", "lasttoken")),
    ),
    "pool_all_masked": Case(
        "the prompt fills the window and no special token follows: every position is excluded",
        partial(
            filled_window,
            mode=("mean", "cls", "weightedmean", "lasttoken", "mean_sqrt_len_tokens"),
            kind="qwen_noeos",
        ),
    ),
    "pool_max_all_masked": Case(
        "max pooling when every position is excluded: minus infinity",
        partial(filled_window, mode="max", kind="qwen_noeos"),
    ),
}
