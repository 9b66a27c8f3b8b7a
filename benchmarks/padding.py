"""How much of a GPU's arithmetic is padding, which `stcompile export --packed` leaves out?

Counts, and times nothing: the texts are cut and tokenized as an artifact does it and put into the batches that the
runtime makes for a GPU; the multiplications of all rows are divided by those of the rows that hold tokens. A layer is
taken to be a BERT layer: 12 matrices of hidden x hidden for a token, and two products with every token of its row.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import cycle, islice
from typing import Any

from benchmarks._common import (
    add_artifact_option,
    add_model_option,
    add_text_options,
    artifacts,
    machine_facts,
    model_folder,
    parser,
    print_table,
    run,
    text_sets,
    write_json,
)
from stcompile.artifact import Artifact
from stcompile.artifact.manifest import TextSpec
from stcompile.runtime.batching import WINDOW, Limits, by_length
from stcompile.runtime.route import GPU_LENGTH_MULTIPLE, GPU_TOKEN_BUDGET
from stcompile.runtime.text.base import width_of
from stcompile.runtime.text.transformer import TransformerText

TARGETS = ("onnx-fp32",)
SETS = ("short", "mixed", "long")

# Texts of one call, repeated up to it.
CALLS = (64, 512, WINDOW)

_MATRICES = 12


def main() -> int:
    arguments = _arguments()
    sets = text_sets(arguments, SETS, WINDOW)
    model = model_folder(arguments.model)
    results: list[dict[str, Any]] = []
    with artifacts(arguments.artifact, model, TARGETS) as made:
        manifest = made[0].manifest
        spec = replace(manifest.text, length_multiple=GPU_LENGTH_MULTIPLE)
        for name, texts in sets.items():
            lengths = _lengths(made[0], texts)
            for count in CALLS:
                call = list(islice(cycle(lengths), count))
                results.append({"texts": name, "call": count, "ratio": _ratio(call, spec, manifest.dim)})
    rows = [(name, *(f"{row['ratio']:.2f}" for row in results if row["texts"] == name)) for name in sets]
    header = ("texts", *(f"{count} a call" for count in CALLS))
    print_table("multiplications with padding, over those without", header, rows)
    settings = {"model": model.name, "positions": GPU_TOKEN_BUDGET, "multiple": GPU_LENGTH_MULTIPLE}
    write_json(arguments.json, "padding", machine_facts(), settings, results)
    return 0


def _arguments() -> argparse.Namespace:
    made = parser(__doc__, "python -m benchmarks.padding --short short.jsonl --long long.jsonl --json padding.json")
    add_model_option(made)
    add_artifact_option(made, TARGETS)
    add_text_options(made, SETS)
    return made.parse_args()


def _lengths(artifact: Artifact, texts: Sequence[str]) -> list[int]:
    rows = TransformerText(artifact.folder, artifact.manifest.text, ()).tokenize(texts, None)
    return [len(row) for row in rows]


def _ratio(lengths: Sequence[int], spec: TextSpec, hidden: int) -> float:
    """Multiplications of the batches as the runtime pads them, over those of the tokens alone."""
    width = partial(width_of, spec=spec)
    padded = 0
    for batch in by_length(lengths, width, Limits(None, GPU_TOKEN_BUDGET)):
        padded += len(batch) * _multiplications(max(width(lengths[index]) for index in batch), hidden)
    return round(padded / sum(_multiplications(length, hidden) for length in lengths), 3)


def _multiplications(length: int, hidden: int) -> int:
    """Of one text in one layer."""
    return length * hidden * (_MATRICES * hidden + 2 * length)


if __name__ == "__main__":
    run(main)
