"""Everything an export is asked for, checked before minutes of work are put into it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stcompile.artifact.manifest import SENTENCE, TOKENS
from stcompile.artifact.target import PCA_DIMS, Target, Tolerance
from stcompile.compiler.budgets import AskedBudget, asked_budget
from stcompile.compiler.parity.verify import tolerance_for
from stcompile.compiler.passes import GraphPass, pipeline_for
from stcompile.compiler.quantize.calibration import CalibrationSet, calibration_set
from stcompile.compiler.scored_pairs import ScoredPair
from stcompile.compiler.trace.running import why_no_gpu
from stcompile.errors import InputError, ProviderError, TargetError
from stcompile.runtime.device import CPU, CUDA

OUTPUTS = (SENTENCE, TOKENS)

# What the operators for packed tokens compute in.
PACKED_TARGETS = ("onnx-fp32", "onnx-fp16")


@dataclass(frozen=True)
class ExportRequest:
    """What to compile for, and what to keep.

    Attributes:
        target: what for.
        provider: the execution provider the graph is shaped for.
        passes: what shapes it.
        packed: whether padding is left out of it, with operators that only a GPU has.
        outputs: the graph's outputs, in order.
        tolerance: how far from torch the result may be.
        budget: the accuracy to trade speed against; None where the recipe's own is taken.
        calibration: texts to calibrate on; None for a target that does not.
    """

    target: Target
    provider: str
    passes: tuple[GraphPass, ...]
    packed: bool
    outputs: tuple[str, ...]
    tolerance: Tolerance
    budget: AskedBudget | None
    calibration: CalibrationSet | None

    @property
    def device(self) -> str:
        """Where parity is judged."""
        return CUDA if self.packed else CPU


def checked_request(
    target: str,
    *,
    provider: str,
    packed: bool,
    outputs: Sequence[str],
    min_cosine: float | None,
    max_drop: float | None,
    calibration: Sequence[str] | CalibrationSet | None,
    evaluation: Sequence[ScoredPair] | None,
    pca_dims: int | None,
) -> ExportRequest:
    """The request that the arguments of `export_model` make.

    Raises:
        InputError, TargetError, ProviderError: an argument is wrong, contradicts another, or this machine cannot run
            the target.
    """
    chosen = Target.parse(target)
    passes = pipeline_for(provider, openvino=chosen.is_openvino, packed=packed)
    _check_runs_here(chosen, provider)
    if packed:
        _check_packed(chosen)
    budget = asked_budget(chosen, min_cosine=min_cosine, max_drop=max_drop, evaluation=evaluation)
    if not chosen.distills and pca_dims != PCA_DIMS:
        raise InputError("pca_dims is about distillation: it goes with target static alone")
    if chosen.distills and TOKENS in outputs:
        raise InputError(f"target static has no {TOKENS} of its own: leave them out of the outputs")
    if calibration is not None and not chosen.calibrates:
        raise InputError(f"target {chosen.name} is not calibrated: leave the calibration texts out")
    return ExportRequest(
        chosen,
        provider,
        passes,
        packed,
        _checked_outputs(outputs),
        tolerance_for(chosen, min_cosine, None if evaluation is not None else max_drop),
        budget,
        calibration_set(calibration) if chosen.calibrates else None,
    )


def _check_runs_here(target: Target, provider: str) -> None:
    """Parity runs the artifact: what this machine cannot run, it cannot publish."""
    reasons = target.refusals()
    if reasons:
        raise TargetError(f"this machine cannot run {target.name}: {'; '.join(reasons)}")
    if (target.is_openvino or target.is_fused) and provider != "cpu":
        raise TargetError(f"{target.name} runs on CPU, not on {provider}: choose another onnx target")


def _check_packed(target: Target) -> None:
    if target.name not in PACKED_TARGETS:
        raise TargetError(f"{target.name} cannot be packed: choose one of {', '.join(PACKED_TARGETS)}")
    reason = why_no_gpu()
    if reason:
        raise ProviderError(f"packed graphs are proved on a GPU: {reason}. Leave packed out, or export where one is")


def _checked_outputs(outputs: Sequence[str]) -> tuple[str, ...]:
    unknown = [name for name in outputs if name not in OUTPUTS]
    if unknown or SENTENCE not in outputs:
        raise InputError(f"outputs must be {SENTENCE}, or {SENTENCE},{TOKENS}; got {','.join(outputs)}")
    return tuple(name for name in OUTPUTS if name in outputs)
