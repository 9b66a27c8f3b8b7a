"""LSTM: a recurrent network over the tokens of each text, in one direction or both."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from stcompile.artifact.manifest import TOKENS
from stcompile.compiler.kinds.lstm import KIND
from stcompile.compiler.modules.base import Features, Module
from stcompile.errors import InputError

# Any opset since 14 has this LSTM; the exporter asks which one is meant.
_OPSET = 20


class LSTM(Module):
    """Runs over each row as far as it is long, so that padding changes nothing (module-stack spec, section 8.3).

    Reads and writes `token_embeddings`, `(batch, sequence, in)` to `(batch, sequence, hidden * directions)`, the
    forward direction first; zeros behind a row's end. Reads `sentence_lengths` `(batch,)`, of which 0 counts as 1.

    Args:
        embedding_dimension: width of the token embeddings.
        hidden_dim: width of each direction's state.
        num_layers: layers, each over the one before.
        dropout: between the layers, in training.
        bidirectional: also run from the end to the beginning.
        word_embedding_dimension: the older name of `embedding_dimension`.

    Raises:
        InputError: a width or the number of layers is missing or no positive number.
    """

    config_file: ClassVar[str] = KIND.config_files[0]
    config_keys = ("embedding_dimension", "hidden_dim", "num_layers", "dropout", "bidirectional")
    has_weights: ClassVar[bool] = True
    counts_tokens: ClassVar[bool] = True
    needs = ("sentence_lengths",)
    reads = TOKENS
    writes = TOKENS
    gate_order: Tensor

    def __init__(
        self,
        embedding_dimension: int | None = None,
        hidden_dim: int | None = None,
        num_layers: int = 1,
        dropout: float = 0,
        bidirectional: bool = True,
        *,
        word_embedding_dimension: int | None = None,
    ) -> None:
        super().__init__()
        width = embedding_dimension if embedding_dimension is not None else word_embedding_dimension
        if not all(isinstance(size, int) and size > 0 for size in (width, hidden_dim, num_layers)):
            raise InputError("LSTM needs embedding_dimension, hidden_dim and num_layers, positive whole numbers")
        assert width is not None
        assert hidden_dim is not None
        self.embedding_dimension = width
        self.hidden_dim = hidden_dim
        self.num_layers = num_layers
        self.dropout = dropout
        self.bidirectional = bidirectional
        self.encoder = nn.LSTM(
            width, hidden_dim, num_layers, dropout=dropout, bidirectional=bidirectional, batch_first=True
        )
        # torch's gates are input, forget, cell, output; ONNX's are input, output, forget, cell.
        order = torch.arange(4 * hidden_dim).reshape(4, hidden_dim)[[0, 3, 1, 2]].flatten()
        self.register_buffer("gate_order", order, persistent=False)

    @property
    def in_width(self) -> int:
        return self.embedding_dimension

    def out_width(self, in_width: int) -> int:
        return self.hidden_dim * self._directions

    def forward(self, features: Features) -> Features:
        x = features[TOKENS]
        lengths = features["sentence_lengths"].clamp(min=1)
        run = self._traced if torch.compiler.is_exporting() else self._packed
        return {**features, TOKENS: run(x, lengths)}

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    def _packed(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.encoder(packed)[0], batch_first=True, total_length=x.shape[1])[0]

    def _traced(self, x: Tensor, lengths: Tensor) -> Tensor:
        """As `_packed`, one ONNX LSTM per layer and direction. Packed sequences have no counterpart there.

        What runs backwards is turned around row by row, within each row's length: in a bidirectional LSTM OpenVINO
        begins at the end of the padding, and behind a row's end it leaves whatever the memory held.
        """
        ends = lengths.to(torch.int64)
        within = (torch.arange(x.shape[1], device=x.device)[:, None] < ends[None, :])[:, :, None]
        state = x.transpose(0, 1)
        for layer in range(self.num_layers):
            found = self._run(state, f"l{layer}")
            if self.bidirectional:
                backwards = self._run(_turned(state, ends), f"l{layer}_reverse")
                found = torch.cat([found, _turned(backwards, ends)], dim=2)
            state = torch.where(within, found, 0.0)
        return state.transpose(0, 1)

    def _run(self, x: Tensor, which: str) -> Tensor:
        """One direction of one layer, `(sequence, batch, in)` to `(sequence, batch, hidden)`."""
        state = torch.onnx.ops.symbolic(
            "LSTM",
            [x, *self._onnx_weights(which)],
            {"hidden_size": self.hidden_dim},
            dtype=x.dtype,
            shape=[x.shape[0], 1, x.shape[1], self.hidden_dim],
            version=_OPSET,
        )
        assert isinstance(state, Tensor)
        return state.squeeze(1)

    def _onnx_weights(self, which: str) -> tuple[Tensor, Tensor, Tensor]:
        """W `(1, 4 hidden, in)`, R `(1, 4 hidden, hidden)` and B `(1, 8 hidden)`.

        The engine does this once, as it loads the graph: nothing here depends on an input.
        """

        def ordered(kind: str) -> Tensor:
            # No index_select: its Gather on a large weight is what the lookup in a table of words looks like.
            weight = getattr(self.encoder, f"{kind}_{which}")[self.gate_order]
            assert isinstance(weight, Tensor)
            return weight.unsqueeze(0)

        return ordered("weight_ih"), ordered("weight_hh"), torch.cat([ordered("bias_ih"), ordered("bias_hh")], dim=1)


def _turned(x: Tensor, ends: Tensor) -> Tensor:
    """`(sequence, batch, hidden)`, each row of the batch backwards as far as it is long."""
    turned = torch.onnx.ops.symbolic(
        "ReverseSequence",
        [x, ends],
        {"batch_axis": 1, "time_axis": 0},
        dtype=x.dtype,
        shape=list(x.shape),
        version=_OPSET,
    )
    assert isinstance(turned, Tensor)
    return turned
