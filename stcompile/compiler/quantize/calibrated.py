"""Recipes that rest on calibration texts: options for each layer, a plan within the budget, and the graph of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import onnx_ir as ir

from stcompile.artifact import scratch
from stcompile.artifact.report import QuantizationSummary
from stcompile.compiler.quantize.budget import search
from stcompile.compiler.quantize.candidates import STATIC, Candidate, Table
from stcompile.compiler.quantize.choose import options_of
from stcompile.compiler.quantize.fused_int8 import in_encoder_layers, write_operators
from stcompile.compiler.quantize.fused_layers import unfused
from stcompile.compiler.quantize.job import QuantizationJob
from stcompile.compiler.quantize.layers import find_layers, split_token_gemms
from stcompile.compiler.quantize.plan import LayerPlan, Plans, summarized
from stcompile.compiler.quantize.recording import Recording, record
from stcompile.compiler.quantize.tables import quantize_tables
from stcompile.compiler.steps import Estimate

# Where every layer has a scale for each token, no range must cover what texts may hold: so many tokens choose and round
# as well as all. Measured on all-MiniLM-L6-v2, mean cosine to sentence-transformers over 900 other texts: 0.99927 to
# 0.99930 with 15,000 to 17,000 tokens, 0.99929 with 32,000. With calibrated ranges the smallest falls to 0.9916.
_TOKENS_ENOUGH = 16_384


@dataclass(frozen=True)
class Calibrated:
    """One such recipe: a row of `RECIPES`.

    Attributes:
        scheme: its name.
        table: what a layer may become.
        write: puts plans into a graph.
        fused: what a layer may become that an encoder layer's operator computes; None for a recipe without such.
    """

    scheme: str
    table: Table
    write: Callable[[ir.Model, Sequence[LayerPlan]], None]
    fused: Table | None = None

    def __call__(self, model: ir.Model, job: QuantizationJob) -> QuantizationSummary:
        """Rewrites a float32 graph, in place.

        Raises:
            BudgetError: not even with every layer in float32 is the budget met.
        """
        # The rows of all layers together are larger than the model: they are in files, and in memory a layer at a time.
        with scratch("rows") as folder:
            return self._with_rows_in(folder, model, job)

    def _with_rows_in(self, folder: Path, model: ir.Model, job: QuantizationJob) -> QuantizationSummary:
        assert job.calibration is not None  # of every target that calibrates
        split_token_gemms(model)
        layers = find_layers(model.graph)
        operated = in_encoder_layers(model, job) if job.fuses and self.fused is not None else set()
        known = tuple(search for search in self.table if job.fixes_ranges or search.first.scheme != STATIC)
        options: list[tuple[Candidate, ...]] = []
        seen: list[Recording] = []
        texts = job.calibration
        if layers and all(operated.issuperset(layer.nodes) for layer in layers):
            texts = texts.within(_TOKENS_ENOUGH)
        if layers:
            summary = texts.summary()
            job.tell(f"running {summary.texts} calibration texts through {len(layers)} layers")
            seen = record(model, [layer.data for layer in layers], texts.batches, folder)
        estimate = Estimate(len(layers))
        for done, (layer, recording) in enumerate(zip(layers, seen, strict=True)):
            job.tell(f"layer {done + 1} of {len(layers)}: {layer.name}{estimate.left(done)}")
            table = self.fused if self.fused is not None and operated.issuperset(layer.nodes) else known
            options.append(options_of(layer, recording, table))
        apply = partial(self._apply, job, Plans(layers, seen))
        chosen, reached = [choices[0] for choices in options], None
        if job.budget is not None:
            chosen, reached = search(model, options, job.budget, job.calibration, apply, job.tell)
        job.tell("rounding weights")
        plans, tables = apply(model, chosen)
        return summarized(
            self.scheme,
            model,
            plans,
            tables,
            route=job.route,
            calibration=texts.summary() if layers else None,
            budget=reached,
        )

    def _apply(
        self, job: QuantizationJob, plans: Plans, model: ir.Model, chosen: Sequence[Candidate]
    ) -> tuple[list[LayerPlan], int]:
        written = plans.of(model, chosen)
        with_operators = job.fuses and self.fused is not None
        self.write(model, write_operators(model, written, job) if with_operators else written)
        if job.unfused and self.fused is not None:
            job.records[:] = [unfused(job)]
        return written, quantize_tables(model)
