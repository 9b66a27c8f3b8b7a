"""Folders in the layouts of older releases."""

from __future__ import annotations

import shutil

from sentence_transformers.sentence_transformer import modules
from torch import nn

from golden.generate.backbones import HIDDEN
from golden.generate.builder import FolderBuilder
from golden.generate.case import Case
from golden.generate.files import write_json
from golden.generate.inputs import PROMPTS
from golden.generate.legacy import as_v3, into_subfolder, old_length, to_pickle

# The only booleans the first releases wrote.
FOUR_BOOLEANS = {
    "cls_token": False,
    "mean_tokens": False,
    "max_tokens": False,
    "mean_sqrt_len_tokens": False,
}


def pooling_mean(builder: FolderBuilder) -> None:
    builder.save([builder.transformer(), builder.pooling()])
    as_v3(builder)


def pooling_multi(builder: FolderBuilder) -> None:
    builder.save([builder.transformer(), builder.pooling(("cls", "max", "mean"))])
    as_v3(builder, pooling={**FOUR_BOOLEANS, "cls_token": True, "mean_tokens": True, "max_tokens": True})


def pooling_missing_mean_key(builder: FolderBuilder) -> None:
    builder.save([builder.transformer(), builder.pooling("cls")])
    as_v3(builder, pooling={"cls_token": True})


def pooling_all_false(builder: FolderBuilder) -> None:
    builder.save([builder.transformer(), builder.pooling()])
    as_v3(builder, pooling=FOUR_BOOLEANS)


def v3_folder(builder: FolderBuilder) -> None:
    transformer = builder.transformer("bert_cased", model_max_length=512)
    builder.save([transformer, builder.pooling(), builder.dense(HIDDEN, 24), modules.Normalize()])
    as_v3(builder, max_seq_length=24, do_lower_case=True)
    shutil.rmtree(builder.folder / "3_Normalize")


def v2_bin_weights(builder: FolderBuilder) -> None:
    transformer = builder.transformer()
    builder.save([transformer, builder.pooling(), builder.dense(HIDDEN, 24, nn.Identity(), bias=False)])
    as_v3(builder, max_seq_length=32)
    to_pickle(builder)
    to_pickle(builder, "2_Dense")
    versions = {"sentence_transformers": "2.0.0", "transformers": "4.6.1", "pytorch": "1.8.1"}
    write_json(builder.folder / "config_sentence_transformers.json", {"__version__": versions})


def v1_subfolder(builder: FolderBuilder) -> None:
    builder.save([builder.transformer(), builder.pooling()])
    as_v3(builder, max_seq_length=40)
    (builder.folder / "config_sentence_transformers.json").unlink()
    into_subfolder(builder, "0_Transformer")
    write_json(builder.folder / "config.json", {"__version__": "1.2.0"})


def roberta_config_name(builder: FolderBuilder) -> None:
    builder.save([builder.transformer("roberta"), builder.pooling()])
    as_v3(builder, max_seq_length=20)
    config = builder.folder / "sentence_bert_config.json"
    config.rename(config.with_name("sentence_roberta_config.json"))


def exclude_prompt(builder: FolderBuilder) -> None:
    builder.save([builder.transformer(), builder.pooling(include_prompt=False)], prompts=PROMPTS)
    as_v3(builder)
    builder.run(prompt_name="query")
    builder.run("bare", prompt_name="bare")


def model_args_keys(builder: FolderBuilder) -> None:
    builder.save([builder.transformer(), builder.pooling()])
    as_v3(builder)
    old_length(
        builder,
        60,
        model_args={"trust_remote_code": True},
        tokenizer_args={"model_max_length": 18, "trust_remote_code": True},
        config_args={},
    )


def max_seq_length_null(builder: FolderBuilder) -> None:
    builder.save([builder.transformer(), builder.pooling()])
    as_v3(builder, max_seq_length=None)
    # What Transformers writes for a tokenizer without a limit.
    unlimited = 1000000000000000019884624838656
    builder.edit("tokenizer_config.json", lambda config: {**config, "model_max_length": unlimited})


CASES: dict[str, Case] = {
    "legacy_pooling_mean": Case("Pooling config of booleans only, as releases 2 and 3 wrote it", pooling_mean),
    "legacy_pooling_multi": Case(
        "booleans cls, mean and max all set, four keys only: concatenated in a fixed order", pooling_multi
    ),
    "legacy_pooling_missing_mean_key": Case("no key pooling_mode_mean_tokens: cls alone", pooling_missing_mean_key),
    "legacy_pooling_all_false": Case("every boolean false: mean", pooling_all_false),
    "legacy_v3_folder": Case(
        "release 3: old type paths, max_seq_length and do_lower_case, boolean pooling, Dense,"
        " Normalize without a folder",
        v3_folder,
    ),
    "legacy_v2_bin_weights": Case("release 2: pytorch_model.bin in the root and in the Dense folder", v2_bin_weights),
    "legacy_v1_subfolder": Case(
        "release 1: the transformer lives in 0_Transformer, the root config.json only has a version",
        v1_subfolder,
    ),
    "legacy_roberta_config_name": Case(
        "sentence_roberta_config.json instead of sentence_bert_config.json", roberta_config_name
    ),
    "legacy_exclude_prompt": Case("release 3 with include_prompt false and a prompt", exclude_prompt),
    "legacy_model_args_keys": Case(
        "model_args, tokenizer_args and config_args: tokenizer_args wins over max_seq_length",
        model_args_keys,
    ),
    "legacy_max_seq_length_null": Case(
        "max_seq_length null and a tokenizer without a limit: the number of positions", max_seq_length_null
    ),
}
