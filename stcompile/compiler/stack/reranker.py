"""What makes a folder a reranker's, and the activation of its scores (module-stack spec, section 14)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stcompile.artifact.manifest import SCORES
from stcompile.compiler.kinds import scores
from stcompile.compiler.kinds.base import ModuleEntry
from stcompile.compiler.kinds.folder import Folder, join
from stcompile.compiler.kinds.transformer import CLASSIFIES, classifies

# How sentence-transformers calls its class in config_sentence_transformers.json.
CROSS_ENCODER = "CrossEncoder"

_SIGMOID, _IDENTITY = "torch.nn.modules.activation.Sigmoid", "torch.nn.modules.linear.Identity"


def is_reranker(settings: Mapping[str, Any], network: Mapping[str, Any] | None) -> bool:
    """Whether a folder is a CrossEncoder's.

    Args:
        settings: config_sentence_transformers.json.
        network: config.json of the root; None where there is a modules.json, which says what there is.
    """
    return settings.get("model_type") == CROSS_ENCODER or (network is not None and classifies(dict(network)))


def scores_of(
    folder: Folder, settings: Mapping[str, Any], entries: Sequence[ModuleEntry], reasons: list[str]
) -> ModuleEntry:
    """The module behind all that the folder lists: the activation that `predict` applies, where it is stored.

    The newest place wins: since 5.4 config_sentence_transformers.json, since 4.0 config.json below
    `sentence_transformers`, before that a key of its own; without any Sigmoid for one label, Identity for more.

    Args:
        folder: the model.
        settings: config_sentence_transformers.json.
        entries: the modules that it lists.
        reasons: what cannot be compiled is added to these.
    """
    networks = [entry for entry in entries if entry.kind.name == "Transformer"]
    network = folder.json_object(join(networks[0].path, "config.json"), finite=False) if networks else {}
    newer, path = network.get("sentence_transformers"), settings.get("activation_fn")
    if path is None and isinstance(newer, dict) and "activation_fn" in newer:
        path = newer["activation_fn"]
    elif path is None:
        path = network.get("sbert_ce_default_activation_function")
    if path is None:
        path = _SIGMOID if _labels(entries, network) == 1 else _IDENTITY
    config = {"activation_fn": path}
    reasons += scores.KIND.problems(config)
    return ModuleEntry(len(entries), scores.KIND, "", config)


def _labels(entries: Sequence[ModuleEntry], network: Mapping[str, Any]) -> int:
    """How many scores a pair has, read from the last module backwards, as sentence-transformers does."""
    for entry in reversed(entries):
        if entry.kind.name == "Dense" and entry.config.get("module_output_name") == SCORES:
            width = entry.config.get("out_features")
            return width if isinstance(width, int) else 1
        if entry.kind.name == "Transformer":
            names = network.get("id2label")
            count = network.get("num_labels", len(names) if isinstance(names, dict) else 2)
            return count if isinstance(count, int) and entry.config.get("transformer_task") == CLASSIFIES else 1
        if entry.kind.name == "LogitScore":
            return 1
    return 1
