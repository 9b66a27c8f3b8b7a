"""Two-layer Transformers configurations of width 32, one per family."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import transformers
from torch import nn

HIDDEN = 32

_SIZES: dict[str, Any] = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
_NO_DROPOUT: dict[str, Any] = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
_ROBERTA_IDS: dict[str, Any] = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}


def _bert(vocab: int, pad_id: int, positions: int) -> Any:
    return transformers.BertConfig(
        vocab_size=vocab,
        **_SIZES,
        **_NO_DROPOUT,
        max_position_embeddings=positions,
        type_vocab_size=2,
        pad_token_id=pad_id,
    )


def _distilbert(vocab: int, pad_id: int, positions: int) -> Any:
    return transformers.DistilBertConfig(
        vocab_size=vocab,
        dim=HIDDEN,
        n_layers=2,
        n_heads=4,
        hidden_dim=64,
        dropout=0.0,
        attention_dropout=0.0,
        max_position_embeddings=positions,
        pad_token_id=pad_id,
    )


def _electra(vocab: int, pad_id: int, positions: int) -> Any:
    return transformers.ElectraConfig(
        vocab_size=vocab,
        **_SIZES,
        **_NO_DROPOUT,
        embedding_size=24,
        max_position_embeddings=positions,
        pad_token_id=pad_id,
    )


def _mpnet(vocab: int, pad_id: int, positions: int) -> Any:
    return transformers.MPNetConfig(
        vocab_size=vocab,
        **_SIZES,
        **_NO_DROPOUT,
        **_ROBERTA_IDS,
        max_position_embeddings=positions + 2,
        relative_attention_num_buckets=32,
    )


def _roberta(vocab: int, pad_id: int, positions: int) -> Any:
    return transformers.RobertaConfig(
        vocab_size=vocab,
        **_SIZES,
        **_NO_DROPOUT,
        **_ROBERTA_IDS,
        max_position_embeddings=positions + 2,
        type_vocab_size=1,
    )


def _xlmr(vocab: int, pad_id: int, positions: int) -> Any:
    return transformers.XLMRobertaConfig(
        vocab_size=vocab,
        **_SIZES,
        **_NO_DROPOUT,
        **_ROBERTA_IDS,
        max_position_embeddings=positions + 2,
        type_vocab_size=1,
    )


def _modernbert(vocab: int, pad_id: int, positions: int) -> Any:
    return transformers.ModernBertConfig(
        vocab_size=vocab,
        **_SIZES,
        max_position_embeddings=positions,
        pad_token_id=pad_id,
        global_attn_every_n_layers=2,
        local_attention=8,
        cls_token_id=0,
        sep_token_id=1,
        bos_token_id=0,
        eos_token_id=1,
        reference_compile=False,
        attention_dropout=0.0,
        mlp_dropout=0.0,
        embedding_dropout=0.0,
    )


def _albert(vocab: int, pad_id: int, positions: int) -> Any:
    return transformers.AlbertConfig(
        vocab_size=vocab,
        **_SIZES,
        **_NO_DROPOUT,
        embedding_size=24,
        max_position_embeddings=positions,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
    )


def _t5(vocab: int, pad_id: int, positions: int) -> Any:
    return transformers.T5Config(
        vocab_size=vocab,
        d_model=HIDDEN,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        dropout_rate=0.0,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=20,
        feed_forward_proj="gated-gelu",
        pad_token_id=0,
        eos_token_id=1,
    )


def _deberta(vocab: int, pad_id: int, positions: int) -> Any:
    return transformers.DebertaV2Config(
        vocab_size=vocab,
        **_SIZES,
        **_NO_DROPOUT,
        max_position_embeddings=positions,
        type_vocab_size=0,
        relative_attention=True,
        position_buckets=8,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
        pad_token_id=0,
        max_relative_positions=-1,
    )


def _qwen(vocab: int, pad_id: int, positions: int) -> Any:
    return transformers.Qwen3Config(
        vocab_size=vocab,
        **_SIZES,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=positions,
        rope_theta=10000.0,
        pad_token_id=pad_id,
        tie_word_embeddings=True,
        use_sliding_window=False,
    )


# From the number of tokens, the padding id and the number of positions to a configuration.
CONFIGS: dict[str, Callable[[int, int, int], Any]] = {
    "bert": _bert,
    "bert_cased": _bert,
    "distilbert": _distilbert,
    "electra": _electra,
    "mpnet": _mpnet,
    "roberta": _roberta,
    "xlmr": _xlmr,
    "modernbert": _modernbert,
    "albert": _albert,
    "t5": _t5,
    "deberta": _deberta,
    "qwen": _qwen,
    "qwen_noeos": _qwen,
}


def gpt2_config(vocab: int, pad_id: int, positions: int) -> Any:
    """A decoder with learned absolute positions."""
    return transformers.GPT2Config(
        vocab_size=vocab,
        n_embd=HIDDEN,
        n_layer=2,
        n_head=4,
        n_positions=positions,
        attn_pdrop=0.0,
        embd_pdrop=0.0,
        resid_pdrop=0.0,
        pad_token_id=pad_id,
    )


def gemma3_config(vocab: int, pad_id: int, positions: int) -> Any:
    """A decoder whose attention looks both ways, as embedding models use it."""
    config = transformers.Gemma3TextConfig(
        vocab_size=vocab,
        **_SIZES,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=positions,
        sliding_window=4096,
        query_pre_attn_scalar=8,
        pad_token_id=pad_id,
        bos_token_id=None,
        eos_token_id=None,
    )
    config.use_bidirectional_attention = True
    return config


def gemma3_windows_config(vocab: int, pad_id: int, positions: int) -> Any:
    """EmbeddingGemma's kind: every other layer sees a window alone, and turns by another base."""
    return transformers.Gemma3TextConfig(
        vocab_size=vocab,
        **_SIZES,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=positions,
        layer_types=["sliding_attention", "full_attention"],
        sliding_window=6,
        query_pre_attn_scalar=16,
        pad_token_id=pad_id,
        bos_token_id=None,
        eos_token_id=None,
        use_bidirectional_attention=True,
    )


