"""Tiny transformers of every architecture the passes meet, and how a graph is run without an optimizer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
import transformers
from onnx_ir.passes.common import ShapeInferencePass

from tests.conftest import _uncollected as uncollected
from tests.traces import Traces

Feeds = Mapping[str, npt.NDArray[Any]]
Text = Callable[..., ir.Model]
Trace = Callable[[str], ir.Model]
Compare = Callable[[ir.Model, ir.Model, Sequence[Feeds]], None]

_COMMON: dict[str, Any] = {
    "vocab_size": 99,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 36,
    "max_position_embeddings": 40,
}
_TWO = {**_COMMON, "num_hidden_layers": 2}
_CONFIGS: dict[str, Callable[[], Any]] = {
    "bert": lambda: transformers.BertConfig(**_TWO),
    "distilbert": lambda: transformers.DistilBertConfig(
        vocab_size=99, dim=32, n_layers=1, n_heads=4, hidden_dim=36, max_position_embeddings=40
    ),
    "mpnet": lambda: transformers.MPNetConfig(**_COMMON),
    "roberta": lambda: transformers.RobertaConfig(**_COMMON, pad_token_id=1),
    "albert": lambda: transformers.AlbertConfig(**_TWO, embedding_size=16),
    "electra": lambda: transformers.ElectraConfig(**_COMMON, embedding_size=16),
    "t5": lambda: transformers.T5Config(vocab_size=99, d_model=32, d_kv=8, d_ff=36, num_layers=1, num_heads=4),
    "modernbert": lambda: transformers.ModernBertConfig(
        **_TWO,
        **dict.fromkeys(("cls_token_id", "sep_token_id", "bos_token_id", "eos_token_id", "pad_token_id"), 0),
        local_attention=4,
        global_attn_every_n_layers=2,
    ),
    "qwen3": lambda: transformers.Qwen3Config(**_COMMON, num_key_value_heads=2, head_dim=8, use_cache=False),
    # Half of each head's numbers turn.
    "stablelm": lambda: transformers.StableLmConfig(
        **_COMMON, num_key_value_heads=4, partial_rotary_factor=0.5, use_cache=False
    ),
    # Of each head's numbers the first turn, neighbours together; attention and network read the same norm.
    "gptj": lambda: transformers.GPTJConfig(
        vocab_size=99, n_embd=32, n_layer=1, n_head=2, n_positions=40, rotary_dim=8, use_cache=False
    ),
    # A soft cap that bends what the scores of such weights are.
    "gemma2": lambda: transformers.Gemma2Config(
        **_COMMON, num_key_value_heads=2, head_dim=8, attn_logit_softcapping=3.0, use_cache=False
    ),
    "deberta": lambda: transformers.DebertaV2Config(
        **_COMMON, relative_attention=True, pos_att_type=["p2c", "c2p"], position_buckets=8
    ),
}


class _Hidden(torch.nn.Module):
    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return hidden


def _trace(architecture: str) -> ir.Model:
    torch.manual_seed(7)
    torch.set_num_threads(1)
    config = _CONFIGS[architecture]()
    config._attn_implementation = "eager"
    kind = transformers.T5EncoderModel if architecture == "t5" else transformers.AutoModel.from_config
    model = kind(config)
    # biases start at zero and norms at one: either would hide a pass that drops or swaps them
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.3)
    mask = torch.ones(2, 7, dtype=torch.long)
    mask[1, 4:] = 0
    batch, sequence = torch.export.Dim("batch"), torch.export.Dim("sequence", min=2, max=32)
    program = torch.onnx.export(
        _Hidden(model).eval(),
        (torch.randint(5, 90, (2, 7)), mask),
        dynamo=True,
        opset_version=20,
        input_names=["input_ids", "attention_mask"],
        output_names=["hidden"],
        dynamic_shapes=({0: batch, 1: sequence},) * 2,
        verbose=False,
    )
    assert program is not None
    traced: ir.Model = program.model
    return traced


@pytest.fixture(scope="session")
def retrace() -> Trace:
    """Traces a tiny model with seeded weights as stcompile traces, from scratch."""
    return _trace


@pytest.fixture(scope="session")
def trace(traced: Traces) -> Trace:
    """The same, traced once; every call gives a copy of its own, as passes work in place."""
    source = Path(__file__).read_text(encoding="utf-8")

    def fresh(architecture: str) -> ir.Model:
        return traced(f"{architecture} {source}", lambda: uncollected(_trace)(architecture))

    return fresh


@pytest.fixture(scope="session")
def from_text() -> Text:
    """A graph written as ONNX text, with its shapes inferred; arrays it names are its initializers."""

    def parse(text: str, **arrays: npt.NDArray[Any]) -> ir.Model:
        named = [ir.tensor(array, name=name) for name, array in arrays.items() if re.search(rf"\b{name}\b", text)]
        return ShapeInferencePass()(ir.from_onnx_text(text, named)).model

    return parse


@pytest.fixture(scope="session")
def token_feeds() -> list[Feeds]:
    """Padded batches, one text, one token, a batch of one token, and a text that is nothing but padding."""
    rng = np.random.default_rng(0)
    feeds: list[Feeds] = []
    for batch, length, pads in (
        (3, 11, (0, 4, 9)),
        (1, 6, ()),
        (1, 1, ()),
        (4, 1, ()),
        (2, 5, (5, 0)),
        (2, 30, (0, 7)),
    ):
        mask = np.ones((batch, length), np.int64)
        for row, pad in enumerate(pads):
            mask[row, length - pad :] = 0
        feeds.append({"input_ids": rng.integers(5, 90, (batch, length)), "attention_mask": mask})
    return feeds


@pytest.fixture(scope="session")
def assert_same() -> Compare:
    """Checks that two graphs give the same finite numbers, within float32 rounding, unoptimized."""

    def compare(before: ir.Model, after: ir.Model, feeds: Sequence[Feeds]) -> None:
        reference, candidate = _session(before), _session(after)
        for feed in feeds:
            for expected, actual in zip(reference.run(None, feed), candidate.run(None, feed), strict=True):
                assert np.isfinite(expected).all()
                np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-6 * np.abs(expected).max())

    return compare


def _to_bytes(model: ir.Model) -> bytes:
    return bytes(ir.to_proto(model).SerializeToString())


def _session(model: ir.Model) -> Any:
    options = ort.SessionOptions()
    # the engine must not repair, or redo, what a pass did
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(_to_bytes(model), options, providers=["CPUExecutionProvider"])
