"""What a model of the model2vec library becomes: a tokenizer, and a table with one row per token id."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from stcompile.compiler import hub
from stcompile.compiler.modules.tables import as_table
from stcompile.errors import InputError, one_line
from stcompile.extras import require
from stcompile.runtime.arguments import local_path

# All that `StaticEmbedding` reads of a model2vec folder.
_FILES = ("tokenizer.json", "model.safetensors")


def fold_state(state: Mapping[str, Tensor]) -> Tensor:
    """The table of a model2vec `model.safetensors`: `embeddings[mapping] * weights` (module-stack spec, section 10).

    Args:
        state: `embeddings` `(rows, dim)` of any number type; `mapping` `(vocabulary,)`, the row of each token, where
            several share one; `weights` `(vocabulary,)`.

    Returns:
        float32 `(vocabulary, dim)`.

    Raises:
        InputError: no `embeddings`, or the three do not fit each other.
    """
    if "embeddings" not in state:
        raise InputError(
            f"no tensor is called embedding.weight or embeddings, only {', '.join(sorted(state)) or 'none'}"
        )
    return fold(state["embeddings"], state.get("mapping"), state.get("weights"))


def fold(table: Tensor, mapping: Tensor | None, weights: Tensor | None) -> Tensor:
    """As `fold_state`, of single tensors.

    Raises:
        InputError: they do not fit each other.
    """
    table = as_table(table, "model2vec")
    if mapping is not None:
        rows = mapping.long()
        if rows.dim() != 1 or (len(rows) and (int(rows.min()) < 0 or int(rows.max()) >= len(table))):
            raise InputError(f"its mapping does not fit its {len(table)} embeddings")
        table = table[rows]
    if weights is not None:
        if weights.shape != table.shape[:1]:
            raise InputError(f"its weights are {tuple(weights.shape)} for {len(table)} tokens")
        table = table * weights[:, None]
    return table.float()


def fetched(model_id_or_path: str | Path) -> Path:
    """The folder of a model2vec model, fetched where it is a hub id.

    Raises:
        ModelFolderError: there is no such folder, and the hub does not have it or cannot be reached.
    """
    folder = local_path(model_id_or_path)
    return folder if folder.is_dir() else hub.download(str(model_id_or_path), _FILES)[0]


def distill(model_name: str, given: Mapping[str, Any], defaults: Mapping[str, Any]) -> tuple[Tokenizer, Tensor]:
    """Runs model2vec's `distill`.

    Args:
        model_name: folder or hub id of the network to distill.
        given: arguments of `distill`.
        defaults: what some of them are by default; the installed model2vec may lack those that were not changed.

    Returns:
        the tokenizer, and its float32 table `(vocabulary, dim)`.

    Raises:
        MissingExtraError: model2vec is not installed.
        InputError: an argument the installed model2vec does not know, or it cannot distill the model.
    """
    library = require("model2vec.distill", "Distilling a StaticEmbedding", extra="static")
    known = set(inspect.signature(library.distill).parameters)
    unchanged = {name for name, default in defaults.items() if given[name] == default}
    refused = [name for name in given if name not in known | unchanged]
    if refused:
        raise InputError(
            f"the installed model2vec has no {', '.join(refused)}: leave it out, or install another release"
        )
    arguments = {name: value for name, value in given.items() if name in known}
    try:
        model = library.distill(model_name, **arguments)
    except Exception as error:  # of model2vec, transformers or scikit-learn
        raise InputError(f"model2vec cannot distill {model_name} ({one_line(error)})") from error
    return model.tokenizer, table_of(model)


def table_of(model: Any) -> Tensor:
    """The float32 table `(vocabulary, dim)` of model2vec's own StaticModel."""
    parts = (getattr(model, name, None) for name in ("token_mapping", "weights"))
    mapping, weights = (None if part is None else torch.from_numpy(np.asarray(part)) for part in parts)
    return fold(torch.from_numpy(np.asarray(model.embedding)), mapping, weights)
