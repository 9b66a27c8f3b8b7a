"""One folder for every family of encoders and decoders."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import transformers
from sentence_transformers.sentence_transformer import modules
from torch import nn

from golden.generate.backbones import (
    HIDDEN,
    ernie_config,
    eurobert_config,
    gemma2_config,
    gemma3_config,
    gemma3_windows_config,
    glm4_config,
    gpt2_config,
    jina_v3_config,
    mistral_config,
    nomic_bert_config,
    qwen2_config,
    roformer_config,
    stablelm_config,
)
from golden.generate.builder import POSITIONS, FolderBuilder
from golden.generate.case import Case
from golden.generate.tokenizers import FAMILIES, write_tokenizer
from golden.generate.weights import randomize

ENCODERS = ("distilbert", "electra", "mpnet", "roberta", "xlmr", "modernbert", "albert", "t5", "deberta")


def encoder(builder: FolderBuilder, kind: str) -> None:
    builder.save([builder.transformer(kind), builder.pooling(), modules.Normalize()])


def qwen3_lasttoken(builder: FolderBuilder) -> None:
    stack = [builder.transformer("qwen"), builder.pooling("lasttoken"), modules.Normalize()]
    builder.save(stack, prompts={"query": "Instruct: retrieve\nQuery:", "document": ""})
    builder.run()
    builder.run("encode_query", method="encode_query")


def qwen3_no_eos(builder: FolderBuilder) -> None:
    builder.save([builder.transformer("qwen_noeos"), builder.pooling(("lasttoken", "mean"))])
    builder.notes.append("Rows of the empty text are fully masked: what comes out depends on the attention kernel.")


def qwen3_right_padding(builder: FolderBuilder) -> None:
    transformer = builder.transformer("qwen", tokenizer={"padding_side": "right"})
    builder.save([transformer, builder.pooling("lasttoken")])


def t5_full_checkpoint(builder: FolderBuilder) -> None:
    encoder_only = builder.checkpoint("t5")
    config = transformers.AutoConfig.from_pretrained(encoder_only)
    config.num_decoder_layers = 2
    config.decoder_start_token_id = 0
    full = randomize(transformers.T5ForConditionalGeneration(config), builder.next_seed())
    builder.save([modules.Transformer(str(encoder_only)), builder.pooling()])
    (builder.folder / "model.safetensors").unlink()
    full.save_pretrained(builder.folder)


def _with_qwen_tokenizer(builder: FolderBuilder, config: Callable[[int, int, int], Any], **tokenizer: Any) -> Path:
    """A checkpoint of a family that brings no tokenizer of its own."""
    folder = builder.scratch / "checkpoint"
    written = write_tokenizer("qwen", folder, POSITIONS, **tokenizer)
    pad_id = written.get_vocab()[FAMILIES["qwen"].special_names["pad_token"]]
    model = transformers.AutoModel.from_config(config(written.get_vocab_size(), pad_id, POSITIONS))
    randomize(model, builder.next_seed()).save_pretrained(folder)
    return folder


def gpt2(builder: FolderBuilder) -> None:
    checkpoint = _with_qwen_tokenizer(builder, gpt2_config)
    builder.save([modules.Transformer(str(checkpoint)), builder.pooling("lasttoken")])
    builder.run(batch_size=1)


def gemma3(builder: FolderBuilder) -> None:
    checkpoint = _with_qwen_tokenizer(builder, gemma3_config, padding_side="right")
    builder.save(
        [
            modules.Transformer(str(checkpoint)),
            builder.pooling(),
            builder.dense(HIDDEN, 48, nn.Identity(), bias=False),
            builder.dense(48, HIDDEN, nn.Identity(), bias=False),
            modules.Normalize(),
        ]
    )


def modern(builder: FolderBuilder, config: Callable[[int, int, int], Any], pooling: str) -> None:
    """Recorded with texts that are longer than the windows."""
    side = "left" if pooling == "lasttoken" else "right"
    checkpoint = _with_qwen_tokenizer(builder, config, padding_side=side)
    builder.save([modules.Transformer(str(checkpoint)), builder.pooling(pooling), modules.Normalize()])


# What each covers, its configuration and its pooling.
MODERN: dict[str, tuple[str, Callable[[int, int, int], Any], str]] = {
    "backbone_gemma3_windows": (
        "Gemma 3 as EmbeddingGemma has it: windows in every other layer, one head of keys for four, mean",
        gemma3_windows_config,
        "mean",
    ),
    "backbone_qwen2_lasttoken": (
        "Qwen2: biases on queries, keys and values, left padding, lasttoken",
        qwen2_config,
        "lasttoken",
    ),
    "backbone_mistral_window": (
        "Mistral: a token sees five positions up to its own, left padding, lasttoken",
        mistral_config,
        "lasttoken",
    ),
    "backbone_eurobert": (
        "EuroBERT: RMSNorm before, SiLU gate, shared keys, both ways, mean",
        eurobert_config,
        "mean",
    ),
    "backbone_stablelm": (
        "StableLM: half of each head's numbers turn, LayerNorm before, causal, mean",
        stablelm_config,
        "mean",
    ),
    "backbone_nomic_bert": (
        "NomicBert: norms behind, rotary positions, SiLU gate, mean",
        nomic_bert_config,
        "mean",
    ),
    "backbone_jina_v3": (
        "jina-embeddings-v3: norms behind, rotary positions, mean",
        jina_v3_config,
        "mean",
    ),
    "backbone_roformer": (
        "RoFormer: BERT's layers, neighbours among a head's numbers turn together, mean",
        roformer_config,
        "mean",
    ),
    "backbone_ernie4_5": (
        "Ernie 4.5: LLaMA's layers, neighbours among a head's numbers turn together, causal, mean",
        ernie_config,
        "mean",
    ),
    "backbone_glm4": (
        "GLM-4: neighbours turn together, half of each head's numbers do, norms around, biases, causal, mean",
        glm4_config,
        "mean",
    ),
    "backbone_gemma2": (
        "Gemma 2: a soft cap of scores, RMSNorm around, windows in every other layer, causal, mean",
        gemma2_config,
        "mean",
    ),
}

CASES: dict[str, Case] = {
    **{
        f"backbone_{kind}": Case(f"{kind} encoder, mean pooling, Normalize", partial(encoder, kind=kind))
        for kind in ENCODERS
    },
    "backbone_qwen3_lasttoken": Case(
        "Qwen3 decoder, left padding, end token equal to the padding token, lasttoken, Normalize",
        qwen3_lasttoken,
    ),
    "backbone_qwen3_no_eos": Case("a decoder whose tokenizer adds nothing: an empty text has no tokens", qwen3_no_eos),
    "backbone_qwen3_right_padding": Case("the same decoder with right padding", qwen3_right_padding),
    "backbone_t5_full_checkpoint": Case(
        "encoder-decoder weights on disk: only the encoder is used", t5_full_checkpoint
    ),
    "backbone_gpt2_absolute_positions": Case(
        "GPT-2: learned absolute positions, left padding, lasttoken; recorded one by one", gpt2
    ),
    **{
        name: Case(covers, partial(modern, config=config, pooling=pooling))
        for name, (covers, config, pooling) in MODERN.items()
    },
    "backbone_gemma3_text_bidirectional": Case(
        "Gemma 3 text model with attention both ways, mean, two Dense, Normalize", gemma3
    ),
}
