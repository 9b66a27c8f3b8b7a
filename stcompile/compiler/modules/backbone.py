"""Loading the transformers network of a Transformer module: base architecture, no head, eager attention."""

from __future__ import annotations

import contextlib
import importlib
import logging
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.utils import logging as transformers_logging

from stcompile.compiler.kinds.transformer import CLASSIFIES, FILLS, GENERATES
from stcompile.errors import ModelFolderError, UnsupportedError, one_line

# model_type -> where the encoder-only class lives: of these encoder-decoder families sentence-transformers
# loads the encoder alone (module-stack spec, section 4.2).
_ENCODERS = {
    "t5": ("transformers", "T5EncoderModel"),
    "mt5": ("transformers", "MT5EncoderModel"),
    "umt5": ("transformers", "UMT5EncoderModel"),
    "longt5": ("transformers", "LongT5EncoderModel"),
    "switch_transformers": ("transformers", "SwitchTransformersEncoderModel"),
    "t5gemma": ("transformers", "T5GemmaEncoderModel"),
    "prophetnet": ("transformers.models.prophetnet.modeling_prophetnet", "ProphetNetEncoder"),
    "blenderbot": ("transformers.models.blenderbot.modeling_blenderbot", "BlenderbotEncoder"),
    "blenderbot-small": ("transformers.models.blenderbot_small.modeling_blenderbot_small", "BlenderbotSmallEncoder"),
    "m2m_100": ("transformers.models.m2m_100.modeling_m2m_100", "M2M100Encoder"),
    "pegasus": ("transformers.models.pegasus.modeling_pegasus", "PegasusEncoder"),
    "pegasus_x": ("transformers.models.pegasus_x.modeling_pegasus_x", "PegasusXEncoder"),
    "marian": ("transformers.models.marian.modeling_marian", "MarianEncoder"),
}

# What a network with a head is loaded as, by its task; any other as its base.
_WITH_HEAD = {
    CLASSIFIES: AutoModelForSequenceClassification,
    GENERATES: AutoModelForCausalLM,
    FILLS: AutoModelForMaskedLM,
}

# What transformers calls the side that reads text, of a network that reads images or sound too.
_TEXT_SIDES = ("text_model", "language_model")

_POSITION_TABLES = ("position_embeddings", "position_embedding", "wpe", "embed_positions")

# Arguments a folder may ask for that would change what is loaded, or how: stcompile decides these.
_OURS = ("trust_remote_code", "attn_implementation", "torch_dtype", "dtype", "device_map", "quantization_config")


@contextlib.contextmanager
def silenced(names: Iterable[str]) -> Iterator[None]:
    """Lets loggers of other libraries, and warnings, say nothing within the block."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silences transformers' loading chatter; what matters is raised as our own error."""
    level = transformers_logging.get_verbosity()
    bars = getattr(transformers_logging, "is_progress_bar_enabled", lambda: True)()
    transformers_logging.set_verbosity(logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


def load_config(source: str, *, trust_remote_code: bool, **options: Any) -> PretrainedConfig:
    """The network's configuration.

    Raises:
        ModelFolderError: there is none, or it is not readable.
        UnsupportedError: it needs code of the folder, or an architecture this transformers does not know.
    """
    try:
        return AutoConfig.from_pretrained(source, trust_remote_code=trust_remote_code, **_without_ours(options))
    except (ValueError, KeyError) as error:
        text = one_line(error, None)
        if "trust_remote_code" in text:
            raise UnsupportedError(
                source, "its network runs code from the folder: pass trust_remote_code=True if you trust it"
            ) from error
        raise UnsupportedError(source, f"this transformers release cannot read its config.json: {text}") from error
    except Exception as error:  # the hub's and transformers' own validators raise their own kinds
        raise ModelFolderError(f"{source} has no readable config.json: {_first_sentence(error)}") from error


def load_network(
    source: str, config: PretrainedConfig, *, task: str, needs_pooler: bool, trust_remote_code: bool, **options: Any
) -> PreTrainedModel:
    """The network in float32, in evaluation mode, with eager attention (the one path that traces everywhere).

    With the head of its task, one of `kinds.transformer.TASKS`.

    A pooler is the one part that base checkpoints may lack: where it is not needed, it is zero instead of random.

    Raises:
        ModelFolderError: the weights are missing, truncated or of another shape.
    """
    kind = _WITH_HEAD.get(task) or _network_class(config)
    is_auto = kind is AutoModel or task in _WITH_HEAD
    try:
        loaded = kind.from_pretrained(
            source,
            config=config,
            attn_implementation="eager",
            output_loading_info=True,
            **({"trust_remote_code": trust_remote_code} if is_auto else {}),
            **_without_ours(options),
        )
    except UnsupportedError:
        raise
    except Exception as error:  # transformers lets safetensors', pickle's and its own errors through
        raise ModelFolderError(
            f"the network's weights in {source} cannot be loaded ({_first_sentence(error)}): copy the model again"
        ) from error
    # A network with a from_pretrained of its own may give itself alone, and checks its weights or does not.
    network, report = loaded if isinstance(loaded, tuple) else (loaded, {"missing_keys": []})
    missing = sorted(name for name in report["missing_keys"] if needs_pooler or "pooler" not in name)
    there = report.get("unexpected_keys", ())
    if not is_auto and any(name.endswith(f"encoder.{lacking}") for name in there for lacking in missing):
        raise UnsupportedError(
            source,
            f"of a {config.model_type} sentence-transformers loads the encoder alone, and does not find its "
            "weights in those of the whole network, so that it begins with random ones: save the encoder alone "
            "(AutoModel.from_pretrained(folder).get_encoder()) in its place",
        )
    if missing:
        shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise ModelFolderError(f"the weights in {source} lack {shown}: the model is incomplete, copy it again")
    with torch.no_grad():
        for name in report["missing_keys"]:
            network.get_parameter(name).zero_()
    return network.to(torch.float32).eval()


def usable_positions(network: nn.Module) -> int | None:
    """Longest row the network has positions for; None when its positions are not learned.

    RoBERTa-like networks number positions from `padding_idx + 1`, so they have two fewer than
    `max_position_embeddings` says (module-stack spec, section 5.2).
    """
    for name, module in text_side(network).named_modules():
        if name.rpartition(".")[2] in _POSITION_TABLES and isinstance(module, nn.Embedding):
            # BART-like tables say how many rows they reserve.
            reserved = getattr(module, "offset", 0 if module.padding_idx is None else module.padding_idx + 1)
            return int(module.num_embeddings) - int(reserved)
    return None


def text_side(network: nn.Module) -> Any:
    """What reads text, of a network with several sides; of others the network itself."""
    sides = (getattr(network, name, None) for name in _TEXT_SIDES)
    return next((side for side in sides if isinstance(side, nn.Module)), network)


def _network_class(config: PretrainedConfig) -> Any:
    home = _ENCODERS.get(config.model_type)
    if home is None:
        return AutoModel
    if config.model_type == "t5gemma":
        config.is_encoder_decoder = False
    return getattr(importlib.import_module(home[0]), home[1])


def _without_ours(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in _OURS}


def _first_sentence(error: BaseException) -> str:
    return one_line(error, None).partition(". ")[0][:300]
