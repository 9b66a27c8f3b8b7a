"""CLIP and SigLIP: towers for texts and for images, with vectors in one space."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transformers
from sentence_transformers.sentence_transformer import modules

from golden.generate.backbones import clip_config, siglip_config
from golden.generate.builder import FolderBuilder
from golden.generate.case import Case
from golden.generate.files import write_json
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


def _record(builder: FolderBuilder, **texts: Any) -> None:
    """Texts, and images as they are opened and as files, which are turned by their EXIF data and lose transparency."""
    builder.run(**texts)
    builder.run("images", images="opened")
    builder.run("image_paths", images="paths")


def text(builder: FolderBuilder) -> None:
    builder.save([modules.Transformer(str(_checkpoint(builder)))])
    _record(builder)
    builder.run("images_cut", images="opened", truncate_dim=12, normalize_embeddings=True, prompt="no part of it: ")


def legacy_text(builder: FolderBuilder) -> None:
    builder.save([modules.Transformer(str(_checkpoint(builder, old_end=True)))])
    (builder.folder / "sentence_bert_config.json").unlink()
    old_types(builder)

    def change(entries: list[dict[str, str]]) -> list[dict[str, str]]:
        return [{**entries[0], "type": "sentence_transformers.models.CLIPModel"}]

    builder.edit("modules.json", change)
    # As transformers 4 and before wrote it: by itself, sizes as single numbers, what is usual left unsaid.
    (builder.folder / "processor_config.json").unlink()
    old = {"feature_extractor_type": "CLIPFeatureExtractor", "size": 18, "crop_size": 16, "resample": 3}
    steps = {"do_resize": True, "do_center_crop": True, "do_normalize": True}
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    write_json(builder.folder / "preprocessor_config.json", {**old, **steps, "image_mean": mean, "image_std": std})
    _record(builder)


def dense(builder: FolderBuilder) -> None:
    width = 20
    stack = [modules.Transformer(str(_checkpoint(builder))), builder.dense(width, 12), modules.Normalize()]
    builder.save(stack)
    _record(builder)


def siglip(builder: FolderBuilder) -> None:
    folder = builder.scratch / "checkpoint"
    tokenizer = write_tokenizer("modernbert", folder, POSITIONS)
    config = siglip_config(tokenizer.get_vocab_size(), POSITIONS)
    randomize(transformers.SiglipModel(config), builder.next_seed()).save_pretrained(folder)
    images = transformers.SiglipImageProcessorPil(size={"height": 16, "width": 16}, resample=2)
    images.save_pretrained(folder)
    builder.save([modules.Transformer(str(folder))])
    # The last position is what is pooled, padded or not.
    _record(builder, batch_size=1)


CASES: dict[str, Case] = {
    "clip_text": Case("CLIP as a Transformer: the projected features of texts and images are their embeddings", text),
    "clip_legacy_text": Case(
        "CLIPModel of releases 2 and 3, the end token 2 of its first configurations, and an image processor by itself",
        legacy_text,
    ),
    "clip_dense_normalize": Case("CLIP's towers with further modules behind both", dense),
    "siglip": Case("SigLIP: images are resized to a fixed size and pooled by attention", siglip),
}
