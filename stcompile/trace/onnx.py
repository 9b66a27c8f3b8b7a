"""`ModuleStack` to one ONNX graph, through torch's current exporter."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence

import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.export import Dim

from stcompile.errors import UnsupportedError
from stcompile.stack.module_stack import ModuleStack

# Opset 20 is the newest whose graphs ran in ONNX Runtime for all 21 architectures measured; 23 breaks
# rotary models at batch > 1 (design/measurements).
OPSET = 20

# Large enough that no axis is taken for a constant, small enough for every length limit.
_EXAMPLE_BATCH, _EXAMPLE_SEQUENCE = 2, 7


class _Graph(nn.Module):
    """The stack with positional inputs and outputs, which is what the exporter numbers."""

    def __init__(self, stack: ModuleStack, outputs: Sequence[str]) -> None:
        super().__init__()
        self.stack = stack
        self.names = stack.input_names
        self.outputs = tuple(outputs)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        features = self.stack(dict(zip(self.names, inputs, strict=True)))
        return tuple(features[name] for name in self.outputs)


def trace(stack: ModuleStack, outputs: Sequence[str]) -> ir.Model:
    """Traces the whole stack, attention mask to sentence embedding.

    Args:
        stack: what to trace, in evaluation mode.
        outputs: features to return, e.g. `sentence_embedding` `(batch, dim)` and `token_embeddings`
            `(batch, sequence, hidden)`.

    Returns:
        a graph in opset 20 whose inputs are the stack's `input_names`, with dynamic `batch` and `sequence`.

    Raises:
        UnsupportedError: the exporter cannot trace the network.
    """
    limit = stack.transformer.max_seq_length
    width = _EXAMPLE_SEQUENCE if limit is None else max(2, min(_EXAMPLE_SEQUENCE, limit))
    # torch takes an axis of at most two positions for a constant; the runtime cuts texts in any case.
    batch, sequence = Dim("batch"), Dim("sequence", min=2, max=limit if limit is not None and limit > 2 else None)
    arguments = _example(stack, width)
    shapes = tuple({0: batch, 1: sequence} if value.dim() == 2 else {} for value in arguments)
    graph = _Graph(stack, outputs).eval()
    try:
        with _quiet():
            program = torch.onnx.export(
                graph,
                arguments,
                dynamo=True,
                opset_version=OPSET,
                input_names=list(stack.input_names),
                output_names=list(outputs),
                dynamic_shapes=(shapes,),
                optimize=True,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        cause = " ".join(str(error.__cause__ or error).split())[:400]
        raise UnsupportedError(
            stack.name,
            [f"torch.onnx cannot trace its {stack.transformer.network.config.model_type} network ({cause})"],
        ) from error
    assert program is not None
    return program.model


def _example(stack: ModuleStack, width: int) -> tuple[Tensor, ...]:
    shape = (_EXAMPLE_BATCH, width)
    mask = torch.ones(shape, dtype=torch.int64)
    # One padded row, on the side the tokenizer pads: a mask of ones alone lets networks skip the mask.
    mask[1, 0 if stack.transformer.tokenizer.padding_side == "left" else -1] = 0
    known = {
        "input_ids": torch.arange(shape[0] * width, dtype=torch.int64).reshape(shape) % 5 + 3,
        "attention_mask": mask,
        "token_type_ids": torch.zeros(shape, dtype=torch.int64),
        "prompt_length": torch.tensor(1, dtype=torch.int64),
    }
    return tuple(known[name] for name in stack.input_names)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns about torchvision, axis names and its own deprecations: nothing a user can act on."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
