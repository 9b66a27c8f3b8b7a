"""Recipes that rest on calibration texts: a plan for each layer, within a budget of accuracy, and the graph of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from stcompile.artifact import scratch
from stcompile.artifact.report import BudgetSummary, QuantizationSummary
from stcompile.compiler.quantize.budget import search
from stcompile.compiler.quantize.choose import block_options, column_options, int8_options
from stcompile.compiler.quantize.gemm import split_token_gemms
from stcompile.compiler.quantize.integer_graph import BLOCK, write_integer_layers
from stcompile.compiler.quantize.job import QuantizationJob
from stcompile.compiler.quantize.layers import Layer, find_layers
from stcompile.compiler.quantize.plan import LayerPlan
from stcompile.compiler.quantize.qdq_graph import write_qdq_layers
from stcompile.compiler.quantize.recording import Recording, record
from stcompile.compiler.quantize.summary import summarized
from stcompile.compiler.quantize.tables import quantize_tables


@dataclass(frozen=True)
class Calibrated:
    """One such recipe.

    Attributes:
        scheme: its name.
        options: what a layer may become, the cheapest first.
        write: puts plans into a graph.
    """

    scheme: str
    options: Callable[[Layer, Recording], tuple[LayerPlan, ...]]
    write: Callable[[ir.Model, Sequence[LayerPlan]], None]

    def __call__(self, model: ir.Model, job: QuantizationJob) -> QuantizationSummary:
        """Rewrites a float32 graph, in place.

        Raises:
            BudgetError: not even with every layer in float32 is the budget met.
        """
        # The rows of all layers together are larger than the model: they are in files, and in memory a layer at a time.
        with scratch("rows") as folder:
            return self._quantized(model, job, folder)

    def _quantized(self, model: ir.Model, job: QuantizationJob, folder: Path) -> QuantizationSummary:
        assert job.calibration is not None  # of every target that calibrates
        split_token_gemms(model)
        layers = find_layers(model.graph)
        options: list[tuple[LayerPlan, ...]] = []
        if layers:
            job.tell(f"running {len(job.calibration)} calibration texts through {len(layers)} layers")
            seen = record(model, [layer.data for layer in layers], job.calibration.batches, folder)
            for number, layer in enumerate(layers, start=1):
                job.tell(f"layer {number} of {len(layers)}: {layer.name}")
                options.append(self.options(layer, seen[layer.data]))
        plans, reached = self._within_budget(model, options, job)
        job.tell("rounding weights")
        tables = self._apply(model, plans)
        return summarized(
            self.scheme,
            model,
            plans,
            tables,
            route=job.route,
            calibration=job.calibration.summary() if layers else None,
            budget=reached,
        )

    def _within_budget(
        self, model: ir.Model, options: Sequence[tuple[LayerPlan, ...]], job: QuantizationJob
    ) -> tuple[list[LayerPlan], BudgetSummary | None]:
        if job.budget is None:
            return [choices[0] for choices in options], None
        assert job.calibration is not None
        return search(model, options, job.budget, job.calibration, self._apply, job.tell)

    def _apply(self, model: ir.Model, plans: Sequence[LayerPlan]) -> int:
        self.write(model, plans)
        return quantize_tables(model)


quantize_int8 = Calibrated("int8", int8_options, write_integer_layers)
quantize_int8_openvino = Calibrated("int8", int8_options, write_qdq_layers)
quantize_weights_openvino = Calibrated("int8-weights", column_options, write_qdq_layers)
quantize_weights_8 = Calibrated(
    "int8-weights", lambda layer, seen: block_options(layer, seen, (8,), BLOCK), write_integer_layers
)
quantize_weights_4 = Calibrated(
    "int4-weights", lambda layer, seen: block_options(layer, seen, (4, 8), BLOCK), write_integer_layers
)
