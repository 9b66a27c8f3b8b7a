"""The table of groups: a new group is a file with `CASES`, and a line here."""

from __future__ import annotations

from golden.generate.case import Case
from golden.generate.cases import (
    after_pooling,
    backbones,
    bags,
    chat_templates,
    clip,
    convolutions,
    custom,
    dense,
    hybrid,
    layers,
    legacy,
    multi_vectors,
    plain,
    pooling,
    postprocessing,
    prompts,
    recurrent,
    rerankers,
    routers,
    sparse,
    static_models,
    transformer_options,
    wide,
    word_models,
)

GROUPS: dict[str, dict[str, Case]] = {
    "pooling": pooling.CASES,
    "prompts": prompts.CASES,
    "legacy": legacy.CASES,
    "transformer options": transformer_options.CASES,
    "chat templates": chat_templates.CASES,
    "backbones": backbones.CASES,
    "wide": wide.CASES,
    "plain": plain.CASES,
    "dense": dense.CASES,
    "after pooling": after_pooling.CASES,
    "postprocessing": postprocessing.CASES,
    "static models": static_models.CASES,
    "word models": word_models.CASES,
    "convolutions": convolutions.CASES,
    "recurrent": recurrent.CASES,
    "bags": bags.CASES,
    "layers": layers.CASES,
    "routers": routers.CASES,
    "clip": clip.CASES,
    "custom": custom.CASES,
    "rerankers": rerankers.CASES,
    "sparse": sparse.CASES,
    "multi-vectors": multi_vectors.CASES,
    "hybrid": hybrid.CASES,
}


def all_cases() -> dict[str, Case]:
    """Every case of every group by its name, which no other group may use."""
    cases: dict[str, Case] = {}
    for group, members in GROUPS.items():
        if taken := cases.keys() & members.keys():
            raise ValueError(f"The group '{group}' reuses the names {sorted(taken)}.")
        cases.update(members)
    return cases
