"""SpladePooling: how strongly each token of the vocabulary is meant, out of a masked language model's logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from stcompile.artifact.manifest import SENTENCE, TOKENS
from stcompile.compiler.modules.base import Features, InputModule, Module
from stcompile.compiler.modules.transformer import Transformer

# Tokens of the vocabulary whose logits are there at once: of a batch of 4,096 positions 32 MB.
BLOCK = 2048


class SpladePooling(Module):
    """`log(1 + relu(logits))`, its maximum or sum over the tokens of a text (module-stack spec, section 15.2).

    Reads `token_embeddings`, the logits `(batch, sequence, vocabulary)`, and `attention_mask`; writes
    `sentence_embedding` `(batch, vocabulary)`, nowhere negative. Special tokens count, padding is zero.

    Behind a network whose last step is a linear layer of the vocabulary it takes that layer over (`stands_behind`), and
    makes its logits block by block: all of them at once are a gigabyte for a batch of long texts.

    Args:
        pooling_strategy: `max` or `sum`.
        activation_function: `relu`, or `log1p_relu`, which takes the logarithm twice.
    """

    config_keys = ("pooling_strategy", "activation_function")
    needs = ("attention_mask",)
    reads = TOKENS
    writes = SENTENCE
    counts_tokens = True

    def __init__(self, pooling_strategy: str = "max", activation_function: str = "relu") -> None:
        super().__init__()
        self.pooling_strategy = pooling_strategy
        self.activation_function = activation_function
        self.blocks: nn.ModuleList | None = None
        self._size = 0

    def stands_behind(self, before: Module) -> None:
        """Takes the linear layer over that the network ends in, where it does."""
        head = before.without_head() if isinstance(before, Transformer) and before.writes == self.reads else None
        if head is None:
            return
        count = len(range(0, head.out_features, BLOCK))
        biases = [None] * count if head.bias is None else torch.split(head.bias.detach(), BLOCK)
        weights = torch.split(head.weight.detach(), BLOCK)
        self._size = head.out_features
        self.blocks = nn.ModuleList(_linear(weight, bias) for weight, bias in zip(weights, biases, strict=True))

    def forward(self, features: Features) -> Features:
        rows, mask = features[TOKENS], features["attention_mask"]
        if self.pooling_strategy == "max":
            rows = _without_padding(rows, mask)
        if self.blocks is None:
            pooled = self._pooled(rows, mask)
        else:
            # One block after the other, in the graph too: its logits are gone before the next one's are made.
            pooled = torch.cat([self._pooled_block(block, rows, mask) for block in self.blocks], dim=-1)
        if self.pooling_strategy == "max":
            # Nothing of a text that is nothing but padding.
            pooled = pooled * mask.amax(dim=1, keepdim=True).to(pooled.dtype)
        return {**features, SENTENCE: pooled}

    def out_width(self, in_width: int) -> int:
        return in_width if self.blocks is None else self._size

    def misfits(self, front: InputModule) -> list[str]:
        if isinstance(front, Transformer) and front.makes_logits:
            return []
        return [
            "reads logits of the vocabulary, and nothing before it makes any: set transformer_task to fill-mask in "
            "sentence_bert_config.json"
        ]

    def _pooled_block(self, block: nn.Module, rows: Tensor, mask: Tensor) -> Tensor:
        assert isinstance(block, nn.Linear)
        if self.pooling_strategy != "max" or block.bias is None:
            return self._pooled(block(rows), mask)
        # What is added to all tokens alike may be added to the largest.
        return self._activated(functional.linear(rows, block.weight).amax(dim=1) + block.bias)

    def _pooled(self, logits: Tensor, mask: Tensor) -> Tensor:
        if self.pooling_strategy == "max":
            # Both functions grow, so that the largest logit is the largest of what they make.
            return self._activated(logits.amax(dim=1))
        return (mask.unsqueeze(1).to(logits.dtype) @ self._activated(logits)).squeeze(1)

    def _activated(self, logits: Tensor) -> Tensor:
        found = torch.log1p(functional.relu(logits))
        return torch.log1p(found) if self.activation_function == "log1p_relu" else found


def _without_padding(rows: Tensor, mask: Tensor) -> Tensor:
    """Rows `(batch, sequence, width)` with one of the text's own tokens in place of padding, which changes no maximum.

    Cheaper than to mask logits, of which there are a hundred times as many.
    """
    taken = mask.bool().unsqueeze(-1)
    first = mask.to(rows.dtype).argmax(dim=1, keepdim=True).unsqueeze(-1)
    token = rows.gather(1, first.expand(-1, -1, rows.shape[-1]))
    return torch.where(taken, rows, token)


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias)
    return layer
