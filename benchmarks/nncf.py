"""Is our int8 nearer to torch than NNCF's on the same calibration texts?

NNCF, OpenVINO's own compression tool, gets the project's float32 graph and its calibration texts, one text each, and
quantizes it four ways: int8 with its defaults for transformers, int8 tuned by hand (SmoothQuant 0.7, overflow fix, the
FFN's second multiplication in float32), int8 weights, and int4 weights in groups of 64 with scale estimation and, where
NNCF finds its pattern, AWQ. Beside it our artifacts for OpenVINO. All run with the same engine settings and are fed the
same batches, in turns in this one process. Cosine is to the vectors of onnx-fp32, which are torch's to 1e-6, on texts
that nothing was calibrated on; megabytes are of the graph and its weights alone; speed is against openvino-fp32.
Nothing is promised here. Needs `pip install nncf`, which the project itself does not use.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import logging
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._common import (
    BATCH_SIZE,
    add_model_option,
    artifacts,
    at_least_one,
    limit_threads,
    machine_facts,
    model_folder,
    parser,
    print_table,
    pyplot,
    run,
    save_plot,
    spread_text,
    status,
    write_json,
)
from benchmarks._quality import Matrix, even_sample, joined_texts
from stcompile.artifact import Artifact
from stcompile.artifact.manifest import OPENVINO, SENTENCE, EngineSpec
from stcompile.compiler.metrics import distance, rounded
from stcompile.compiler.timing import interleave, speedup
from stcompile.errors import InputError, MissingExtraError
from stcompile.runtime.cpus import available_cpus
from stcompile.runtime.device import CPU, Device
from stcompile.runtime.engines.openvino import OpenVinoEngine, import_openvino
from stcompile.runtime.route import OpenRoute
from stcompile.runtime.text.base import Feeds

SOURCE, BASELINE = "onnx-fp32", "openvino-fp32"
OURS = ("openvino-int8", "openvino-int8-weights", "openvino-int4-weights")

_TELEMETRY = "openvino_telemetry"


@dataclass(frozen=True)
class Contender:
    """One graph, ready to run: who made it, what it weighs, and how it encodes."""

    who: str
    megabytes: float
    encode: Callable[[list[str]], Matrix]


def main() -> int:
    arguments = _arguments()
    texts = joined_texts(arguments.texts, arguments.limit)
    timed = even_sample(texts, arguments.timed)
    if arguments.plot is not None:
        pyplot()
    limit_threads(arguments.threads)
    nncf = _import_nncf()
    machine = machine_facts()
    model = model_folder(arguments.model)
    with (
        tempfile.TemporaryDirectory(prefix="stcompile-benchmark-") as scratch,
        artifacts([], model, (SOURCE, BASELINE, *OURS)) as compiled,
    ):
        ours = {artifact.manifest.target: artifact for artifact in compiled}
        feeds = _calibration_feeds(model)
        theirs = _quantized(nncf, _graph_files(ours[SOURCE])[0], feeds, Path(scratch))
        contenders = _contenders(ours, theirs, arguments.threads)
        status(f"Encoding {len(texts)} held-back texts with each of {len(contenders) + 1}")
        source = _route(ours[SOURCE], available_cpus())
        exact = _encode(source, lambda feeds: source.infer(feeds, (SENTENCE,))[0], texts)
        apart = {contender.who: distance(exact, contender.encode(texts)).cosine for contender in contenders}
        status(f"Timing {len(timed)} of them, {arguments.rounds} rounds")
        calls = {contender.who: partial(contender.encode, timed) for contender in contenders}
        timings = interleave(calls, arguments.rounds)
    results = [
        {
            "who": contender.who,
            "megabytes": round(contender.megabytes, 1),
            "mean_cosine": rounded(apart[contender.who].mean()),
            "min_cosine": rounded(apart[contender.who].min()),
            "ratio_cpu": speedup(timings[BASELINE].cpu, timings[contender.who].cpu).to_dict(3),
            "ratio_wall": speedup(timings[BASELINE].wall, timings[contender.who].wall).to_dict(3),
        }
        for contender in contenders
    ]
    settings = {
        "model": model.name,
        "nncf": version("nncf"),
        "openvino": version("openvino"),
        "calibration_texts": len(feeds),
        "texts": [path.name for path in arguments.texts],
        "held_back": len(texts),
        "timed": len(timed),
        "mean_characters": round(sum(map(len, timed)) / len(timed), 1),
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "batch_size": BATCH_SIZE,
    }
    _print(results, settings)
    write_json(arguments.json, "nncf", machine, settings, results)
    if arguments.plot is not None:
        _plot(results, arguments.plot, f"{len(texts)} held-back texts; {machine['cpu']}, threads: {arguments.threads}")
    return 0


def _arguments() -> argparse.Namespace:
    made = parser(__doc__, "python -m benchmarks.nncf --texts mixed.jsonl --json result.json --plot plot.png")
    made.add_argument(
        "--texts",
        type=Path,
        action="append",
        required=True,
        metavar="FILE",
        help="texts that nothing was calibrated on: one a line, or .jsonl with a field text; may be repeated",
    )
    made.add_argument(
        "--limit", type=at_least_one, default=2000, help="compare vectors of an even sample of N (default: 2000)"
    )
    made.add_argument("--timed", type=at_least_one, default=128, help="time an even sample of N of them (default: 128)")
    made.add_argument("--threads", type=at_least_one, default=1, help="threads of every contender (default: 1)")
    made.add_argument("--rounds", type=at_least_one, default=7, help="timed rounds (default: 7)")
    made.add_argument("--plot", type=Path, metavar="FILE", help="also draw speed over cosine; needs matplotlib")
    add_model_option(made)
    return made.parse_args()


def _import_nncf() -> Any:
    """nncf without its telemetry: it reports every call unless that package is missing."""
    import_openvino("Comparing with NNCF")
    if _TELEMETRY in sys.modules:
        raise InputError(f"{_TELEMETRY} is loaded already: run this benchmark in a process of its own")
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment] # how Python marks what must not be found
    try:
        nncf = importlib.import_module("nncf")
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"comparing with NNCF needs {error.name}: pip install nncf") from error
    finally:
        del sys.modules[_TELEMETRY]
    nncf.set_log_level(logging.WARNING)
    return nncf


def _calibration_feeds(model: Path) -> list[Feeds]:
    """The project's calibration texts as our own recipes see them, one text each."""
    from stcompile.compiler.quantize.calibration import Calibration, default_set  # noqa: PLC0415 - imports torch
    from stcompile.compiler.stack.load import load_stack  # noqa: PLC0415 - the same

    stack = load_stack(model)
    if list(stack.routes) != [""]:
        raise InputError(f"{model.name} has a Router: compare a model of one route")
    calibration = Calibration(default_set(), stack.routes[""], tuple(stack.prompts.values()))
    return [
        {name: array[row : row + 1] if array.ndim else array for name, array in batch.feeds.items()}
        for batch in calibration.batches
        for row in range(len(batch.rows))
    ]


