"""float16 and bfloat16 judged by arithmetic that is theirs: ONNX's own reference evaluator.

ONNX Runtime's CPU has next to no float16 kernels: it takes the casts out of a graph and computes in float32, so what it
proves of a float16 graph is the cosine of another computation; of bfloat16 it has none. Here every operator's result is
rounded wherever the graph says so, and sums are added up in float32, as GPUs do. What is judged is the graph before any
fusion: the evaluator knows no operators of ONNX Runtime's own, and fused ones round less often than what they replace.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import ModelProto
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from onnx.reference.ops import load_op

from stcompile.artifact.manifest import LOGITS
from stcompile.artifact.target import Tolerance
from stcompile.compiler.metrics import distance
from stcompile.compiler.parity.probes import probe_texts
from stcompile.compiler.passes import CleanGraph, run_pipeline
from stcompile.compiler.pictures import probe_pictures
from stcompile.compiler.quantize.half import FLOAT16, MOVES, ShortFloat, shorten
from stcompile.compiler.stack.image_route import ImageRoute
from stcompile.compiler.stack.route import Route
from stcompile.errors import ParityError, one_line
from stcompile.runtime.text.base import Text

# Operators that round nothing, or only to the type they name.
_AS_THEY_ARE = MOVES | {"Cast", "CastLike", "Where", "GatherElements", "GatherND"}

# Short texts, run as one padded batch, and a longer one by itself, in whose later positions rotary angles are large.
_TEXTS, _SHORTEST, _LONGEST = 8, 8, 60
_LONG_TEXT_CHARS = 900

# Products of a weight and a token that a long text may cost: some ten seconds of numpy.
_BUDGET = 4e10


def judge_half(graph: ir.Model, route: Route, tolerance: Tolerance, name: str, number: ShortFloat) -> str:
    """Runs a traced float32 graph, which is used up, in 16 bits on a few texts or images, and compares it with torch.

    Returns:
        what was found, as a sentence for the report; also where the evaluator cannot run the graph.

    Raises:
        ParityError: it is not within tolerance, or overflows.
    """
    graph, _ = run_pipeline(graph, (CleanGraph(),))
    weights = sum(value.const_value.size for value in graph.graph.initializers.values() if value.const_value)
    shorten(graph, number)
    batches, what = (
        (_images(route, weights), "images") if isinstance(route, ImageRoute) else (_texts(route, weights), "texts")
    )
    feeds = [route.feeds(batch) for batch in batches]
    try:
        evaluator = _Evaluator(ir.to_proto(graph), number)
        found = [route.answers_in(evaluator.vectors(inputs), inputs) for inputs in feeds]
    except (
        Exception
    ) as error:  # of an operator that the evaluator does not know or knows wrongly, and of protobuf's size
        detail = f"{type(error).__name__}: {one_line(error, 150)}"
        compared = (
            "on a CPU the engine computes it in float32, which is all that parity compared"
            if number is FLOAT16
            else "parity alone compared it, on a GPU"
        )
        return f"{number.name} was not judged: ONNX's reference evaluator cannot run the graph ({detail}); {compared}"
    expected = [route.encode(batch, batch_size=len(batch), output=route.raw) for batch in batches]
    worst = float(distance(*(route.comparable(np.concatenate(rows)) for rows in (expected, found))).cosine.min())
    texts = sum(map(len, batches))
    if worst >= tolerance.min_cosine:
        return (
            f"{number.name} was judged by ONNX's reference evaluator, which rounds every result to it: {texts} {what}, "
            f"min cosine {worst:.6f}; the largest number was {evaluator.largest:.3g} of {number.largest:.6g}"
        )
    cause = f"min cosine {worst:.6f} is below {tolerance.min_cosine:g} on {texts} {what}"
    if evaluator.largest > number.largest:
        end = f"{number.name} ends at {number.largest:.6g}"
        cause = f"a value of the network is {evaluator.largest:.6g}, and {end}: {cause}"
    raise ParityError(
        f"{name} cannot be computed in {number.name}, by ONNX's reference evaluator ({cause}). Nothing was published. "
        f"Choose {'onnx-bf16 or onnx-fp32' if number is FLOAT16 else 'onnx-fp32'}"
    )


def _images(route: ImageRoute, weights: int) -> list[list[Any]]:
    """As many of the probe pictures as the evaluator's time allows, one at least."""
    most = int(_BUDGET // max(1, weights * route.tower.positions))
    return [[picture.pixels for picture in probe_pictures()[: min(max(1, most), _TEXTS)]]]


def _texts(route: Route, weights: int) -> list[list[Text]]:
    known = sorted((text for text in probe_texts() if _SHORTEST <= len(text) <= _LONGEST), key=len)
    short = known[:: max(1, len(known) // _TEXTS)][:_TEXTS]
    own = route.front.probe_texts()[:2]
    long = " ".join(probe_texts())[:_LONG_TEXT_CHARS]
    tokens = int(next(iter(route.feeds(route.examples_of([long])).values())).size)
    found = [[*own, *short], *([[long]] if weights * tokens <= _BUDGET else [])]
    return [route.examples_of(batch) for batch in found]


class _Evaluator:
    """The reference evaluator with operators that compute in float32 and round to 16 bits.

    Its own add up in 16 bits, norms for one, which no engine does and the operator's definition (stash_type) does not
    say.

    Args:
        proto: the graph.
        number: what is rounded to.
        beside: operators that the evaluator does not know.

    Attributes:
        largest: the largest magnitude before a result was rounded, infinities of masks left out.
    """

    def __init__(self, proto: ModelProto, number: ShortFloat, beside: Sequence[type[OpRun]] = ()) -> None:
        self.largest = 0.0
        computing = {node.op_type for node in proto.graph.node if not node.domain} - MOVES - _AS_THEY_ARE
        opset = next(item.version for item in proto.opset_import if not item.domain)
        rounding = (_rounding(kind, opset, self._note, number) for kind in sorted(computing))
        operators: list[type[OpRun]] = [GatherElements, *(kind for kind in rounding if kind is not None)]
        operators += [_rounded(kind, self._note, number) for kind in beside]
        self._evaluator = ReferenceEvaluator(proto, new_ops=operators)
        self._names = [item.name for item in proto.graph.input]
        made = [item.name for item in proto.graph.output]
        self._output = made.index(LOGITS) if LOGITS in made else 0

    def vectors(self, feeds: dict[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        """For one batch the embeddings, or what scores are made of, float32 `(batch, dim)`."""
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found: Any = self._evaluator.run(None, {name: feeds[name] for name in self._names})
        return np.asarray(found[self._output], dtype=np.float32)

    def _note(self, results: Sequence[Any]) -> None:
        for result in results:
            finite = np.abs(result[np.isfinite(result)])
            self.largest = max(self.largest, float(finite.max(initial=0)))


class GatherElements(OpRun):
    """`GatherElements`, in place of the evaluator's own, which fails above 64 rows and for fewer indices than rows."""

    op_domain = ""

    def _run(self, data: NDArray[Any], indices: NDArray[Any], axis: int = 0) -> tuple[NDArray[Any]]:
        axis %= data.ndim
        part = tuple(slice(None if at == axis else size) for at, size in enumerate(indices.shape))
        return (np.take_along_axis(data[part], indices, axis=axis),)


def _rounding(kind: str, opset: int, note: Any, number: ShortFloat) -> type[OpRun] | None:
    """An operator that computes in float32 whatever it is given, and rounds to 16 bits what it was given in that."""
    try:
        base = load_op("", kind, opset)
    except Exception:  # made of other operators, which are rounded themselves
        return None
    return _rounded(base, note, number) if isinstance(base, type) and issubclass(base, OpRun) else None


def _rounded(base: type[OpRun], note: Any, number: ShortFloat) -> type[OpRun]:
    computed: Any = base._run

    def run(self: Any, *inputs: Any, **attributes: Any) -> tuple[Any, ...]:
        if not any(_is_in(item, number) for item in inputs):
            return tuple(computed(self, *inputs, **attributes))
        wide = [item.astype(np.float32) if _is_in(item, number) else item for item in inputs]
        results = tuple(computed(self, *wide, **attributes))
        floats = [np.asarray(item) for item in results if item is not None and np.asarray(item).dtype.kind == "f"]
        note(floats)
        return tuple(
            item if item is None or np.asarray(item).dtype.kind != "f" else np.asarray(item).astype(number.numpy)
            for item in results
        )

    return type(base.__name__.partition("_")[0], (base,), {"_run": run, "op_domain": base.op_domain})


def _is_in(item: Any, number: ShortFloat) -> bool:
    return isinstance(item, (np.ndarray, np.generic)) and item.dtype == number.numpy
