"""Encodes the inputs with the loaded folder and writes what came out."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import sentence_transformers
import tokenizers
import torch
import transformers
from PIL import Image

from golden.generate.builder import FolderBuilder, Run
from golden.generate.files import write_json
from golden.generate.images import PICTURES, write_images
from golden.generate.inputs import INPUTS, Input

Array = npt.NDArray[Any]

# Where the pictures of the runs of images are.
IMAGES = Path(__file__).resolve().parents[1] / "images"

# What a run's `activation_fn` names.
_ACTIVATIONS = {"identity": torch.nn.Identity(), "sigmoid": torch.nn.Sigmoid()}

VERSIONS = {
    "sentence_transformers": sentence_transformers.__version__,
    "transformers": transformers.__version__,
    "torch": torch.__version__,
    "tokenizers": tokenizers.__version__,
    "numpy": np.__version__,
}


@dataclass(frozen=True)
class Output:
    """Rows of a run; a ragged run has several per input, and the offset each input starts at."""

    rows: Array
    offsets: Array | None = None


def _numpy(value: Any) -> Array:
    if isinstance(value, torch.Tensor):
        value = value.to_dense() if value.is_sparse else value
        value = value.float() if value.is_floating_point() else value
        value = value.numpy()
    array = np.asarray(value)
    return array.astype(np.float32) if array.dtype.kind == "f" else array


def _call(model: Any, run: Run, inputs: list[Any]) -> Output:
    given = inputs if run.key is None else [{run.key: text} for text in inputs]
    kwargs = dict(run.kwargs)
    if "activation_fn" in kwargs:
        kwargs["activation_fn"] = _ACTIVATIONS[kwargs["activation_fn"]]
    result = getattr(model, run.method)(given, show_progress_bar=False, **kwargs)
    if not run.ragged:
        return Output(_numpy(result))
    pieces = [_numpy(piece) for piece in result]
    offsets = np.cumsum([0, *(len(piece) for piece in pieces)]).astype(np.int64)
    return Output(np.concatenate(pieces), offsets)


def _token_ids(features: dict[str, Any]) -> list[int]:
    """The ids of a batch of one text, without the position that word models put in place of no words at all."""
    ids: torch.Tensor = features["input_ids"]
    if "attention_mask" in features:
        ids = ids[features["attention_mask"].bool()]
    result: list[int] = ids.flatten().tolist()
    return result


def _call_one_by_one(model: Any, run: Run, inputs: list[Any]) -> tuple[list[Array | None], list[list[int]]]:
    """The rows of every input encoded alone, None where that fails, and the token ids the model was given.

    A model that counts words is not given any ids.

    Integer precisions need several vectors to find their ranges, so these rows are floats whatever the run.
    """
    floats = replace(run, kwargs={key: value for key, value in run.kwargs.items() if key != "precision"})
    rows: list[Array | None] = []
    ids: list[list[int]] = []
    preprocess = model.preprocess

    def spy(*args: Any, **kwargs: Any) -> Any:
        features = preprocess(*args, **kwargs)
        if "input_ids" in features:
            ids.append(_token_ids(features))
        return features

    model.preprocess = spy
    try:
        for text in inputs:
            try:
                rows.append(_call(model, floats, [text]).rows)
            except RuntimeError:
                # Some decoders cannot take a text without any token, unless a longer one shares its batch.
                rows.append(None)
    finally:
        del model.preprocess
    return rows, ids


def _largest_difference(output: Output, alone: list[Array | None]) -> float | None:
    """Between the rows of a batch and those of its inputs alone; None if they differ in number."""
    offsets = np.arange(len(alone) + 1) if output.offsets is None else output.offsets
    largest = 0.0
    for i, single in enumerate(alone):
        if single is None:
            continue
        rows = output.rows[offsets[i] : offsets[i + 1]]
        if rows.shape != single.shape:
            return None
        with np.errstate(invalid="ignore"):
            difference = np.abs(rows.astype(np.float64) - single.astype(np.float64))
        # Two equal infinities do not differ.
        largest = max(largest, float(np.where(rows == single, 0.0, difference).max(initial=0.0)))
    return largest


def _record_run(model: Any, run: Run, texts: list[Input], folder: Path) -> tuple[dict[str, Any], list[list[int]]]:
    inputs: list[Any] = texts
    if run.images is not None:
        paths = [str(IMAGES / f"{name}.png") for name in PICTURES]
        inputs = paths if run.images == "paths" else [Image.open(path) for path in paths]
    output = _call(model, run, inputs)
    alone, ids = _call_one_by_one(model, run, inputs)
    entry: dict[str, Any] = {
        "name": run.name,
        "method": run.method,
        "kwargs": run.kwargs,
        "file": f"{run.name}.npy",
        "shape": list(output.rows.shape),
        "dtype": str(output.rows.dtype),
    }
    if run.key is not None:
        entry["key"] = run.key
    if run.images is not None:
        entry["images"] = run.images
    np.save(folder / entry["file"], output.rows)
    if output.offsets is not None:
        entry["offsets"] = f"{run.name}_offsets.npy"
        np.save(folder / entry["offsets"], output.offsets)
    if output.rows.dtype.kind == "f":
        entry["has_nan"] = bool(np.isnan(output.rows).any())
        entry["has_inf"] = bool(np.isinf(output.rows).any())
        entry["batch1_max_abs_diff"] = _largest_difference(output, alone)
        entry["batch1_failing_inputs"] = [i for i, rows in enumerate(alone) if rows is None]
    return entry, ids


def _write_tokens(path: Path, tokens: dict[str, list[list[int]]]) -> None:
    """One line for each input, so that a change shows where it is."""
    blocks = [json.dumps(name) + ": [\n" + ",\n".join(map(json.dumps, rows)) + "\n]" for name, rows in tokens.items()]
    path.write_text("{\n" + ",\n".join(blocks) + "\n}\n", encoding="utf-8")


def load(builder: FolderBuilder) -> Any:
    """The finished folder, or its twin, as a user loads it."""
    folder = builder.twin or builder.folder
    model = getattr(sentence_transformers, builder.kind)(str(folder), device="cpu", **builder.load_kwargs)
    return model.eval()


def _max_seq_length(model: Any) -> int | None:
    """The length limit; null for none, which static models call infinity."""
    limit = model.max_seq_length
    return None if limit is None or math.isinf(limit) else limit


def _parameter_dtype(model: Any) -> str | None:
    """The type the model computes in; null for one without parameters."""
    return next((str(parameter.dtype) for parameter in model.parameters()), None)


def record(builder: FolderBuilder, covers: str, folder: Path) -> None:
    """Write the vectors, the token ids and case.json of a built case."""
    model = load(builder)
    inputs = INPUTS[builder.inputs]
    runs = []
    tokens: dict[str, list[list[int]]] = {}
    for run in builder.runs or [Run("default", "encode", {}, ragged=False)]:
        entry, ids = _record_run(model, run, inputs, folder)
        # Most runs of a case read the same tokens: each list is kept once, under the run that came first.
        if ids:
            entry["tokens"] = next((name for name, known in tokens.items() if known == ids), run.name)
            tokens.setdefault(entry["tokens"], ids)
        runs.append(entry)
    if tokens:
        _write_tokens(folder / "tokens.json", tokens)
    about = {
        "name": builder.name,
        "covers": covers,
        "kind": builder.kind,
        "inputs": f"{builder.inputs}.json",
        "versions": VERSIONS,
        "modules": [type(module).__name__ for module in model.children()],
        "max_seq_length": _max_seq_length(model),
        "parameter_dtype": _parameter_dtype(model),
        "runs": runs,
        "notes": builder.notes,
    }
    if any(run.images is not None for run in builder.runs):
        about["images"] = list(PICTURES)
    if builder.load_kwargs:
        about["load_kwargs"] = builder.load_kwargs
    write_json(folder / "case.json", about)


def write_inputs(folder: Path) -> None:
    """Write the texts and pictures all cases share; texts escaped, since some of their characters are invisible."""
    write_images(IMAGES)
    for name, inputs in INPUTS.items():
        (folder / f"{name}.json").write_text(json.dumps(inputs, indent=1) + "\n", encoding="utf-8")