def _quantized(nncf: Any, graph: Path, feeds: Sequence[Feeds], folder: Path) -> dict[str, Path]:
    """What NNCF makes of the graph, saved: name to `.xml`."""
    openvino = import_openvino("Comparing with NNCF")
    core = openvino.Core()
    everything = len(feeds)

    def quantize(model: Any, **options: Any) -> Any:
        transformer = {"model_type": nncf.ModelType.TRANSFORMER, "preset": nncf.QuantizationPreset.MIXED}
        return nncf.quantize(model, nncf.Dataset(list(feeds)), subset_size=everything, **transformer, **options)

    def tuned(model: Any) -> Any:
        advanced = nncf.AdvancedQuantizationParameters(
            overflow_fix=nncf.OverflowFix.ENABLE,
            smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=0.7),
        )
        ignored = nncf.IgnoredScope(names=list(_narrowing(model)))
        return quantize(model, advanced_parameters=advanced, ignored_scope=ignored)

    def four_bits(model: Any) -> Any:
        return nncf.compress_weights(
            model,
            mode=nncf.CompressWeightsMode.INT4_ASYM,
            group_size=64,
            awq=True,
            scale_estimation=True,
            dataset=nncf.Dataset(list(feeds)),
            subset_size=everything,
            # Of a layer whose inputs 64 does not divide, which all-MiniLM-L6-v2 has none of.
            advanced_parameters=nncf.AdvancedCompressionParameters(
                group_size_fallback_mode=nncf.GroupSizeFallbackMode.ADJUST
            ),
        )

    recipes: Mapping[str, Callable[[Any], Any]] = {
        "NNCF int8, default": quantize,
        "NNCF int8, tuned": tuned,
        "NNCF int8 weights": partial(nncf.compress_weights, mode=nncf.CompressWeightsMode.INT8_SYM),
        "NNCF int4 weights": four_bits,
    }
    found = {}
    for number, (name, recipe) in enumerate(recipes.items()):
        status(f"Quantizing with {name}")
        # Its progress bars go where the status lines are, and the model is read anew: some recipes change it.
        with contextlib.redirect_stdout(sys.stderr):
            quantized = recipe(core.read_model(str(graph)))
        found[name] = folder / f"nncf-{number}.xml"
        openvino.save_model(quantized, str(found[name]), compress_to_fp16=False)
    return found


