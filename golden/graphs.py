"""What every golden model compiles to, as text: a pass that stops firing is seen in review.

python -m golden.graphs compiles golden/models for every pipeline below, as `stcompile export` does but without a proof,
and compares the graphs with the accepted ones in golden/graphs. Of each graph a line is kept there: its operators,
counted, and a hash of its full text, which `--show MODEL` prints. No weight and no generated name is in it, so that it
is the same in every run and on every CPU.
"""

from __future__ import annotations

import argparse
import fnmatch
import gc
import hashlib
import json
import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

if __name__ == "__main__":
    # Read while the libraries are imported, hence above them; whoever imports this file has an environment of his own.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"

import onnx_ir as ir

from stcompile.artifact.manifest import SENTENCE, TEXT, TOKENS
from stcompile.artifact.target import TARGETS
from stcompile.compiler import export
from stcompile.compiler.parity.verify import tolerance_for
from stcompile.compiler.passes import pipeline_for
from stcompile.compiler.quantize.calibration import CalibrationSet
from stcompile.compiler.quantize.layer_bodies import TYPES
from stcompile.compiler.request import ExportOptions, ExportRequest
from stcompile.compiler.stack.load import load_stack
from stcompile.compiler.steps import silent_step
from stcompile.compiler.trace.onnx import trace
from stcompile.errors import UnsupportedError

GOLDEN = Path(__file__).resolve().parent
MODELS = GOLDEN / "models"
EXPECTED = GOLDEN / "expected"
ACCEPTED = GOLDEN / "graphs"


# For what is calibrated, which takes seconds, one model of each kind: its layers are quantized one like the other.
OF_EACH_KIND = (
    *("full_stack", "backbone_*", "wide_*", "clip_text", "custom_module", "router_first_static_query", "pool_cls"),
    *("pool_lasttoken", "pool_max", "pool_weightedmean", "weighted_layer_pooling", "cnn_over_transformer"),
    *("transformer_wordweights", "wordemb_cnn", "wordemb_lstm_bi", "wordemb_transformers_tokenizer"),
    *("static_dense", "model2vec_folder_int8", "bow_dense_normalize", "dense_two", "layernorm", "text_pairs"),
    *("reranker_bert", "reranker_logit_score", "sparse_splade", "multi_vector_fixed", "siglip"),
)


@dataclass(frozen=True)
class Pipeline:
    """What graphs are compiled for, and the names of the models that are."""

    target: str
    provider: str = "cpu"
    packed: bool = False
    portable: bool = False
    models: tuple[str, ...] = ("*",)

    def takes(self, model: str) -> bool:
        """Whether a model is among them."""
        return any(fnmatch.fnmatch(model, glob) for glob in self.models)


# A name for each, which is its file's. Between them every pass and every writer of graphs has its turn.
PIPELINES: Mapping[str, Pipeline] = {
    "cpu-fp32": Pipeline("onnx-fp32"),
    "cpu-int8": Pipeline("onnx-int8", models=OF_EACH_KIND),
    "cpu-int8-weights": Pipeline("onnx-int8-weights", models=OF_EACH_KIND),
    "cpu-fp32-portable": Pipeline("onnx-fp32", portable=True, models=OF_EACH_KIND),
    "cuda-fp16": Pipeline("onnx-fp16", "cuda"),
    "cuda-fp32-packed": Pipeline("onnx-fp32", "cuda", packed=True),
    "openvino-int8": Pipeline("openvino-int8", models=OF_EACH_KIND),
}

# What makes graphs: with another version of these they may be others.
LIBRARIES = ("torch", "transformers", "onnxscript", "onnx-ir")

# Larger constants are weights.
_SHOWN_NUMBERS = 8
_WHOLE_NUMBERS = (ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL)

# Model to its graphs by route, the full text of each.
Texts = dict[str, dict[str, str]]


def text_of(model: ir.Model) -> str:
    """A graph in full: a line for each operator, with its attributes and what it reads."""
    domains = ", ".join(f"{name or 'onnx'} {opset}" for name, opset in sorted(model.graph.opset_imports.items()))
    writer = _Writer()
    lines = [domains, *writer.graph(model.graph, "")]
    for function in sorted(model.functions.values(), key=lambda item: item.name):
        lines += [f"function {function.name}", *writer.graph(function.graph, "  ", TYPES)]
    return "\n".join(lines) + "\n"


