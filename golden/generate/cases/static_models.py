"""Static models: the mean of a table's rows, in the layouts of two libraries."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from sentence_transformers.sentence_transformer import modules
from tokenizers import processors

from golden.generate.builder import FolderBuilder
from golden.generate.case import Case
from golden.generate.files import write_json
from golden.generate.legacy import into_subfolder, old_types
from golden.generate.static import WIDTH, static_embedding, token_table
from golden.generate.tokenizers import FAMILIES

PROMPTS = {"query": "query: ", "document": "passage: "}

# Fewer rows than tokens: several tokens share one.
SHARED_ROWS = 64


def alone(builder: FolderBuilder) -> None:
    builder.save([static_embedding(builder)])


def normalize(builder: FolderBuilder) -> None:
    builder.save([static_embedding(builder), modules.Normalize()])


def dense(builder: FolderBuilder) -> None:
    builder.save([static_embedding(builder), builder.dense(WIDTH, 16)])


def truncation(builder: FolderBuilder) -> None:
    tokenizer = FAMILIES["bert"].build()
    tokenizer.enable_truncation(max_length=6)
    tokenizer.enable_padding(length=9)
    builder.save([static_embedding(builder, tokenizer)])


def unigram_prompt(builder: FolderBuilder) -> None:
    stack = [static_embedding(builder, FAMILIES["t5"].build()), modules.Normalize()]
    builder.save(stack, prompts=PROMPTS)
    builder.run()
    builder.run("encode_query", method="encode_query")


def legacy_subfolder(builder: FolderBuilder) -> None:
    builder.save([static_embedding(builder), modules.Normalize()])
    old_types(builder)
    into_subfolder(builder, "0_StaticEmbedding")
    shutil.rmtree(builder.folder / "1_Normalize")


def float16(builder: FolderBuilder) -> None:
    builder.save([static_embedding(builder, dtype=torch.float16)])


def _shared_rows(builder: FolderBuilder, tokens: int) -> dict[str, torch.Tensor]:
    """The two tensors of a quantized vocabulary: every token's row, and its weight."""
    generator = torch.Generator().manual_seed(builder.next_seed())
    return {
        "mapping": torch.randint(0, SHARED_ROWS, (tokens,), generator=generator),
        "weights": torch.rand(tokens, generator=generator) + 0.1,
    }


def _write_model2vec(folder: Path, tensors: dict[str, torch.Tensor], with_modules: bool = True) -> None:
    """A folder as the library model2vec writes it."""
    folder.mkdir()
    tokenizer = FAMILIES["bert"].build()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B", special_tokens=[])
    tokenizer.save(str(folder / "tokenizer.json"))
    save_file(tensors, folder / "model.safetensors")
    config = {
        "model_type": "model2vec",
        "architectures": ["StaticModel"],
        "hidden_dim": WIDTH,
        "seq_length": 1000000,
        "normalize": True,
        "embedding_dtype": str(tensors["embeddings"].dtype).removeprefix("torch."),
    }
    write_json(folder / "config.json", config)
    if with_modules:
        types = ((".", "StaticEmbedding"), ("1_Normalize", "Normalize"))
        entries = [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{name}"}
            for i, (path, name) in enumerate(types)
        ]
        write_json(folder / "modules.json", entries)


def _tokens() -> int:
    return FAMILIES["bert"].build().get_vocab_size()


def model2vec(builder: FolderBuilder) -> None:
    _write_model2vec(builder.folder, {"embeddings": token_table(builder, _tokens())})


def model2vec_quantized_vocab(builder: FolderBuilder, dtype: torch.dtype = torch.float32) -> None:
    embeddings = token_table(builder, SHARED_ROWS).to(dtype)
    _write_model2vec(builder.folder, {"embeddings": embeddings, **_shared_rows(builder, _tokens())})


def model2vec_int8(builder: FolderBuilder) -> None:
    generator = torch.Generator().manual_seed(builder.next_seed())
    levels = torch.randint(-127, 128, (_tokens(), WIDTH), generator=generator)
    _write_model2vec(builder.folder, {"embeddings": levels.to(torch.int8)})
    builder.twin = builder.scratch / "twin"
    _write_model2vec(builder.twin, {"embeddings": levels.to(torch.float32)})
    builder.notes.append("Recorded from a folder with the same numbers in float32: int8 tables do not load.")


def model2vec_plain(builder: FolderBuilder) -> None:
    tensors = {"embeddings": token_table(builder, _tokens())}
    _write_model2vec(builder.folder, tensors, with_modules=False)
    builder.twin = builder.scratch / "twin"
    _write_model2vec(builder.twin, tensors)
    builder.notes.append("Recorded from the same folder with modules.json: without it, it does not load.")


CASES: dict[str, Case] = {
    "static": Case("StaticEmbedding alone", alone),
    "static_normalize": Case("StaticEmbedding, Normalize", normalize),
    "static_dense": Case("StaticEmbedding, Dense", dense),
    "static_tokenizer_truncation": Case(
        "tokenizer.json with truncation, which applies, and padding, which does not", truncation
    ),
    "static_unigram_prompt": Case("StaticEmbedding over a Unigram tokenizer, with prompts", unigram_prompt),
    "static_legacy_subfolder": Case("release 3: folder 0_StaticEmbedding and old type paths", legacy_subfolder),
    "static_float16": Case("a table in half precision: its mean is computed in half precision", float16),
    "model2vec_folder": Case(
        "a folder of model2vec: tensor embeddings, path '.', Normalize without a folder", model2vec
    ),
    "model2vec_folder_quantized_vocab": Case(
        "a folder of model2vec whose tokens share rows: tensors mapping and weights", model2vec_quantized_vocab
    ),
    "model2vec_folder_float16": Case(
        "the same with a table in half precision, which the weights lift to float32",
        partial(model2vec_quantized_vocab, dtype=torch.float16),
    ),
    "model2vec_folder_int8": Case("a folder of model2vec with a table of 8-bit integers", model2vec_int8),
    "model2vec_plain": Case("a folder of model2vec without modules.json, normalize true", model2vec_plain),
}
