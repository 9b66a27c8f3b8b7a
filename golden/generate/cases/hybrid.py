"""Folders with heads of FlagEmbedding beside their modules; what those make, `golden.flag_embedding` records."""

from __future__ import annotations

import torch
from sentence_transformers.sentence_transformer import modules
from torch import nn

from golden.generate.backbones import HIDDEN
from golden.generate.builder import FolderBuilder
from golden.generate.case import Case


def bge_m3(builder: FolderBuilder, width: int = HIDDEN) -> None:
    """As bge-m3's folder is: its dense vectors by sentence-transformers, its heads in two files."""
    builder.run()
    transformer = builder.transformer("xlmr")
    builder.save([transformer, modules.Pooling(HIDDEN, pooling_mode="cls"), modules.Normalize()])
    for file, out in (("sparse_linear.pt", 1), ("colbert_linear.pt", width)):
        torch.save(builder.random(nn.Linear(HIDDEN, out)).state_dict(), builder.folder / file)


CASES: dict[str, Case] = {
    "bge_m3": Case("heads of FlagEmbedding: weights of words, and vectors of tokens as wide as the network", bge_m3),
}