class _Writer:
    """Names values by where they come from, weights by the order in which they are read."""

    def __init__(self) -> None:
        self._names: dict[ir.Value, str] = {}
        self._nodes = 0
        self._weights = 0

    def graph(self, graph: ir.Graph, indent: str, types: Mapping[str, ir.DataType] | None = None) -> Iterator[str]:
        # A file does not say what the inputs of a function are.
        for number, value in enumerate(graph.inputs):
            # of the graph itself: a part of its contract
            self._names[value] = value.name or f"input {number}" if not indent else f"input {number}"
            dtype = value.dtype if types is None else types.get(str(value.name))
            yield f"{indent}{self._names[value]}: {dtype}"
        for node in graph:
            yield from self._node(node, indent)
        for value in graph.outputs:
            yield f"{indent}{value.name if not indent else 'output'} = {self._of(value)}"

    def _node(self, node: ir.Node, indent: str) -> Iterator[str]:
        number, self._nodes = self._nodes, self._nodes + 1
        for index, value in enumerate(node.outputs):
            self._names[value] = f"%{number}.{index}" if index else f"%{number}"
        read = [*(self._of(value) for value in node.inputs)]
        plain, nested = [], []
        for name, attribute in sorted(node.attributes.items()):
            if attribute.type == ir.AttributeType.GRAPH:
                nested.append((name, attribute.as_graph()))
            else:
                plain.append(f"{name}={_shown(attribute)}")
        yield f"{indent}%{number} = {operator(node)}({', '.join(read)}) {' '.join(plain)}".rstrip()
        for name, graph in nested:
            yield f"{indent}  {name}:"
            yield from self.graph(graph, indent + "    ")

    def _of(self, value: ir.Value | None) -> str:
        if value is None:
            return "-"
        if value not in self._names:
            tensor = value.const_value
            if tensor is None:
                return f"{value.name}?"
            if tensor.dtype in _WHOLE_NUMBERS and tensor.size <= _SHOWN_NUMBERS:
                return _constant(tensor)
            self._names[value] = f"w{self._weights}:{_constant(tensor)}"
            self._weights += 1
        return self._names[value]


def _constant(tensor: ir.TensorProtocol) -> str:
    kind = f"{tensor.dtype}{list(tensor.shape.numpy())}".replace(" ", "")
    if tensor.dtype in _WHOLE_NUMBERS and tensor.size <= _SHOWN_NUMBERS:
        return f"{kind}{tensor.numpy().reshape(-1).tolist()}"
    return kind


def _shown(attribute: ir.Attr) -> str:
    if attribute.is_ref():
        return f"@{attribute.ref_attr_name}"
    if attribute.type == ir.AttributeType.TENSOR:
        return _constant(attribute.as_tensor())
    if attribute.type == ir.AttributeType.FLOAT:
        return f"{attribute.as_float():.6g}"
    if attribute.type == ir.AttributeType.FLOATS:
        return str([float(f"{number:.6g}") for number in attribute.as_floats()])
    return str(attribute.value)


def operator(node: ir.Node) -> str:
    """An operator's type, behind its domain where that is not ONNX's own."""
    return f"{node.domain}.{node.op_type}" if node.domain else node.op_type


def line_of(text: str) -> str:
    """What is kept of a graph: a hash of its text, and its operators counted."""
    if text.startswith(_REFUSED):
        return text.strip()
    found = Counter(
        line.split(" = ", 1)[1].split("(", 1)[0] for line in text.splitlines() if line.lstrip().startswith("%")
    )
    counted = ", ".join(f"{name} {count}" for name, count in sorted(found.items()))
    return f"{hashlib.sha256(text.encode()).hexdigest()[:10]} {counted}"


_REFUSED = "refused: "

# Between graphs of which either is accepted.
_OR = "\t"


