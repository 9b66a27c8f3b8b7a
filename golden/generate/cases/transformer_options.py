"""What the Transformer module and its tokenizer can be told."""

from __future__ import annotations

import shutil
from typing import Any

from safetensors.torch import load_file, save_file
from sentence_transformers.sentence_transformer import modules
from transformers import AutoModel

from golden.generate.backbones import HIDDEN
from golden.generate.builder import FolderBuilder
from golden.generate.case import Case
from golden.generate.inputs import PROMPTS

TRUNCATION = {"direction": "Right", "max_length": 10, "strategy": "LongestFirst", "stride": 0}
PADDING = {
    "strategy": {"Fixed": 10},
    "direction": "Right",
    "pad_to_multiple_of": None,
    "pad_id": 0,
    "pad_type_id": 0,
    "pad_token": "[PAD]",
}


def _with_config(builder: FolderBuilder, path: str, **settings: Any) -> None:
    builder.edit(path, lambda config: {**config, **settings})


def max_seq_length(builder: FolderBuilder) -> None:
    transformer = builder.transformer()
    transformer.max_seq_length = 12
    builder.save([transformer, builder.pooling()])


def do_lower_case(builder: FolderBuilder) -> None:
    transformer = builder.transformer("bert_cased", arguments={"do_lower_case": True})
    builder.save([transformer, builder.pooling()])


def cased(builder: FolderBuilder) -> None:
    builder.save([builder.transformer("bert_cased"), builder.pooling()])


def padding_and_truncation(builder: FolderBuilder) -> None:
    builder.save([builder.transformer(), builder.pooling()])
    _with_config(builder, "tokenizer.json", truncation=TRUNCATION, padding=PADDING)


def truncation_side_left(builder: FolderBuilder) -> None:
    builder.save([builder.transformer(tokenizer={"truncation_side": "left"}), builder.pooling()])


def padding_side_left(builder: FolderBuilder) -> None:
    builder.save([builder.transformer(tokenizer={"padding_side": "left"}), builder.pooling(("cls", "mean"))])
    builder.run(batch_size=1)


def float16(builder: FolderBuilder) -> None:
    builder.save([builder.transformer(), builder.pooling(), builder.dense(HIDDEN, 16)])
    path = builder.folder / "model.safetensors"
    halves = {name: value.half() if value.is_floating_point() else value for name, value in load_file(path).items()}
    save_file(halves, path, metadata={"format": "pt"})
    _with_config(builder, "config.json", dtype="float16")


def sharded(builder: FolderBuilder) -> None:
    checkpoint = builder.checkpoint()
    model = AutoModel.from_pretrained(checkpoint)
    (checkpoint / "model.safetensors").unlink()
    model.save_pretrained(checkpoint, max_shard_size="60KB")
    builder.save([modules.Transformer(str(checkpoint)), builder.pooling()])
    (builder.folder / "model.safetensors").unlink()
    for shard in checkpoint.glob("model*"):
        shutil.copy(shard, builder.folder)


def text_pairs(builder: FolderBuilder) -> None:
    builder.inputs = "pairs"
    builder.save([builder.transformer(), builder.pooling()], prompts=PROMPTS)
    builder.run()
    builder.run("prompt", prompt_name="document")


def processing_max_length(builder: FolderBuilder) -> None:
    builder.save([builder.transformer(), builder.pooling()])
    settings = {"text": {"max_length": 9}}
    _with_config(builder, "sentence_bert_config.json", processing_kwargs=settings)


def hidden_state(builder: FolderBuilder) -> None:
    builder.save([builder.transformer(), builder.pooling()])
    modality = {"text": {"method": "forward", "method_output_name": ["hidden_states", -2]}}
    _with_config(builder, "sentence_bert_config.json", modality_config=modality)


def pooler_output(builder: FolderBuilder) -> None:
    builder.save([builder.transformer(), modules.Normalize()])
    modality = {"text": {"method": "forward", "method_output_name": "pooler_output"}}
    _with_config(
        builder,
        "sentence_bert_config.json",
        modality_config=modality,
        module_output_name="sentence_embedding",
    )


CASES: dict[str, Case] = {
    "max_seq_length_truncation": Case(
        "max_seq_length set after loading and saved: it lands in tokenizer_config.json", max_seq_length
    ),
    "do_lower_case_cased_vocab": Case(
        "do_lower_case with a cased tokenizer: a Lowercase normalizer in tokenizer.json", do_lower_case
    ),
    "cased_vocab": Case("a cased tokenizer without lowercasing", cased),
    "tokenizer_json_with_padding_truncation": Case(
        "tokenizer.json with fixed padding and truncation, which must not apply", padding_and_truncation
    ),
    "truncation_side_left": Case("truncation_side left", truncation_side_left),
    "bert_padding_side_left": Case(
        "absolute positions and left padding: vectors depend on the batch, recorded one by one", padding_side_left
    ),
    "weights_float16": Case("half-precision weights: computed in half precision", float16),
    "sharded_weights": Case("weights in several safetensors files with an index", sharded),
    "text_pairs": Case("pairs of texts: one sequence, the prompt before the first text", text_pairs),
    "processing_kwargs_max_length": Case("processing_kwargs override the call of the tokenizer", processing_max_length),
    "modality_output_hidden_state": Case("modality_config picks an inner hidden state by a path", hidden_state),
    "modality_output_pooler": Case(
        "modality_config picks pooler_output as the sentence embedding: no Pooling module", pooler_output
    ),
}
