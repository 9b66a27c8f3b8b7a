"""Why torch's exporter cannot trace a network, in one sentence of ours: its own words are about its insides."""

from __future__ import annotations

import re

import torch

from stcompile.compiler.modules import CustomModule, Transformer
from stcompile.compiler.stack.route import Route

# What the exporter says of each kind of failure: the first that is found names it.
_KINDS = (
    (r"grouped_mm|experts", "sends each token to experts of its own, for which ONNX has no operator"),
    (
        r"No ONNX function found for[^'\"]*['\"](?P<operator>[\w.]+)",
        "has the operator {operator}, which ONNX does not have",
    ),
    (
        r"(?i)data.dependent|unbacked|could not guard",
        "decides by a text's tokens what it computes next, which no graph can",
    ),
    (
        r"(?i)constraints? violated|specialized|marked.*as dynamic",
        "computes for one length of text at a time, and a graph is for all lengths",
    ),
)
# What constraints.txt pins.
TRIED = "2.13"

_OTHERWISE = "does something that it does not know"


def why_not_traced(route: Route, error: BaseException) -> str:
    """The reason and its remedy, as the end of "... cannot be compiled: "."""
    words = "\n".join(str(item) for item in _chain(error))
    reason = next(
        (text.format(**found.groupdict()) for pattern, text in _KINDS if (found := re.search(pattern, words))),
        _OTHERWISE,
    )
    return (
        f"torch's exporter cannot follow {_part(route)}, which {reason}: {_newer()}compile a model of another "
        "architecture, or keep this one on sentence-transformers; --verbose shows the exporter's trace"
    )


def _newer() -> str:
    """The first remedy where torch is older than what most was tried with: its exporter has learnt since."""
    installed = torch.torch_version.TorchVersion(torch.__version__)
    return f"update torch, of which {installed} is installed, " if installed < TRIED else ""


def _part(route: Route) -> str:
    """The network, or the code of its own, where there is one: what is not ours is what fails."""
    custom = [block.type_path for block in route.blocks if isinstance(block, CustomModule)]
    networks = [block.network.config.model_type for block in route.blocks if isinstance(block, Transformer)]
    parts = [f"the network of its Transformer ({name})" for name in networks]
    parts += [f"its module {name}" for name in custom]
    return " or ".join(parts) or f"its modules {', '.join(type(block).__name__ for block in route.blocks)}"


def _chain(error: BaseException | None) -> list[BaseException]:
    """An error and what it came from, the innermost first."""
    found: list[BaseException] = []
    while error is not None:
        found.insert(0, error)
        error = error.__cause__ or error.__context__
    return found