def qwen2_config(vocab: int, pad_id: int, positions: int) -> Any:
    """gte-Qwen2's kind: biases on queries, keys and values."""
    return transformers.Qwen2Config(
        vocab_size=vocab,
        **_SIZES,
        num_key_value_heads=1,
        max_position_embeddings=positions,
        pad_token_id=pad_id,
        tie_word_embeddings=True,
    )


def mistral_config(vocab: int, pad_id: int, positions: int) -> Any:
    """E5-Mistral's kind, with a window behind a token that is shorter than the texts."""
    return transformers.MistralConfig(
        vocab_size=vocab,
        **_SIZES,
        num_key_value_heads=2,
        max_position_embeddings=positions,
        sliding_window=5,
        pad_token_id=pad_id,
    )


def eurobert_config(vocab: int, pad_id: int, positions: int) -> Any:
    """LLaMA's layers, looking both ways."""
    return transformers.EuroBertConfig(
        vocab_size=vocab,
        **_SIZES,
        num_key_value_heads=2,
        max_position_embeddings=positions,
        pad_token_id=pad_id,
        bos_token_id=None,
        eos_token_id=None,
    )


def stablelm_config(vocab: int, pad_id: int, positions: int) -> Any:
    """Rotary positions of half of each head's numbers, and LayerNorm before."""
    return transformers.StableLmConfig(
        vocab_size=vocab,
        **_SIZES,
        num_key_value_heads=2,
        partial_rotary_factor=0.5,
        max_position_embeddings=positions,
        pad_token_id=pad_id,
    )


def nomic_bert_config(vocab: int, pad_id: int, positions: int) -> Any:
    """Post-norm layers with rotary positions and a gated network."""
    return transformers.NomicBertConfig(
        vocab_size=vocab, **_SIZES, max_position_embeddings=positions, pad_token_id=pad_id, type_vocab_size=2
    )


