"""A route of a `ModuleStack` to one ONNX graph, through torch's current exporter."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator, Mapping, Sequence

import onnx_ir as ir
import torch
from onnxscript.rewriter import rewrite
from torch import Tensor, nn
from torch.export import Dim

from stcompile.compiler.modules.backbone import silenced
from stcompile.compiler.modules.base import Example
from stcompile.compiler.stack.route import Route
from stcompile.compiler.trace.adopted import Behind, joined, network_of
from stcompile.compiler.trace.ordered_sets import ordered_sets
from stcompile.compiler.trace.refusals import why_not_traced
from stcompile.compiler.trace.translations import TRANSLATIONS
from stcompile.errors import MissingExtraError, StcompileError, UnsupportedError

logger = logging.getLogger("stcompile")

# Opset 20 is the newest whose graphs ran in ONNX Runtime for all 21 architectures measured; 23 breaks
# rotary models at batch > 1 (design/measurements).
OPSET = 20

_LOUD = ("torch", "onnxscript", "onnx_ir", "transformers")


class _Graph(nn.Module):
    """A route with inputs and outputs in order, which is what the exporter numbers."""

    def __init__(self, route: Route, outputs: Sequence[str]) -> None:
        super().__init__()
        self.stack = route
        self.names = route.input_names
        self.outputs = tuple(outputs)

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        features = self.stack(dict(zip(self.names, inputs, strict=True)))
        return tuple(features[name] for name in self.outputs)


def trace(route: Route, outputs: Sequence[str], name: str) -> ir.Model:
    """Traces all modules of a route, from token ids to the sentence embedding.

    Args:
        route: what to trace, in evaluation mode.
        outputs: features to return, e.g. `sentence_embedding` `(batch, dim)` and `token_embeddings`
            `(batch, sequence, hidden)`.
        name: what to call the model in an error.

    Returns:
        a graph in opset 20, or in the later one of an adopted graph, whose inputs are the route's `input_names`, with
        dynamic axes.

    Raises:
        UnsupportedError: the exporter cannot trace the network, or an adopted graph cannot be joined.
        MissingExtraError: the exporter and a package that it imports do not fit each other.
    """
    network = network_of(route)
    if network is None:
        return _exported(_Graph(route, outputs), route.examples(), route, outputs, name)
    behind = None
    if not network.pools:
        behind = _exported(Behind(route, outputs), Behind.examples(route), route, outputs, name)
    return joined(route, network, behind, outputs)


def _exported(
    module: nn.Module, examples: Mapping[str, Example], route: Route, outputs: Sequence[str], name: str
) -> ir.Model:
    """A module of a route, whose inputs are `examples` in their order, by torch's exporter."""
    limit = route.longest
    axes = {
        "batch": Dim("batch"),
        # torch takes an axis of at most two positions for a constant; the runtime cuts texts in any case.
        "sequence": Dim("sequence", min=2, max=limit if limit is not None and limit > 2 else None),
        "tokens": Dim("tokens"),
    }
    shapes = tuple({index: axes[axis] for index, axis in enumerate(item.axes)} for item in examples.values())
    try:
        with _quiet(), ordered_sets(route):
            program = torch.onnx.export(
                module.eval(),
                (tuple(item.value for item in examples.values()),),
                dynamo=True,
                opset_version=OPSET,
                input_names=list(examples),
                output_names=list(outputs),
                dynamic_shapes=(shapes,),
                custom_translation_table=TRANSLATIONS,
                optimize=True,
                verbose=False,
            )
    except StcompileError:
        raise
    except ImportError as error:  # torch imports the operators of onnxscript by its own release
        raise MissingExtraError(
            f"torch {torch.__version__} cannot export with what is installed beside it ({error}): "
            "pip install --upgrade 'stcompile[compile]'"
        ) from error
    except Exception as error:  # the exporter lets torch's own errors through beside its own
        raise UnsupportedError(name, why_not_traced(route, error)) from error
    finally:
        _forget()
    assert program is not None
    return program.model


def _forget() -> None:
    """Gives onnxscript's rewrite rules another graph to remember than the network's.

    Each rule is one object for the whole process and keeps the graph that it last looked at, with every weight that was
    ever in it, for as long as the process lives. A rule of two nodes only looks where there are two of the kind.
    """
    x, index = (ir.val(name, ir.DataType.INT64, (1,)) for name in ("x", "index"))
    slices = [ir.node("Slice", [x, index, index]) for _ in range(2)]
    graph = ir.Graph([x, index], [out for node in slices for out in node.outputs], nodes=slices)
    graph.opset_imports[""] = OPSET
    rewrite(ir.Model(graph, ir_version=10))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps what the exporter prints from the user: warnings that nobody can act on, and dumps of the traced graph.

    Where our own log is at DEBUG (`--verbose`), everything is shown.
    """
    if logger.isEnabledFor(logging.DEBUG):
        yield
        return
    with silenced(_loud()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _loud() -> list[str]:
    """The exporter's loggers, and those of what it stands on, that do not take their level from one above them."""
    known = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] in _LOUD]
    # To set a level clears what every logger remembers: the several hundred that have none are left alone.
    return [*_LOUD, *(name for name in known if "." in name and logging.getLogger(name).level)]