def compiled(
    model: str, names: Iterable[str] = tuple(PIPELINES), traces: Path | None = None
) -> dict[str, dict[str, str]]:
    """The graphs of one golden model: pipeline, then route, to the full text.

    It is read and traced once for all of them, or never where `traces`, a folder of `tests.traces`, has what it is.
    """
    # What the model before it left: see `main`.
    gc.collect()
    names = [name for name in names if PIPELINES[name].takes(model)]
    about = json.loads((EXPECTED / model / "case.json").read_text(encoding="utf-8"))
    texts = _strings(json.loads((EXPECTED / about["inputs"]).read_text(encoding="utf-8")))
    tokens = any(run["kwargs"].get("output_value") for run in about["runs"])
    try:
        trusted = bool(about.get("load_kwargs", {}).get("trust_remote_code"))
        whole = load_stack(MODELS / model, trust_remote_code=trusted)
    except UnsupportedError as error:
        return {name: {"": _refusal(error)} for name in names}
    # Images have no padding to be packed without.
    texts_alone = whole if whole.image is None else load_stack(MODELS / model, modalities=[TEXT])
    traced: dict[tuple[Any, ...], ir.Model] = {}
    tracer = trace if traces is None else _kept(traces, MODELS / model, trusted, (whole, texts_alone))

    def traced_once(*arguments: Any) -> ir.Model:
        if arguments not in traced:
            traced[arguments] = tracer(*arguments)
        return traced[arguments].clone()

    found: dict[str, dict[str, str]] = {}
    # The judge of float16 compares numbers, which are parity's business.
    with patch.object(export, "trace", traced_once), patch.object(export, "judge_half", lambda *_: ""):
        for name in names:
            request = _request(PIPELINES[name], (SENTENCE, TOKENS) if tokens else (SENTENCE,), texts)
            stack = texts_alone if PIPELINES[name].packed else whole
            found[name] = {}
            try:
                request = request.fitting(stack)
            except UnsupportedError as error:
                found[name] = dict.fromkeys(stack.graphs, _refusal(error))
                continue
            for route in stack.graphs:
                try:
                    done = export.compiled_route(stack, route, request, silent_step)
                except UnsupportedError as error:
                    found[name][route] = _refusal(error)
                else:
                    found[name][route] = text_of(done.graph)
    return found


def _kept(base: Path, folder: Path, trusted: bool, stacks: Iterable[Any]) -> Callable[..., ir.Model]:
    """A `trace` that takes what the tests traced of this folder, and keeps for them what it traces."""
    from tests import traces  # noqa: PLC0415 - for who has them

    kept = traces.opened_in(base)
    names = {id(route): name for stack in stacks for name, route in traces.routes_of(stack)}

    def traced(route: Any, outputs: Any, name: str) -> ir.Model:
        key = traces.key_of(traces.content_of(folder), trusted, names[id(route)], route, outputs)
        return kept(key, lambda: trace(route, outputs, name))

    return traced


def _request(pipeline: Pipeline, outputs: tuple[str, ...], texts: list[str]) -> ExportRequest:
    """What an export would be asked for; unlike one that is checked, whether or not this machine can run it."""
    target = TARGETS[pipeline.target]
    return ExportRequest(
        ExportOptions(pipeline.target, pipeline.provider, pipeline.packed, pipeline.portable, outputs, texts),
        target,
        pipeline_for(pipeline.provider, openvino=target.is_openvino, packed=pipeline.packed),
        outputs,
        tolerance_for(target, None, None),
        None,
        CalibrationSet("texts", tuple(texts)) if target.calibrates else None,
    )


def _refusal(error: UnsupportedError) -> str:
    return f"{_REFUSED}{' '.join(str(error).partition(': ')[2].split())}\n"


def _strings(texts: Iterable[Any]) -> list[str]:
    return [part for text in texts for part in ([text] if isinstance(text, str) else _strings(text))]


def accepted(pipeline: str, folder: Path = ACCEPTED) -> dict[tuple[str, str], str]:
    """The accepted graphs of a pipeline: model and route to the line that is kept of it.

    Where calibration has two candidates that are nearly as good, CPUs whose last bits differ may choose one each: then
    there is a line for either, joined here.
    """
    file = folder / f"{pipeline}.txt"
    if not file.is_file():
        return {}
    found: dict[tuple[str, str], str] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, _, kept = line.partition(" ")
            model, _, route = name.partition(":")
            found[model, route] = _OR.join(filter(None, (found.get((model, route)), kept)))
    return found


