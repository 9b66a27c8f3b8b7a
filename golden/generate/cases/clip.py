"""CLIP: the text tower of a model for texts and images."""

from __future__ import annotations

from pathlib import Path

import transformers
from sentence_transformers.sentence_transformer import modules

from golden.generate.backbones import clip_config
from golden.generate.builder import FolderBuilder
from golden.generate.case import Case
from golden.generate.legacy import old_types
from golden.generate.tokenizers import write_tokenizer
from golden.generate.weights import randomize

POSITIONS = 32

# The first configurations name this end token, which is another one: the text then ends at its highest id.
OLD_END = 2


def _checkpoint(builder: FolderBuilder, old_end: bool = False) -> Path:
    folder = builder.scratch / "checkpoint"
    tokenizer = write_tokenizer("clip", folder, POSITIONS)
    ids = tokenizer.get_vocab()
    start, end = ids["<|startoftext|>"], ids["<|endoftext|>"]
    config = clip_config(len(ids), start, OLD_END if old_end else end, end, POSITIONS)
    randomize(transformers.CLIPModel(config), builder.next_seed()).save_pretrained(folder)
    images = transformers.CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    texts = transformers.AutoTokenizer.from_pretrained(folder)
    transformers.CLIPProcessor(images, texts).save_pretrained(folder)
    return folder


def text(builder: FolderBuilder) -> None:
    builder.save([modules.Transformer(str(_checkpoint(builder)))])


def legacy_text(builder: FolderBuilder) -> None:
    builder.save([modules.Transformer(str(_checkpoint(builder, old_end=True)))])
    (builder.folder / "sentence_bert_config.json").unlink()
    old_types(builder)

    def change(entries: list[dict[str, str]]) -> list[dict[str, str]]:
        return [{**entries[0], "type": "sentence_transformers.models.CLIPModel"}]

    builder.edit("modules.json", change)


CASES: dict[str, Case] = {
    "clip_text": Case("CLIP as a Transformer: the projected text features are the sentence embedding", text),
    "clip_legacy_text": Case(
        "CLIPModel of releases 2 and 3, and the end token 2 of its first configurations", legacy_text
    ),
}