def _narrowing(model: Any) -> Iterator[str]:
    """Friendly names of the multiplications by a weight of more inputs than outputs: of a BERT, the FFN's second."""
    for operation in model.get_ordered_ops():
        if operation.get_type_name() != "MatMul" or not _is_constant(operation.input_value(1)):
            continue
        shape = list(operation.input_value(1).get_shape())
        inputs, outputs = shape[::-1] if operation.get_attributes()["transpose_b"] else shape
        if inputs > outputs:
            yield operation.get_friendly_name()


def _is_constant(value: Any) -> bool:
    """Whether a value is a constant, or a constant reshaped, transposed or converted."""
    operation = value.get_node()
    while operation.get_type_name() in ("Convert", "Reshape", "Transpose"):
        operation = operation.input_value(0).get_node()
    return bool(operation.get_type_name() == "Constant")


def _contenders(ours: Mapping[str, Artifact], theirs: Mapping[str, Path], threads: int) -> list[Contender]:
    """Everything that runs on OpenVINO, fed by one tokenizer and one batching."""
    route = _route(ours[BASELINE], threads)
    graphs = {name: _graph_files(ours[name]) for name in (BASELINE, *OURS)}
    graphs |= {name: [xml, xml.with_suffix(".bin")] for name, xml in theirs.items()}
    found = []
    for name, paths in graphs.items():
        engine = OpenVinoEngine(paths[0], threads, EngineSpec(OPENVINO), (SENTENCE,))
        size = sum(path.stat().st_size for path in paths)
        found.append(Contender(name, size / 1e6, partial(_encode, route, partial(_sentences, engine))))
    return found


def _route(artifact: Artifact, threads: int) -> OpenRoute:
    return OpenRoute(artifact.folder, artifact.manifest, artifact.manifest.graphs[0], Device(CPU), threads)


def _graph_files(artifact: Artifact) -> list[Path]:
    graph = artifact.manifest.graphs[0]
    return [artifact.folder / name for name in (graph.file, graph.external_data) if name is not None]


def _sentences(engine: OpenVinoEngine, feeds: Feeds) -> Matrix:
    return engine.run(feeds, (SENTENCE,))[0]


def _encode(route: OpenRoute, run_batch: Callable[[Feeds], Matrix], texts: list[str]) -> Matrix:
    """Vectors without a prompt, of the graph's full width."""
    vectors = np.zeros((len(texts), route.dim), dtype=np.float32)
    for rows, feeds in route.batches(texts, None, BATCH_SIZE):
        vectors[rows] = run_batch(feeds)
    return vectors


def _print(results: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> None:
    print_table(
        f"NNCF {settings['nncf']}, OpenVINO {settings['openvino']}, {settings['calibration_texts']} calibration texts; "
        f"{settings['held_back']} held-back texts; speed on {settings['timed']} of them, mean "
        f"{settings['mean_characters']:.0f} characters; threads: {settings['threads']}; medians of "
        f"{settings['rounds']} interleaved rounds",
        ("who", "MB", "mean cosine", "min cosine", f"x {BASELINE}, CPU (min-max)"),
        [
            (
                row["who"],
                f"{row['megabytes']:.1f}",
                f"{row['mean_cosine']:.6f}",
                f"{row['min_cosine']:.6f}",
                spread_text(row["ratio_cpu"]),
            )
            for row in results
        ],
    )


def _plot(results: Sequence[Mapping[str, Any]], path: Path, subtitle: str) -> None:
    """Speed over the distance to torch."""
    plt = pyplot()
    figure, axis = plt.subplots(figsize=(7, 4.2))
    for row in (row for row in results if row["who"] != BASELINE):
        spread = row["ratio_cpu"]
        error = [[spread["median"] - spread["min"]], [spread["max"] - spread["median"]]]
        theirs = row["who"].startswith("NNCF")
        place = 1 - row["mean_cosine"]
        axis.errorbar(
            place, spread["median"], yerr=error, fmt="s" if theirs else "o", color="#c98a3d" if theirs else "#4878a8"
        )
        axis.annotate(row["who"], (place, spread["median"]), xytext=(6, 4), textcoords="offset points", fontsize=7)
    axis.set_xscale("log")
    axis.margins(x=0.4, y=0.2)
    axis.set_xlabel("1 - mean cosine to onnx-fp32: nearer to torch on the left")
    axis.set_ylabel(f"times {BASELINE}, CPU time")
    save_plot(figure, (axis,), subtitle, path)


if __name__ == "__main__":
    run(main)
