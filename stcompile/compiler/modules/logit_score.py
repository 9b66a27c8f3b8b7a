"""LogitScore: a causal network's answer, yes or no, as a score."""

from __future__ import annotations

from stcompile.artifact.manifest import SCORES
from stcompile.compiler.modules.base import Features, InputModule, Module
from stcompile.compiler.modules.transformer import Transformer


class LogitScore(Module):
    """The logit of one token of the vocabulary, minus that of another, at the last position (spec section 14).

    Reads `(batch, sequence, vocabulary)`, writes `scores` `(batch, 1)`. Rows must be padded on the left.

    Args:
        true_token_id: the token that means a match.
        false_token_id: the one that means none; None takes the first logit as it is.
        module_input_name: feature to read.
    """

    config_keys = ("true_token_id", "false_token_id", "module_input_name")
    writes = SCORES

    def __init__(
        self, true_token_id: int, false_token_id: int | None = None, module_input_name: str = "causal_logits"
    ) -> None:
        super().__init__()
        self.true_token_id = true_token_id
        self.false_token_id = false_token_id
        self.module_input_name = self.reads = module_input_name
        # Where the logits of the tokens are.
        self._rows: tuple[int, ...] = (true_token_id,) if false_token_id is None else (true_token_id, false_token_id)

    def stands_behind(self, before: Module) -> None:
        """Lets the network in front of it make no other logits than the one or two that it reads.

        Raises:
            UnsupportedError: there is no such token.
        """
        if not isinstance(before, Transformer) or before.writes != self.reads:
            return
        known = [self.true_token_id, *([] if self.false_token_id is None else [self.false_token_id])]
        before.keep_logits(known)
        self._rows = tuple(range(len(known)))

    def forward(self, features: Features) -> Features:
        logits = features[self.reads][:, -1]
        score = logits[:, self._rows[0], None]
        if len(self._rows) > 1:
            score = score - logits[:, self._rows[1], None]
        return {**features, SCORES: score}

    def out_width(self, in_width: int) -> int:
        return 1

    def misfits(self, front: InputModule) -> list[str]:
        largest = max(self._rows)
        size = front.out_width(0)
        return [] if largest < size else [f"takes the logit of token {largest}, and there are {size}: correct its ids"]
