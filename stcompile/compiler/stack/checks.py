"""Checks of each module's configuration, before anything is built: every problem, each with its remedy.

Nothing here imports torch, so that `stcompile inspect` can explain a folder anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from stcompile.compiler.stack import router_config

POOLING_MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")

# Boolean keys of releases before 5.4, in the order in which they are concatenated.
_OLD_POOLING = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}

# The methods of a network that read text: its own, and that of CLIP.
TEXT_METHODS = ("forward", "get_text_features")

_ACTIVATION_HOMES = ("torch.nn", "torch.nn.modules.activation", "torch.nn.modules.linear")
ACTIVATION_NAMES = (
    "CELU",
    "ELU",
    "GELU",
    "Hardshrink",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "Identity",
    "LeakyReLU",
    "LogSigmoid",
    "LogSoftmax",
    "Mish",
    "PReLU",
    "ReLU",
    "ReLU6",
    "SELU",
    "Sigmoid",
    "SiLU",
    "Softmax",
    "Softmin",
    "Softplus",
    "Softshrink",
    "Softsign",
    "Tanh",
    "Tanhshrink",
)

# What a folder may pass on to transformers; everything else could read outside the folder or change the code that
# runs. Of the model's arguments stcompile decides those about dtype and attention itself.
_ARGUMENTS = {
    "model_args": {"attn_implementation", "torch_dtype", "dtype", "add_pooling_layer", "low_cpu_mem_usage"},
    "tokenizer_args": {
        "model_max_length",
        "padding_side",
        "truncation_side",
        "use_fast",
        "add_bos_token",
        "add_eos_token",
        "add_prefix_space",
        "do_lower_case",
        "clean_up_tokenization_spaces",
    },
    "config_args": {
        "output_hidden_states",
        "hidden_dropout_prob",
        "attention_probs_dropout_prob",
        "use_cache",
        "is_decoder",
        "is_causal",
        "use_bidirectional_attention",
    },
}

# Of float32: a whole number in JSON may have any number of digits.
_LARGEST_FLOAT = 3.4e38

Config = dict[str, Any]


def normalized(kind: str, config: Config) -> Config:
    """A module's configuration with today's keys only (spec section 2.6), unknown ones dropped."""
    return _NORMALIZERS[kind](config)


def problems(kind: str, config: Config) -> list[str]:
    """What is wrong with, or unsupported in, a normalized configuration; each ends in a remedy."""
    return list(_CHECKS[kind](config))


def _normalize_transformer(config: Config) -> Config:
    renamed = {"model_kwargs": "model_args", "processor_kwargs": "tokenizer_args", "config_kwargs": "config_args"}
    result = {renamed.get(key, key): value for key, value in config.items()}
    for key in _ARGUMENTS:
        if isinstance(result.get(key), dict):
            # A folder never decides whether its own code may run.
            result[key] = {name: value for name, value in result[key].items() if name != "trust_remote_code"}
    return result


def _normalize_pooling(config: Config) -> Config:
    result = {
        "embedding_dimension": config.get("embedding_dimension", config.get("word_embedding_dimension")),
        "pooling_mode": config.get("pooling_mode", "mean"),
        "include_prompt": config.get("include_prompt", True),
    }
    if "pooling_mode" not in config and any(key in config for key in _OLD_POOLING):
        # Since 5.4 an absent boolean is false, and all false means mean.
        modes = [mode for key, mode in _OLD_POOLING.items() if config.get(key)]
        result["pooling_mode"] = modes or "mean"
    return result


def _keep(*keys: str, **renamed: str) -> Callable[[Config], Config]:
    """Keeps the keys it names; `new="old"` also takes the name a key had before 5.4."""

    def normalize(config: Config) -> Config:
        older = {new: config[old] for new, old in renamed.items() if old in config}
        return {**older, **{key: config[key] for key in (*keys, *renamed) if key in config}}

    return normalize


def _check_transformer(config: Config) -> Iterator[str]:
    task = config.get("transformer_task", "feature-extraction")
    if task != "feature-extraction":
        yield f"its transformer_task is {task}, not feature-extraction: stcompile compiles sentence embeddings"
    if config.get("query_expansion") is not None:
        yield "query_expansion belongs to multi-vector encoders, which score the tokens it adds: set it to null"
    limit = config.get("max_seq_length")
    for key in ("query_length", "document_length"):
        # sentence-transformers cuts there in encode_query and encode_document, and nowhere else.
        if config.get(key) not in (None, limit):
            yield (
                f"{key} {config[key]!r} cuts those texts elsewhere than max_seq_length {limit!r} does, and an artifact "
                "has one limit: set it to null, or both to one number"
            )
    yield from _check_modalities(config.get("modality_config"))
    yield from _check_processing(config.get("processing_kwargs"))
    if limit is not None and not _is_positive(limit):
        yield f"max_seq_length is {limit!r}: it must be a positive whole number or null"
    for key, allowed in _ARGUMENTS.items():
        for name in config.get(key) or {}:
            if name not in allowed:
                yield f"{key}.{name} is not supported: remove it from the folder's configuration"
    if not isinstance(config.get("module_output_name", "token_embeddings"), str):
        yield "module_output_name must be text"
    if not isinstance(config.get("do_lower_case", False), bool):
        yield "do_lower_case must be true or false"


def _check_modalities(modalities: Any) -> Iterator[str]:
    if modalities is None:
        return
    if not isinstance(modalities, dict) or not isinstance(modalities.get("text"), dict):
        yield "its modality_config has no text entry: stcompile compiles text encoders"
        return
    text = modalities["text"]
    if text.get("method") not in TEXT_METHODS:
        yield f"its text goes through {text.get('method')!r}: stcompile knows {' and '.join(TEXT_METHODS)}"
    path = text.get("method_output_name")
    steps = path if isinstance(path, list) else [path]
    # Null is the result itself, which get_text_features of transformers 4 is.
    whole = path is None and text.get("method") != "forward"
    if not whole and (not steps or not all(isinstance(step, (str, int)) for step in steps)):
        yield f"method_output_name is {path!r}: it must name an output of the network"


def _check_processing(processing: Any) -> Iterator[str]:
    known = {"text": {"max_length"}, "chat_template": {"add_generation_prompt", "restore_suffix"}, "common": set()}
    if not isinstance(processing or {}, dict) or not all(
        isinstance(item or {}, dict) for item in (processing or {}).values()
    ):
        yield "processing_kwargs must be an object of objects"
        return
    limit = ((processing or {}).get("text") or {}).get("max_length")
    if limit is not None and not _is_positive(limit):
        yield f"processing_kwargs.text.max_length is {limit!r}: it must be a positive whole number"
    for section, options in (processing or {}).items():
        if section in ("image", "audio", "video"):
            continue
        for option in options or {}:
            if option not in known.get(section, set()):
                yield f"processing_kwargs.{section}.{option} is not supported: remove it from sentence_bert_config.json"


def _check_pooling(config: Config) -> Iterator[str]:
    modes = config["pooling_mode"]
    for mode in modes if isinstance(modes, list) else [modes]:
        if mode not in POOLING_MODES:
            yield f"its pooling mode {mode!r} is unknown: the modes are {', '.join(POOLING_MODES)}"
    yield from _positive(config, "embedding_dimension")


def _check_dense(config: Config) -> Iterator[str]:
    yield from _check_names(config)
    yield from _positive(config, "in_features")
    yield from _positive(config, "out_features")
    path = config.get("activation_function", "torch.nn.modules.activation.Tanh")
    home, _, name = str(path).rpartition(".")
    if home not in _ACTIVATION_HOMES or name not in ACTIVATION_NAMES:
        yield (
            f"its activation {path!r} is not one of torch.nn's ({', '.join(ACTIVATION_NAMES)}); "
            "sentence-transformers would silently use Tanh: name the activation the model was trained with"
        )


def _check_layer_norm(config: Config) -> Iterator[str]:
    yield from _positive(config, "dimension")


def _check_dropout(config: Config) -> Iterator[str]:
    value = config.get("dropout", 0.2)
    if not isinstance(value, (int, float)) or not 0 <= value <= 1:
        yield f"its dropout is {value!r}: it must be a number from 0 to 1"


def _check_weighted_layer_pooling(config: Config) -> Iterator[str]:
    yield from _positive(config, "embedding_dimension")
    start, layers = config.get("layer_start", 4), config.get("num_hidden_layers", 12)
    if not _is_positive(layers) or isinstance(start, bool) or not isinstance(start, int) or not 0 <= start <= layers:
        yield f"its layer_start is {start!r} of {layers!r} layers: it must be a whole number from 0 to that many"


def _check_cnn(config: Config) -> Iterator[str]:
    yield from _positive(config, "in_embedding_dimension")
    yield from _positive({"out_channels": 256, **config}, "out_channels")
    kernels = config.get("kernel_sizes", [1, 3, 5])
    strides = config.get("stride_sizes")
    for name, sizes in (("kernel_sizes", kernels), ("stride_sizes", [1] if strides is None else strides)):
        if not isinstance(sizes, list) or not sizes or not all(map(_is_positive, sizes)):
            yield f"its {name} are {sizes!r}: they must be a list of positive whole numbers"
            return
    if strides is not None and len(strides) != len(kernels):
        yield f"it has {len(kernels)} kernel_sizes and {len(strides)} stride_sizes: give each kernel a stride"
    if len({(size % 2, stride) for size, stride in zip(kernels, strides or [1] * len(kernels), strict=False)}) > 1:
        yield "its kernels make outputs of different lengths (even and odd sizes, or different strides): it cannot run"


def _check_lstm(config: Config) -> Iterator[str]:
    yield from _positive(config, "embedding_dimension")
    yield from _positive(config, "hidden_dim")
    yield from _positive({"num_layers": 1, **config}, "num_layers")
    yield from _check_dropout({"dropout": 0, **config})
    if not isinstance(config.get("bidirectional", True), bool):
        yield "its bidirectional must be true or false"


def _check_word_embeddings(config: Config) -> Iterator[str]:
    if not isinstance(config.get("tokenizer_class"), str):
        yield "its wordembedding_config.json names no tokenizer_class: copy the model again"
    if config.get("max_seq_length") is not None:
        yield from _positive(config, "max_seq_length")


def _check_vocabulary(config: Config) -> Iterator[str]:
    vocab, weights = config.get("vocab"), config.get("word_weights", {})
    if not isinstance(vocab, list) or not vocab or not all(isinstance(word, str) for word in vocab):
        yield "its vocab must be a list of words: copy the model again"
    if not isinstance(weights, dict) or not all(_is_number(weight) for weight in weights.values()):
        yield "its word_weights must map words to numbers: copy the model again"
    if not _is_number(config.get("unknown_word_weight", 1)):
        yield f"its unknown_word_weight is {config['unknown_word_weight']!r}: it must be a number"
    if not isinstance(config.get("cumulative_term_frequency", True), bool):
        yield "its cumulative_term_frequency must be true or false"


def _check_names(config: Config) -> Iterator[str]:
    for key in ("module_input_name", "module_output_name"):
        if not isinstance(config.get(key), (str, type(None))):
            yield f"its {key} is {config[key]!r}: it must be the name of a feature"


def _is_positive(value: Any) -> bool:
    # Nothing a model has is wider or longer than this; what is above it is a typing error that would take all memory.
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _LARGEST_FLOAT


def _positive(config: Config, key: str) -> Iterator[str]:
    value = config.get(key)
    if not _is_positive(value):
        yield f"its {key} is {value!r}: it must be a positive whole number"


_DENSE_KEYS = (
    "in_features",
    "out_features",
    "bias",
    "activation_function",
    "module_input_name",
    "module_output_name",
    "use_residual",
)

_VOCABULARY_KEYS = ("vocab", "word_weights", "unknown_word_weight")

_NORMALIZERS: dict[str, Callable[[Config], Config]] = {
    "Transformer": _normalize_transformer,
    "CLIPModel": _normalize_transformer,
    "StaticEmbedding": _keep(),
    "WordEmbeddings": _keep("tokenizer_class", "update_embeddings", "max_seq_length"),
    "BoW": _keep(*_VOCABULARY_KEYS, "cumulative_term_frequency"),
    "Router": _keep("types", "structure", "parameters"),
    "WeightedLayerPooling": _keep("num_hidden_layers", "layer_start", embedding_dimension="word_embedding_dimension"),
    "WordWeights": _keep(*_VOCABULARY_KEYS),
    "CNN": _keep("out_channels", "kernel_sizes", "stride_sizes", in_embedding_dimension="in_word_embedding_dimension"),
    "LSTM": _keep(
        "hidden_dim", "num_layers", "dropout", "bidirectional", embedding_dimension="word_embedding_dimension"
    ),
    "Pooling": _normalize_pooling,
    "Dense": _keep(*_DENSE_KEYS),
    "LayerNorm": _keep("dimension"),
    "Dropout": _keep("dropout"),
    "Normalize": _keep("module_input_name", "module_output_name"),
}

_CHECKS: dict[str, Callable[[Config], Iterator[str]]] = {
    "Transformer": _check_transformer,
    "CLIPModel": _check_transformer,
    "StaticEmbedding": lambda _: iter(()),
    "WordEmbeddings": _check_word_embeddings,
    "BoW": _check_vocabulary,
    "Router": router_config.problems,
    "WeightedLayerPooling": _check_weighted_layer_pooling,
    "WordWeights": _check_vocabulary,
    "CNN": _check_cnn,
    "LSTM": _check_lstm,
    "Pooling": _check_pooling,
    "Dense": _check_dense,
    "LayerNorm": _check_layer_norm,
    "Dropout": _check_dropout,
    "Normalize": _check_names,
}