def write(pipeline: str, graphs: Mapping[tuple[str, str], str], folder: Path = ACCEPTED) -> None:
    """Accepts the graphs of a pipeline."""
    folder.mkdir(exist_ok=True)
    libraries = ", ".join(f"{name} {version(name).partition('+')[0]}" for name in LIBRARIES)
    lines = [f"# Written by `make graphs-accept`, with {libraries}."]
    lines += [
        f"{model}{':' * bool(route)}{route} {kept}"
        for (model, route), either in sorted(graphs.items())
        for kept in either.split(_OR)
    ]
    (folder / f"{pipeline}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def differences(
    before: Mapping[tuple[str, str], str], after: Mapping[tuple[str, str], str], models: Iterable[str]
) -> list[str]:
    """What changed, the graphs with equal changes on one line."""
    groups: dict[str, list[str]] = {}
    chosen = set(models)
    for key in sorted({*before, *after}):
        left, right = before.get(key), after.get(key)
        if key[0] in chosen and (left is None or right not in left.split(_OR)):
            groups.setdefault(_change(left and left.partition(_OR)[0], right), []).append(":".join(filter(None, key)))
    return [f"{change}: {', '.join(names)}" for change, names in groups.items()]


def _change(before: str | None, after: str | None) -> str:
    if before is None or after is None:
        return "new" if before is None else "gone"
    if before.startswith(_REFUSED) or after.startswith(_REFUSED):
        return f"was {before[:200]!r}, is {after[:200]!r}"
    left, right = _counts(before), _counts(after)
    moved = [f"{name} {right[name] - left[name]:+d}" for name in sorted({*left, *right}) if left[name] != right[name]]
    return ", ".join(moved) or "the same operators, other inputs or attributes"


def _counts(kept: str) -> Counter[str]:
    counted = (item.rpartition(" ") for item in kept.partition(" ")[2].split(", ") if item)
    return Counter({name: int(count) for name, _, count in counted})


def _joined(before: str | None, line: str, also: bool) -> str:
    """What is accepted: what was, where the line is in it; beside it, or in its place."""
    if before is not None and (also or line in before.split(_OR)):
        return before if line in before.split(_OR) else f"{before}{_OR}{line}"
    return line


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m golden.graphs", description=__doc__.splitlines()[0])
    parser.add_argument("--accept", action="store_true", help="write what was compiled to golden/graphs")
    parser.add_argument("--also", action="store_true", help="accept it beside what was accepted: of another CPU")
    parser.add_argument("--only", nargs="+", metavar="GLOB", help="only the models whose name matches")
    parser.add_argument("--pipeline", nargs="+", choices=PIPELINES, default=list(PIPELINES), help="only these")
    parser.add_argument("--show", metavar="MODEL", help="print a model's graphs in full, and compare nothing")
    parser.add_argument("--traces", metavar="DIR", type=Path, help="what the tests traced, to be used and added to")
    args = parser.parse_args()

    if args.show:
        for name, graphs in compiled(args.show, args.pipeline).items():
            for route, text in graphs.items():
                print(f"== {name} {route}\n{text}")
        return 0
    known = sorted(folder.name for folder in EXPECTED.iterdir() if folder.is_dir())
    chosen = [name for name in known if not args.only or any(fnmatch.fnmatch(name, glob) for glob in args.only)]
    if not chosen:
        parser.error("no model has such a name")
    # Circles of tens of thousands of nodes: looking for them takes a fifth of the time.
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn"), gc.disable) as pool:
        rest = [tuple(args.pipeline)] * len(chosen), [args.traces] * len(chosen)
        found = dict(zip(chosen, pool.map(compiled, chosen, *rest), strict=True))
    changed = False
    for name in args.pipeline:
        before = accepted(name)
        after = {
            (model, route): line_of(text) for model in chosen for route, text in found[model].get(name, {}).items()
        }
        for line in differences(before, after, {*chosen, *(() if args.only else (model for model, _ in before))}):
            changed = True
            print(f"{name}: {line}")
        if args.accept or args.also:
            kept = {key: line for key, line in before.items() if args.only and key[0] not in chosen}
            write(name, {**kept, **{key: _joined(before.get(key), line, args.also) for key, line in after.items()}})
    accepts = args.accept or args.also
    if changed and not accepts:
        print("Look at a graph with `python -m golden.graphs --show MODEL`; accept them all with `make graphs-accept`.")
    return int(changed and not accepts)


if __name__ == "__main__":
    sys.exit(main())
