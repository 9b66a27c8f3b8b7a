"""Rotary frequencies that change with the length of a text: a graph holds those of short texts."""

from __future__ import annotations

from typing import Any

from torch import nn

# How transformers calls frequencies that it leaves alone.
_FIXED = "default"


def freeze_frequencies(network: nn.Module, limit: int | None) -> str:
    """Keeps a network's rotary frequencies as they are for texts of up to `limit` tokens, where that is all there is.

    `dynamic` frequencies change beyond the length the network was trained on, `longrope` takes a second set of them
    there. Both are computed anew from the longest row of a batch, which no graph can do.

    Args:
        network: as loaded, before it has run: its frequencies are those of short texts.
        limit: most tokens of a row; None for no limit.

    Returns:
        why its frequencies do change within the limit, with the remedy; empty where they do not.
    """
    for module in network.modules():
        kinds = getattr(module, "rope_type", None)
        for layers, kind in (kinds if isinstance(kinds, dict) else {None: kinds}).items():
            if not isinstance(kind, str) or not ("dynamic" in kind or kind == "longrope"):
                continue
            change = _last_length(module, kind, layers)
            if limit is None or limit > change:
                shown = "there is no limit" if limit is None else f"the limit is {limit}"
                return (
                    f"its rotary frequencies (rope_type {kind}) change in texts of more than {change} tokens, and "
                    f"{shown}: set max_seq_length in its sentence_bert_config.json to {change} or less"
                )
            if isinstance(kinds, dict):
                kinds[layers] = _FIXED
            else:
                setattr(module, "rope_type", _FIXED)  # noqa: B010 # a Module's attributes are tensors to mypy
    return ""


def _last_length(module: nn.Module, kind: str, layers: str | None) -> int:
    """The longest row that has the frequencies of short texts."""
    config: Any = module.config
    if kind == "longrope":
        parameters = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
        parameters = parameters.get(layers, parameters) if layers is not None else parameters
        own = getattr(config, "original_max_position_embeddings", None)
        return int(parameters.get("original_max_position_embeddings") or own or config.max_position_embeddings)
    cached: Any = getattr(module, f"{layers}_max_seq_len_cached", None) or module.max_seq_len_cached
    return int(cached)
