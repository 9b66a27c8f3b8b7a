"""What a model of sentence-transformers has and a compiled one does not, and what to do instead."""

from __future__ import annotations

from stcompile.errors import InputError


class LeftOutError(InputError, AttributeError):
    """A name of sentence-transformers' model that a compiled one does not have; `hasattr` says no."""


_TOKENIZING = "texts are tokenized in encode, by the tokenizer.json of the artifact, which tokenizers.Tokenizer opens"
_PROCESSES = "an artifact computes on the threads of one process: call encode, and pass threads= for fewer CPUs"
_NETWORK = "the network is one compiled graph: ask the model that it was exported from"
_TRAINING = "what is compiled does not train: train the model that it was exported from, and export it again"
_SETTLED = "that is settled in what is compiled: change the model that it was exported from, and export it again"
_SAVING = "an artifact is its folder already: copy that, or run stcompile push"

# Names to what is said of them. Those of torch.nn.Module are the ones that code for encoding calls.
LEFT_OUT: dict[str, str] = {
    **dict.fromkeys(("tokenizer", "processor", "tokenize", "preprocess", "get_sentence_features"), _TOKENIZING),
    **dict.fromkeys(("start_multi_process_pool", "stop_multi_process_pool", "encode_multi_process"), _PROCESSES),
    **dict.fromkeys(("transformers_model", "config", "dtype", "get_backend", "get_model_kwargs", "forward"), _NETWORK),
    **dict.fromkeys(("parameters", "named_parameters", "modules", "children", "state_dict", "evaluate"), _NETWORK),
    **dict.fromkeys(("is_singular_input", "smart_batching_collate", "model_card_data"), _NETWORK),
    **dict.fromkeys(("model_card_data_class", "model_type", "default_huggingface_organization"), _NETWORK),
    "SUPPORTED_SIMILARITY_FN_NAMES": "cosine, dot, euclidean and manhattan are all that there are",
    **dict.fromkeys(("has_peft_compatible_model", "check_peft_compatible_model", "active_adapters"), _NETWORK),
    **dict.fromkeys(("active_adapter", "get_adapter_state_dict", "clear_placement_cache"), _NETWORK),
    **dict.fromkeys(("train", "fit", "old_fit", "gradient_checkpointing_enable", "requires_grad_"), _TRAINING),
    **dict.fromkeys(("half", "float", "bfloat16", "double", "compile", "set_pooling_include_prompt"), _SETTLED),
    **dict.fromkeys(("merge", "load_adapter", "add_adapter", "set_adapter", "delete_adapter"), _SETTLED),
    **dict.fromkeys(("disable_adapters", "enable_adapters", "load_state_dict"), _SETTLED),
    **dict.fromkeys(("save", "save_pretrained", "save_to_hub", "push_to_hub"), _SAVING),
}


def left_out(name: str) -> LeftOutError:
    """The error of a name of `LEFT_OUT`."""
    return LeftOutError(f"stcompile.SentenceTransformer has no {name}: {LEFT_OUT[name]}")
