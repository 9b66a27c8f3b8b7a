"""The same families with sizes that kernels for whole encoder layers take: width 64, heads of 32."""

from __future__ import annotations

from functools import partial
from typing import Any

import transformers
from sentence_transformers.sentence_transformer import modules

from golden.generate.backbones import CONFIGS
from golden.generate.builder import POSITIONS, FolderBuilder
from golden.generate.case import Case
from golden.generate.tokenizers import FAMILIES, write_tokenizer
from golden.generate.weights import randomize

WIDTH = 64
FAMILY_NAMES = ("bert", "distilbert", "electra", "xlmr", "mpnet")


def _transformer(builder: FolderBuilder, kind: str) -> Any:
    folder = builder.scratch / "checkpoint"
    written = write_tokenizer(kind, folder, POSITIONS)
    pad_id = written.get_vocab()[FAMILIES[kind].special_names["pad_token"]]
    config = CONFIGS[kind](written.get_vocab_size(), pad_id, POSITIONS)
    if kind == "distilbert":
        config.update({"dim": WIDTH, "n_heads": 2, "hidden_dim": 2 * WIDTH, "n_layers": 3})
    else:
        sizes = {"hidden_size": WIDTH, "num_attention_heads": 2, "intermediate_size": 2 * WIDTH}
        config.update({**sizes, "num_hidden_layers": 3})
    randomize(transformers.AutoModel.from_config(config), builder.next_seed()).save_pretrained(folder)
    return modules.Transformer(str(folder))


def encoder(builder: FolderBuilder, kind: str) -> None:
    builder.save([_transformer(builder, kind), builder.pooling("mean", WIDTH), modules.Normalize()])


def cls(builder: FolderBuilder) -> None:
    builder.save([_transformer(builder, "bert"), builder.pooling("cls", WIDTH), modules.Normalize()])


def tokens(builder: FolderBuilder) -> None:
    builder.save([_transformer(builder, "bert"), builder.pooling(("mean", "max"), WIDTH)])
    builder.run()
    builder.run("tokens", output_value="token_embeddings", ragged=True)


def dense(builder: FolderBuilder) -> None:
    per_token = builder.dense(WIDTH, WIDTH, module_input_name="token_embeddings", module_output_name="token_embeddings")
    builder.save([_transformer(builder, "bert"), per_token, builder.pooling("mean", WIDTH)])


CASES: dict[str, Case] = {
    **{
        f"wide_{kind}": Case(f"{kind} encoder of width {WIDTH}, mean pooling, Normalize", partial(encoder, kind=kind))
        for kind in FAMILY_NAMES
    },
    "wide_bert_cls": Case("the same with CLS pooling, which takes one row of the last layer", cls),
    "wide_bert_dense": Case("a Dense for each token behind the last layer", dense),
    "wide_bert_tokens": Case("mean and max pooling, and token embeddings", tokens),
}
