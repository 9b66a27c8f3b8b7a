"""NNCF, OpenVINO's own compression: what OpenVINO reads of a float32 graph, in 8 or 4 bits, within our budgets.

NNCF rewrites networks in OpenVINO's format, so these recipes leave the ONNX graph as it is and give the job the network
that is written in its place. NNCF rounds once, on the calibration texts. Where that is not within the budget, our own
search takes as few of its quantizers out again as it needs (8 bits), or gives as few layers 8 bits (4 bits): NNCF's own
accuracy control quantizes on each call and knows none of our measures.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir

from stcompile.artifact import scratch
from stcompile.artifact.manifest import OPENVINO, SENTENCE, EngineSpec
from stcompile.artifact.report import LayerSummary, QuantizationSummary
from stcompile.compiler.metrics import Matrix
from stcompile.compiler.quantize.budget import search_layers
from stcompile.compiler.quantize.calibration import Batch, Calibration
from stcompile.compiler.quantize.candidates import FLOAT32, STATIC, WEIGHTS, Candidate
from stcompile.compiler.quantize.job import QuantizationJob
from stcompile.compiler.quantize.layers import find_layers, split_token_gemms
from stcompile.compiler.quantize.nncf_networks import (
    Layer,
    give_back_weights,
    is_large_table,
    other_scales,
    quantized_layers,
    small_tables,
    store_levels,
    take_out,
    turn_weights,
    weight_layers,
)
from stcompile.compiler.quantize.plan import kept_operators, three_digits
from stcompile.compiler.quantize.tables import MIN_TABLE_ROWS
from stcompile.compiler.trace.openvino import read_network, write_network
from stcompile.errors import StcompileError, UnsupportedError, one_line
from stcompile.extras import require
from stcompile.runtime.cpus import available_cpus
from stcompile.runtime.engines.openvino import OpenVinoEngine, import_openvino

_PURPOSE = "Compressing with NNCF"

_TELEMETRY = "openvino_telemetry"

# What NNCF records of itself in a network: names of operations that count up over the life of the process.
_INFORMATION = "nncf"

# SmoothQuant's, of every layer alike. Measured on all-MiniLM-L6-v2, mean / min cosine to torch on the probe texts:
# NNCF's own 0.95 makes .9936 / .966, this one .9964 / .988.
_STRENGTH = 0.7

# Inputs that share a scale of 4 bits. Measured as above, with GPTQ: 64 symmetric .9780 / .916, 32 .9837 / .950.
_GROUP = 32

# What GPTQ rounds on, an even sample of the texts: it takes most of the time, a minute for each quarter of them.
_TOKENS_ENOUGH = 8_192

# What a layer may be. Ranges of activations are means, over the texts, of each one's smallest and largest value.
_EIGHT = Candidate(STATIC, observer="mean-min-max", strength=_STRENGTH), Candidate(FLOAT32)
_WEIGHTS_8 = (Candidate(WEIGHTS, 8),)
_WEIGHTS_4 = Candidate(WEIGHTS, 4, _GROUP), *_WEIGHTS_8

# What is no computation, and nothing to leave alone.
_NO_COMPUTATION = frozenset(("Constant", "Parameter", "Result"))

# A network with each layer as chosen; as it was in float32 for None.
_Made = Callable[[Sequence[Candidate] | None], Any]


def quantize_by_nncf(model: ir.Model, job: QuantizationJob) -> QuantizationSummary:
    """Post-training quantization of weights and activations: the network is the job's, the graph stays.

    Raises:
        UnsupportedError: NNCF fails on the graph.
        BudgetError: not even with every layer in float32 is the budget met.
        MissingExtraError: NNCF is not installed.
    """
    nncf = import_nncf()
    network, names = _read(model)
    texts = _texts(job)
    with _working(nncf):
        quantized = nncf.quantize(
            network,
            _dataset(nncf, texts, job),
            subset_size=len(texts),
            # Without it, the additive attention mask is quantized: its range is next to nothing on texts without
            # padding, and the mask is gone.
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=_ignored(nncf, network, names),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                # It takes half of the time and changes nothing (mean cosine .9964 with and without), and would leave a
                # layer that goes back to float32 another bias.
                disable_bias_correction=True,
                smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=_STRENGTH),
                # Until it is known which layers keep their weights.
                backend_params={"compress_weights": False},
            ),
        )
    layers = quantized_layers(quantized, names, _EIGHT)

    def made(chosen: Sequence[Candidate] | None) -> Any:
        if chosen is None:
            return network.clone()
        found = quantized.clone()
        exact = (layer for layer, how in zip(layers, chosen, strict=True) if how.scheme == FLOAT32)
        take_out(found, {name for layer in exact for name in layer.quantizers})
        store_levels(found)
        return found

    return _finished("int8-nncf", model, job, layers, made, texts)


def compress_by_nncf(model: ir.Model, job: QuantizationJob) -> QuantizationSummary:
    """Weights in 4 bits, in groups, rounded by GPTQ; tables in 8. The network is the job's, the graph stays.

    Raises:
        UnsupportedError: NNCF fails on the graph, or makes a scale of it that is no float16.
        BudgetError: not even with every layer in 8 bits is the budget met.
        MissingExtraError: NNCF is not installed.
    """
    nncf = import_nncf()
    network, names = _read(model)
    turn_weights(network, names)
    texts, ignored = _texts(job).within(_TOKENS_ENOUGH), _ignored(nncf, network, names)
    count = texts.summary().texts
    compressed = network
    if names:
        with _working(nncf):
            compressed = nncf.compress_weights(
                network.clone(),
                mode=nncf.CompressWeightsMode.INT4_ASYM,
                group_size=_GROUP,
                gptq=True,
                dataset=_dataset(nncf, texts, job),
                subset_size=count,
                ignored_scope=ignored,
                # Tables, and the last layer, which NNCF gives no 4 bits, get 8 with the layers that the budget moves.
                backup_mode=nncf.BackupMode.NONE,
                advanced_parameters=nncf.AdvancedCompressionParameters(
                    # Where the inputs cannot be divided by it: a power of two from 16 on. OpenVINO's CPU is wrong on
                    # odd groups.
                    group_size_fallback_mode=nncf.GroupSizeFallbackMode.ADJUST,
                    gptq_params=nncf.AdvancedGPTQParameters(subset_size=count),
                ),
            )
    layers = weight_layers(compressed, names, _WEIGHTS_4, _WEIGHTS_8)

    def made(chosen: Sequence[Candidate] | None) -> Any:
        if chosen is None:
            return network.clone()
        found = compressed.clone()
        more = (layer for layer, how in zip(layers, chosen, strict=True) if how.bits > 4)
        give_back_weights(found, network, {name for layer in more for name in layer.operations})
        with _working(nncf):
            found = nncf.compress_weights(found, mode=nncf.CompressWeightsMode.INT8_SYM, ignored_scope=ignored)
        check_scales(found)
        return found

    return _finished("int4-nncf", model, job, layers, made, texts)


def check_scales(network: Any) -> None:
    """Refuses scales of weights that are not float16.

    NNCF 3.4 makes integers of some, the bits of what they should be, which ruins a network without a word: a mean
    cosine of .0008 on all-MiniLM-L6-v2.
    """
    others = other_scales(network)
    if others:
        raise UnsupportedError(
            "this model",
            f"NNCF made scales of its weights that are {' and '.join(sorted(others))}, not float16: use "
            "openvino-int4-weights",
        )


def import_nncf() -> Any:
    """NNCF without its telemetry, which would report every call: it is told that the package for that is missing.

    Raises:
        MissingExtraError: it is not installed.
    """
    import_openvino(_PURPOSE)
    known = sys.modules.get(_TELEMETRY)
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment] # how Python marks what must not be found
    try:
        return require("nncf", _PURPOSE)
    finally:
        del sys.modules[_TELEMETRY]
        if known is not None:
            sys.modules[_TELEMETRY] = known


@contextmanager
def _working(nncf: Any) -> Iterator[None]:
    """NNCF without progress bars and messages on standard output; what it fails on is refused by name."""
    bars = importlib.import_module("nncf.common.logging.track_progress")
    shown = {name: getattr(bars, name) for name in ("Progress", "WeightedProgress")}
    level = logging.getLogger("nncf").level
    nncf.set_log_level(logging.CRITICAL)
    for name, bar in shown.items():
        setattr(bars, name, partial(_without_bar, bar))
    try:
        yield
    except StcompileError:
        raise
    except Exception as error:  # of its own, of OpenVINO's and of numpy
        raise UnsupportedError(
            "this model", f"NNCF fails on it ({one_line(error)}): use openvino-int8 or openvino-int4-weights"
        ) from error
    finally:
        nncf.set_log_level(level)
        for name, bar in shown.items():
            setattr(bars, name, bar)


def _without_bar(bar: Callable[..., Any], *columns: Any, **options: Any) -> Any:
    return bar(*columns, **{**options, "disable": True})


def _read(model: ir.Model) -> tuple[Any, dict[str, str]]:
    """The network of a graph, and of each multiplication by a weight the name of its layer."""
    split_token_gemms(model)
    names = {str(node.name): layer.name for layer in find_layers(model.graph) for node in layer.nodes}
    return read_network(model, "this model"), names


def _texts(job: QuantizationJob) -> Calibration:
    assert job.calibration is not None  # of every target that calibrates
    return job.calibration


def _dataset(nncf: Any, texts: Calibration, job: QuantizationJob) -> Any:
    """The calibration texts, one an item: NNCF's ranges are means over items, of which a batch would be one."""
    items = [batch.part(slice(row, row + 1)).feeds for batch in texts.batches for row in range(len(batch.rows))]
    places = {id(item): place for place, item in enumerate(items, start=1)}

    def read(item: Mapping[str, Any]) -> Mapping[str, Any]:
        job.tell(f"NNCF reads text {places[id(item)]} of {len(items)}")
        return item

    return nncf.Dataset(items, read)


