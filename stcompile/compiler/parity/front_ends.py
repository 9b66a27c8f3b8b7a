"""What the runtime makes of texts, against what the model's own tokenizer makes of them: number by number."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

import numpy as np

from stcompile.artifact import scratch
from stcompile.artifact.manifest import TextSpec
from stcompile.compiler.modules import Transformer
from stcompile.compiler.parity.probes import probe_texts, shortened
from stcompile.compiler.stack.route import Route
from stcompile.errors import UnsupportedError
from stcompile.runtime.route import FRONT_ENDS
from stcompile.runtime.text.base import Text, TextFrontEnd

# Texts of one batch, and special tokens that are quoted.
_BATCH, _QUOTED = 32, 64


def check_front_ends(
    routes: Mapping[str, Route], specs: Mapping[str, TextSpec], files: Mapping[str, str], prompts: Mapping[str, str]
) -> None:
    """Compares the inputs of each route's graph, before minutes of work are put into it.

    The texts are those of parity, some with each prompt, and every special token quoted in one: what a tokenizer does
    with these at call time is in no file of the `tokenizers` library. `specs` and `files` are what `front_ends` gives.

    Raises:
        UnsupportedError: they differ for some text.
    """
    with scratch("texts") as folder:
        for name, content in files.items():
            (folder / name).write_text(content, encoding="utf-8")
        for name, route in routes.items():
            # More padding than the model's own tokenizer makes is the engine's affair.
            _compare(route, folder, dataclasses.replace(specs[name], length_multiple=1), prompts)


def _compare(route: Route, folder: Path, spec: TextSpec, prompts: Mapping[str, str]) -> None:
    front = FRONT_ENDS[spec.kind](folder, spec, route.input_names)
    quoted = _quoting(route)
    texts: list[Text] = [*quoted, *probe_texts(), *route.front.probe_texts()]
    few: list[Text] = [*quoted[:3], *probe_texts()[:3]]
    pairs: list[Text] = [(str(left), str(right)) for left, right in zip(few, few[::-1], strict=True)]
    if route.front.wants_pairs:
        texts, few = [(str(left), str(right)) for left, right in zip(texts, texts[::-1], strict=True)], pairs
    batches: list[tuple[list[Text], str]] = [
        (texts[start : start + _BATCH], "") for start in range(0, len(texts), _BATCH)
    ]
    batches += [(few, prompt) for prompt in dict.fromkeys(filter(None, prompts.values()))]
    if front.takes_pairs and front.has_room_for_pairs:
        batches.append((pairs, ""))
    for batch, prompt in batches:
        expected = route.feeds(batch, prompt)
        found = front.collate(front.tokenize(batch, prompt), prompt)
        if all(np.array_equal(found[name], expected[name]) for name in route.input_names):
            continue
        raise UnsupportedError(route.name, _differ(route, front, batch, prompt))


def _differ(route: Route, front: TextFrontEnd, batch: list[Text], prompt: str) -> str:
    for text in batch:
        expected, found = route.feeds([text], prompt), front.collate(front.tokenize([text], prompt), prompt)
        for name in route.input_names:
            if not np.array_equal(found[name], expected[name]):
                shown = shortened(text if isinstance(text, str) else " | ".join(text))
                return (
                    f"of the text {shown!r} its tokenizer makes other {name} than the tokenizers library alone "
                    f"({expected[name].ravel()[:12].tolist()} and {found[name].ravel()[:12].tolist()}): remove from "
                    "tokenizer_config.json what tokenizer.json does not hold"
                )
    return "its tokenizer pads a batch in another way than the runtime: set padding_side and the padding token"


def _quoting(route: Route) -> list[str]:
    """Texts that quote the special and added tokens of a tokenizer, alone and between words."""
    front = route.front
    if not isinstance(front, Transformer):
        return []
    tokens = dict.fromkeys([*front.tokenizer.all_special_tokens, *front.tokenizer.get_added_vocab()])
    return [text for token in islice(tokens, _QUOTED) for text in (token, f"what is {token} for, and x{token}y?")]