def jina_v3_config(vocab: int, pad_id: int, positions: int) -> Any:
    """XLM-R's layers with rotary positions."""
    return transformers.JinaEmbeddingsV3Config(
        vocab_size=vocab, **_SIZES, max_position_embeddings=positions, pad_token_id=pad_id, type_vocab_size=1
    )


def roformer_config(vocab: int, pad_id: int, positions: int) -> Any:
    """BERT's layers, where neighbours among a head's numbers turn together."""
    return transformers.RoFormerConfig(
        vocab_size=vocab,
        **_SIZES,
        **_NO_DROPOUT,
        max_position_embeddings=positions,
        type_vocab_size=2,
        pad_token_id=pad_id,
    )


def ernie_config(vocab: int, pad_id: int, positions: int) -> Any:
    """LLaMA's layers, where neighbours among a head's numbers turn together."""
    return transformers.Ernie4_5Config(
        vocab_size=vocab,
        **_SIZES,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=positions,
        pad_token_id=pad_id,
        bos_token_id=None,
        eos_token_id=None,
    )


def glm4_config(vocab: int, pad_id: int, positions: int) -> Any:
    """GLM-4's layers: neighbours turn together, half of a head's numbers do, and norms stand around."""
    return transformers.Glm4Config(
        vocab_size=vocab,
        **_SIZES,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=positions,
        pad_token_id=pad_id,
        bos_token_id=None,
        eos_token_id=None,
    )


def gemma2_config(vocab: int, pad_id: int, positions: int) -> Any:
    """Scores below a soft cap that is low enough to bend them; windows in every other layer."""
    return transformers.Gemma2Config(
        vocab_size=vocab,
        **_SIZES,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=positions,
        layer_types=["sliding_attention", "full_attention"],
        sliding_window=6,
        query_pre_attn_scalar=16,
        attn_logit_softcapping=3.0,
        pad_token_id=pad_id,
        bos_token_id=None,
        eos_token_id=None,
    )


def clip_config(vocab: int, start_id: int, end_id: int, pad_id: int, positions: int) -> Any:
    """Two small towers, one for text and one for images of 16 pixels."""
    text = {
        **_SIZES,
        "vocab_size": vocab,
        "max_position_embeddings": positions,
        "bos_token_id": start_id,
        "eos_token_id": end_id,
        "pad_token_id": pad_id,
    }
    vision = {**_SIZES, "image_size": 16, "patch_size": 8}
    return transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=20)


def siglip_config(vocab: int, positions: int) -> Any:
    """The same of SigLIP, whose texts have no start and whose tower for images pools by attention."""
    text = {
        **_SIZES,
        "vocab_size": vocab,
        "max_position_embeddings": positions,
        "projection_size": _SIZES["hidden_size"],
    }
    vision = {**_SIZES, "image_size": 16, "patch_size": 8}
    return transformers.SiglipConfig(text_config=text, vision_config=vision)


def _base(config: Any) -> nn.Module:
    is_t5 = config.model_type == "t5"
    model: nn.Module = transformers.T5EncoderModel(config) if is_t5 else transformers.AutoModel.from_config(config)
    return model


def _masked_lm(config: Any) -> nn.Module:
    model: nn.Module = transformers.AutoModelForMaskedLM.from_config(config)
    return model


def _causal_lm(config: Any) -> nn.Module:
    model: nn.Module = transformers.AutoModelForCausalLM.from_config(config)
    return model


def _classifier(config: Any, labels: int) -> nn.Module:
    config.num_labels = labels
    model: nn.Module = transformers.AutoModelForSequenceClassification.from_config(config)
    return model


# What sits on top of the backbone in the saved checkpoint.
HEADS: dict[str, Callable[[Any], nn.Module]] = {
    "base": _base,
    "mlm": _masked_lm,
    "causal": _causal_lm,
    "scores": partial(_classifier, labels=1),
    "classes": partial(_classifier, labels=3),
}
