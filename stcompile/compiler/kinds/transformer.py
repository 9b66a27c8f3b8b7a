"""Transformer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stcompile.compiler.kinds.base import OLD_PACKAGE, Config, ModuleType
from stcompile.compiler.kinds.folder import Folder, join
from stcompile.compiler.kinds.network_files import network_problems, tokenizer_problems
from stcompile.compiler.kinds.values import is_positive

# Text goes through the network's forward, and its last hidden state is what is made of it.
TEXT_ONLY: dict[str, dict[str, Any]] = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}

# What a network is loaded for, and of each what is made of its text and under which name: as sentence-transformers has
# them (TRANSFORMER_TASK_DEFAULTS).
FEATURES, CLASSIFIES, GENERATES = "feature-extraction", "sequence-classification", "text-generation"
FILLS = "fill-mask"
LOGITS_ONLY: dict[str, dict[str, Any]] = {"text": {"method": "forward", "method_output_name": "logits"}}
TASKS = {
    FEATURES: (TEXT_ONLY, "token_embeddings"),
    CLASSIFIES: (LOGITS_ONLY, "scores"),
    GENERATES: (LOGITS_ONLY, "causal_logits"),
    FILLS: (LOGITS_ONLY, "token_embeddings"),
}

# The methods of a network that read text: its own, and that of CLIP.
_TEXT_METHODS = ("forward", "get_text_features")

# Classes of the first releases that are a Transformer under the name of their network.
_FIRST_NAMES = ("BERT", "RoBERTa", "DistilBERT", "ALBERT", "CamemBERT", "XLMRoBERTa", "XLNet")

# Each of them had a configuration file of its own, and all but that of BERT are gone.
_FIRST_NETWORKS = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")

# How queries are made longer: to exactly so many tokens, or to at least so many.
FIXED, AT_LEAST = "fixed", "min"
STRATEGIES = (FIXED, AT_LEAST)
_EXPANSION = ("strategy", "attend", "token", "length")

# What a folder may pass on to transformers; everything else could read outside the folder or change the code that
# runs. Of the model's arguments stcompile decides those about dtype and attention itself.
_ARGUMENTS = {
    "model_args": {"attn_implementation", "torch_dtype", "dtype", "add_pooling_layer", "low_cpu_mem_usage"},
    "tokenizer_args": {
        *("model_max_length", "padding_side", "truncation_side", "use_fast", "add_bos_token", "add_eos_token"),
        *("add_prefix_space", "do_lower_case", "clean_up_tokenization_spaces"),
    },
    "config_args": {
        *("output_hidden_states", "hidden_dropout_prob", "attention_probs_dropout_prob", "use_cache", "is_decoder"),
        *("is_causal", "use_bidirectional_attention"),
    },
}

_NEW_NAMES = {"model_kwargs": "model_args", "processor_kwargs": "tokenizer_args", "config_kwargs": "config_args"}

# Of `processing_kwargs`, by section.
_PROCESSING = {"text": {"max_length"}, "chat_template": {"add_generation_prompt", "restore_suffix"}}


def with_new_names(config: Config) -> Config:
    """The configuration with one name for each key, and without a say in whether code of the folder may run."""
    result = {_NEW_NAMES.get(key, key): value for key, value in config.items()}
    for key in _ARGUMENTS:
        if isinstance(result.get(key), dict):
            result[key] = {name: value for name, value in result[key].items() if name != "trust_remote_code"}
    return result


def _normalized(config: Config) -> Config:
    # A saved folder without the keys predates modalities: plain text, whatever the tokenizer's template.
    modalities, name = TASKS.get(str(config.get("transformer_task", FEATURES)), TASKS[FEATURES])
    return with_new_names({"modality_config": modalities, "module_output_name": name, **config})


def _problems(config: Config) -> Iterator[str]:
    task = config.get("transformer_task", FEATURES)
    if not isinstance(task, str) or task not in TASKS:
        yield f"its transformer_task is {task}: stcompile compiles {', '.join(TASKS)}"
    limit = config.get("max_seq_length")
    for key in ("query_length", "document_length"):
        if config.get(key) is not None and not is_positive(config[key]):
            yield f"its {key} is {config[key]!r}: it must be a positive whole number or null"
    yield from expansion_problems(config)
    yield from _modality_problems(config.get("modality_config"))
    yield from _processing_problems(config.get("processing_kwargs"))
    if limit is not None and not is_positive(limit):
        yield f"max_seq_length is {limit!r}: it must be a positive whole number or null"
    for key, allowed in _ARGUMENTS.items():
        given = config.get(key) or {}
        if not isinstance(given, dict):
            yield f"{key} is {given!r}: it must be an object or null"
            continue
        for name in given:
            if name not in allowed:
                yield f"{key}.{name} is not supported: remove it from the folder's configuration"
    if not isinstance(config.get("module_output_name", "token_embeddings"), str):
        yield "module_output_name must be text"
    if not isinstance(config.get("do_lower_case"), (bool, type(None))):
        yield "do_lower_case must be true, false or null"


def expansion_problems(config: Config) -> Iterator[str]:
    """What is wrong with how queries are made longer (module-stack spec, section 16)."""
    found = config.get("query_expansion")
    if found is None:
        return
    if not isinstance(found, dict) or set(found) - set(_EXPANSION):
        yield f"its query_expansion is {found!r}: it must be null, or an object of {', '.join(_EXPANSION)}"
        return
    if found.get("strategy") not in STRATEGIES:
        yield f"its query_expansion.strategy is {found.get('strategy')!r}: it must be {' or '.join(STRATEGIES)}"
    if not isinstance(found.get("attend", False), bool):
        yield "its query_expansion.attend must be true or false"
    if not isinstance(found.get("token"), (str, type(None))):
        yield "its query_expansion.token must be a token or null"
    length: Any = found.get("length")
    limit: Any = config.get("query_length")
    if not is_positive(length):
        yield f"its query_expansion.length is {length!r}: it must be a positive whole number"
    elif is_positive(limit) and limit < length:
        yield (
            f"its query_length {limit} is less than the {length} tokens that query_expansion makes of every query: "
            "raise it, or set it to null"
        )


def _modality_problems(modalities: Any) -> Iterator[str]:
    if modalities is None:
        return
    if not isinstance(modalities, dict) or not isinstance(modalities.get("text"), dict):
        yield "its modality_config has no text entry: stcompile compiles text encoders"
        return
    text = modalities["text"]
    if text.get("method") not in _TEXT_METHODS:
        yield f"its text goes through {text.get('method')!r}: stcompile knows {' and '.join(_TEXT_METHODS)}"
    path = text.get("method_output_name")
    steps = path if isinstance(path, list) else [path]
    # Null is the result itself, which get_text_features of transformers 4 is.
    whole = path is None and text.get("method") != "forward"
    if not whole and (not steps or not all(isinstance(step, (str, int)) for step in steps)):
        yield f"method_output_name is {path!r}: it must name an output of the network"


def _processing_problems(processing: Any) -> Iterator[str]:
    sections = processing or {}
    if not isinstance(sections, dict) or not all(isinstance(item or {}, dict) for item in sections.values()):
        yield "processing_kwargs must be an object of objects"
        return
    limit = (sections.get("text") or {}).get("max_length")
    if limit is not None and not is_positive(limit):
        yield f"processing_kwargs.text.max_length is {limit!r}: it must be a positive whole number"
    for section, options in sections.items():
        if section in ("image", "audio", "video"):
            continue
        for option in options or {}:
            if option not in _PROCESSING.get(section, set()):
                yield f"processing_kwargs.{section}.{option} is not supported: remove it from sentence_bert_config.json"


def _file_problems(folder: Folder, path: str, config: Config) -> Iterator[str]:
    yield from network_problems(folder, path)
    if config.get("transformer_task") == CLASSIFIES and not classifies(folder.json_object(join(path, "config.json"))):
        yield (
            "its network has no head that was trained to classify (config.json names no ...ForSequenceClassification), "
            "and sentence-transformers would begin with a random one: train it, or load it with SentenceTransformer"
        )
    yield from tokenizer_problems(folder, str(config.get("tokenizer_name_or_path") or path))


def classifies(network: Config) -> bool:
    """Whether a network's config.json says that it has a head that classifies."""
    names = network.get("architectures")
    return isinstance(names, list) and any(str(name).endswith("ForSequenceClassification") for name in names)


KIND = ModuleType(
    "Transformer",
    "transformer",
    tuple(f"{OLD_PACKAGE}.{name}" for name in _FIRST_NAMES),
    config_files=tuple(f"sentence_{network}_config.json" for network in _FIRST_NETWORKS),
    normalized=_normalized,
    problems=_problems,
    file_problems=_file_problems,
    reads_text=True,
    keywords="read",
)