def _ignored(nncf: Any, network: Any, names: Mapping[str, str]) -> Any:
    """All but layers and large tables: NNCF would quantize whatever multiplies, pooling and masks as well."""
    found = [
        operation.get_friendly_name()
        for operation in network.get_ops()
        if operation.get_friendly_name() not in names
        and operation.get_type_name() not in _NO_COMPUTATION
        and not is_large_table(operation, MIN_TABLE_ROWS)
    ]
    return nncf.IgnoredScope(names=found)


def _finished(
    scheme: str, model: ir.Model, job: QuantizationJob, layers: Sequence[Layer], made: _Made, texts: Calibration
) -> QuantizationSummary:
    """What the network of the cheapest plan within the budget is; it is left with the job."""
    chosen, reached = [layer.options[0] for layer in layers], None
    if job.budget is not None:
        options = [layer.options for layer in layers]
        chosen, reached = search_layers(layers, partial(_vectors, made), options, job.budget, _texts(job), job.tell)
    network = made(chosen)
    if network.has_rt_info([_INFORMATION]):
        del network.get_rt_info()[_INFORMATION]
    job.networks.append(network)
    plan = list(zip(layers, chosen, strict=True))
    exact = Counter[str]()
    for layer, how in plan:
        if how.scheme == FLOAT32:
            exact[how.reason] += len(layer.operations)
    return QuantizationSummary(
        scheme,
        sum(len(layer.operations) for layer, how in plan if how.scheme != FLOAT32),
        small_tables(network),
        (*kept_operators(model), *(f"{count} MatMul: {reason}" for reason, count in exact.items())),
        texts.summary() if layers else None,
        tuple(_summary(layer, how, job.route) for layer, how in plan),
        reached,
    )


def _summary(layer: Layer, how: Candidate, route: str) -> LayerSummary:
    return LayerSummary(
        name=layer.name,
        route=route,
        matmuls=len(layer.operations),
        scheme=how.scheme,
        bits=32 if how.scheme == FLOAT32 else how.bits,
        observer=how.observer,
        smoothing=how.strength,
        sensitivity=three_digits(how.sensitivity),
        reason=how.reason,
    )


def _vectors(made: _Made, chosen: Sequence[Candidate] | None, batches: Sequence[Batch]) -> Matrix:
    """Sentence embeddings of the batches' texts, row by row, from the engine that will run them."""
    network = made(chosen)
    outputs = tuple(output.get_any_name() for output in network.outputs)
    with scratch("network") as folder:
        write_network(network, folder / "model.xml")
        engine = OpenVinoEngine(folder / "model.xml", available_cpus(), EngineSpec(OPENVINO), outputs)
        return np.concatenate([engine.run(batch.feeds, (SENTENCE,))[0] for batch in batches])
