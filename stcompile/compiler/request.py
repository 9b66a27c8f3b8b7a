"""Everything an export is asked for, checked before minutes of work are put into it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from stcompile.artifact.manifest import ENCODER, MULTI_VECTOR, SENTENCE, SPARSE, TOKENS, VECTORS, WEIGHTS
from stcompile.artifact.target import PCA_DIMS, Target, Tolerance
from stcompile.compiler.budgets import AskedBudget, asked_budget
from stcompile.compiler.layouts import Layout, layout_of
from stcompile.compiler.parity.active import sparse_tolerance
from stcompile.compiler.parity.late_interaction import token_tolerance
from stcompile.compiler.parity.scores import score_tolerance
from stcompile.compiler.parity.verify import tolerance_for
from stcompile.compiler.passes import GraphPass, final_passes, pipeline_for
from stcompile.compiler.quantize import FOR_GPUS
from stcompile.compiler.quantize.calibration import CalibrationSet, calibration_set
from stcompile.compiler.scored_pairs import ScoredPair
from stcompile.compiler.stack.module_stack import ModuleStack
from stcompile.compiler.stack.source import SourceOptions
from stcompile.compiler.trace.running import why_no_gpu
from stcompile.errors import InputError, ProviderError, TargetError, UnsupportedError
from stcompile.runtime.device import CPU, CUDA

OUTPUTS = (SENTENCE, TOKENS, WEIGHTS, VECTORS)

# What users call some of them.
_OUTPUTS = {**{name: name for name in OUTPUTS}, "dense": SENTENCE, "sparse": WEIGHTS, "multi_vector": VECTORS}

# What the operators for packed tokens compute in.
PACKED_TARGETS = ("onnx-fp32", "onnx-fp16")


class ExportKeywords(SourceOptions, total=False):
    """What `export_model` takes by keyword: the fields of `ExportOptions`, and those of `ModelSource`."""

    provider: str
    packed: bool
    portable: bool
    outputs: Sequence[str]
    texts: Sequence[str] | None
    min_cosine: float | None
    max_drop: float | None
    calibration: Sequence[str] | CalibrationSet | None
    evaluation: Sequence[ScoredPair] | None
    pca_dims: int | None
    layout: str | None


@dataclass(frozen=True)
class ExportOptions:
    """What an export can be asked for.

    Attributes:
        target: one of `stcompile targets`.
        provider: the execution provider the graph is shaped for, `cpu` or `cuda`. Parity is judged on CPU, of
            bfloat16 for `cuda` on a GPU, which alone computes in it.
        packed: for `cuda`, leave padding out between embeddings and pooling. Only a GPU has the operators, so parity is
            judged on one.
        portable: leave the package's own operators out: standard ones alone, which is slower on CPU.
        outputs: `sentence_embedding`, or `dense`, and what is wanted besides: `token_embeddings`; of a model such as
            bge-m3 `sparse` and `multi_vector`.
        texts: what parity is judged on; None takes the project's probe texts.
        min_cosine: replaces the target's smallest allowed cosine, and its largest absolute error. For a target that
            calibrates it is also a budget: layers are kept in higher precision until it is reached.
        max_drop: a budget for a target that calibrates: the share of accuracy that may be lost, e.g. 0.003. Of the rank
            correlation on `evaluation`, or without it 1 - mean cosine to torch.
        calibration: texts to choose ranges and strengths on; None takes the project's own.
        evaluation: pairs of texts and their scores: for `max_drop`, or for the target `static`, to measure what
            distillation costs; None measures how far both models agree on each text's nearest.
        pca_dims: for the target `static`: dimensions to keep; None keeps the network's.
        layout: a library whose names of files are taken, so that it reads the folder too: `transformers.js` or
            `optimum`; None takes our own.
    """

    target: str = "onnx-int8"
    provider: str = CPU
    packed: bool = False
    portable: bool = False
    outputs: Sequence[str] = (SENTENCE,)
    texts: Sequence[str] | None = None
    min_cosine: float | None = None
    max_drop: float | None = None
    calibration: Sequence[str] | CalibrationSet | None = None
    evaluation: Sequence[ScoredPair] | None = None
    pca_dims: int | None = PCA_DIMS
    layout: str | None = None

    def checked(self) -> ExportRequest:
        """The request that they make.

        Raises:
            InputError, TargetError, ProviderError: one is wrong, contradicts another, or this machine cannot run the
                target.
        """
        target = Target.parse(self.target)
        if self.layout is not None:
            layout_of(self.layout)
        passes = pipeline_for(self.provider, openvino=target.is_openvino, packed=self.packed)
        _check_runs_here(target, self.provider, portable=self.portable)
        if self.packed:
            _check_can_pack(target)
        budget = asked_budget(target, min_cosine=self.min_cosine, max_drop=self.max_drop, evaluation=self.evaluation)
        if not target.distills and self.pca_dims != PCA_DIMS:
            raise InputError("pca_dims is about distillation: it goes with target static alone")
        if target.distills and TOKENS in self.outputs:
            raise InputError(f"target static has no {TOKENS} of its own: leave them out of the outputs")
        if self.calibration is not None and not target.calibrates:
            raise InputError(f"target {target.name} is not calibrated: leave the calibration texts out")
        return ExportRequest(
            self,
            target,
            () if target.adopts else passes,
            _checked_outputs(self.outputs),
            tolerance_for(target, self.min_cosine, None if self.evaluation is not None else self.max_drop),
            budget,
            calibration_set(self.calibration) if target.calibrates else None,
        )


@dataclass(frozen=True)
class ExportRequest:
    """Checked options, and what they mean.

    Attributes:
        options: what was asked for.
        target: what for.
        passes: what shapes the graph.
        outputs: the graph's outputs, in order.
        tolerance: how far from torch the result may be.
        budget: the accuracy to trade speed against; None where the recipe's own is taken.
        calibration: texts to calibrate on; None for a target that does not.
    """

    options: ExportOptions
    target: Target
    passes: tuple[GraphPass, ...]
    outputs: tuple[str, ...]
    tolerance: Tolerance
    budget: AskedBudget | None
    calibration: CalibrationSet | None

    def fitting(self, stack: ModuleStack) -> ExportRequest:
        """The same for what the model turned out to be.

        Raises:
            UnsupportedError: it was asked for what such a model does not have.
        """
        if self.target.adopts:
            _check_adopts(stack)
        heads = [name for name in (WEIGHTS, VECTORS) if name in self.outputs]
        if heads:
            self._check_heads(stack, heads)
        if stack.kind == ENCODER:
            self._check_images(stack)
            return self
        if stack.kind == SPARSE:
            return self._sparse(stack)
        if stack.kind == MULTI_VECTOR:
            return self._of_tokens(stack)
        reasons = []
        if TOKENS in self.outputs:
            reasons.append(f"it scores pairs and makes no {TOKENS}: leave them out of --outputs")
        if self.target.distills:
            reasons.append("it scores pairs, and static embeddings cannot: choose another target")
        if self.options.max_drop is not None:
            reasons.append("max_drop is measured on embeddings, and it scores pairs: leave it out, or pass min_cosine")
        if self.options.packed:
            reasons.append("packed graphs end in embeddings, and it scores pairs: leave packed out")
        if reasons:
            raise UnsupportedError(stack.name, *reasons)
        tolerance = score_tolerance(self.target, self.options.min_cosine)
        return replace(self, outputs=stack.route(None).answers, tolerance=tolerance, budget=None)

    def _check_heads(self, stack: ModuleStack, heads: Sequence[str]) -> None:
        """Whether it makes sparse vectors and vectors of tokens beside dense ones."""
        reasons = []
        if stack.kind != ENCODER or not all(route.makes(name) for route in stack.routes.values() for name in heads):
            reasons.append(
                "it makes no sparse vectors or vectors of tokens beside a dense one: that takes sparse_linear.pt and "
                "colbert_linear.pt beside modules.json, as bge-m3 has them; leave them out of --outputs"
            )
        elif any(route.front.pads_left for route in stack.routes.values()):
            reasons.append(
                "its texts are padded on the left, where the first token is none of a text: pad on the right"
            )
        if self.target.distills:
            reasons.append("static embeddings are dense vectors alone: choose another target")
        if self.options.packed:
            reasons.append("packed graphs end in one vector a text: leave packed out")
        if reasons:
            raise UnsupportedError(stack.name, *reasons)

    def _check_images(self, stack: ModuleStack) -> None:
        if stack.image is None:
            return
        reasons = []
        if self.target.distills:
            reasons.append("static embeddings are of texts")
        if self.needs_operators:
            reasons.append(f"{self.target.name} computes layers with a mask alone, which images need none of")
        if self.options.packed:
            reasons.append("packed graphs leave out the padding of texts, and images have none")
        if self.options.evaluation is not None:
            reasons.append("scored pairs are of texts")
        if TOKENS in self.outputs:
            reasons.append(f"images have no {TOKENS}")
        if reasons:
            raise UnsupportedError(
                stack.name, *(f"it has an image tower, and {why}: pass --modalities text" for why in reasons)
            )

    def _sparse(self, stack: ModuleStack) -> ExportRequest:
        reasons = []
        if TOKENS in self.outputs:
            reasons.append(f"it makes sparse vectors and no {TOKENS}: leave them out of --outputs")
        if self.target.distills:
            reasons.append("it makes sparse vectors, and static embeddings are dense: choose another target")
        if self.options.evaluation is not None:
            reasons.append("scored pairs are compared by dense vectors, and it makes sparse ones: leave them out")
        if self.options.packed:
            reasons.append("packed graphs end in dense vectors, and it makes sparse ones: leave packed out")
        if reasons:
            raise UnsupportedError(stack.name, *reasons)
        return replace(self, tolerance=sparse_tolerance(self.target, self.tolerance, self.options.min_cosine))

    def _of_tokens(self, stack: ModuleStack) -> ExportRequest:
        reasons = []
        if self.target.distills:
            reasons.append("it makes vectors of tokens, and static embeddings are one of a text: choose another target")
        if self.options.max_drop is not None or self.options.evaluation is not None:
            reasons.append(
                "max_drop and scored pairs are measured on one vector a text, and it makes vectors of tokens: leave "
                "them out, or pass min_cosine"
            )
        if self.options.packed:
            reasons.append("packed graphs end in one vector a text, and it makes one of each token: leave packed out")
        if reasons:
            raise UnsupportedError(stack.name, *reasons)
        tolerance = token_tolerance(self.target, self.options.min_cosine)
        return replace(self, outputs=(TOKENS,), tolerance=tolerance, budget=None)

    @property
    def layout(self) -> Layout | None:
        """What names files; None for our own names."""
        return None if self.options.layout is None else layout_of(self.options.layout)

    @property
    def traced(self) -> tuple[str, ...]:
        """What a graph ends in, `outputs` and what the layout wants besides."""
        wanted = () if self.layout is None else self.layout.ADDS
        return (*self.outputs, *(name for name in wanted if name not in self.outputs))

    def finals(self, longest: int | None) -> tuple[GraphPass, ...]:
        """What shapes the graph behind the precision recipe; as `final_passes`."""
        if self.target.adopts:
            return ()
        return final_passes(self.options.provider, longest, openvino=self.target.is_openvino)

    @property
    def recipe(self) -> str:
        """What is run of `RECIPES`: on a GPU a target may have another one."""
        usual = self.target.recipe
        return FOR_GPUS.get(usual, usual) if self.options.provider == CUDA else usual

    @property
    def needs_operators(self) -> bool:
        """Whether the graph is nothing without operators of the package's own."""
        return self.target.needs_operators and self.options.provider == CPU

    @property
    def fuses(self) -> bool:
        """Whether encoder layers may become operators of the package's own."""
        return self.options.provider == CPU and not self.target.is_openvino and not self.options.portable

    @property
    def device(self) -> str:
        """Where parity is judged."""
        return CUDA if self.options.packed or self.recipe in FOR_GPUS.values() else CPU


def _check_runs_here(target: Target, provider: str, *, portable: bool) -> None:
    """Parity runs the artifact: what this machine cannot run, it cannot publish."""
    reasons = target.refusals()
    if reasons:
        raise TargetError(f"this machine cannot run {target.name}: {'; '.join(reasons)}")
    if provider == CUDA and target.recipe in FOR_GPUS:
        _check_gpu(f"{target.name} for provider cuda is", "Choose onnx-fp32")
        return
    if (target.is_openvino or target.adopts) and provider != CPU:
        raise TargetError(f"{target.name} runs on CPU, not on {provider}: choose another onnx target")
    if target.needs_operators and portable:
        raise TargetError(f"{target.name} is made of the package's own operators: leave portable out, or use onnx-fp32")


def _check_adopts(stack: ModuleStack) -> None:
    """A graph is kept where it is the only one."""
    reasons = []
    if stack.kind != ENCODER:
        reasons.append(f"it is a {stack.kind}, and a graph is kept of encoders alone: choose another target")
    if len(stack.routes) > 1 or stack.routing is not None or stack.image is not None:
        reasons.append(
            "it reads texts in several ways, or images, and a graph is kept where one reads all: choose another target"
        )
    if reasons:
        raise UnsupportedError(stack.name, *reasons)


def _check_can_pack(target: Target) -> None:
    if target.name not in PACKED_TARGETS:
        raise TargetError(f"{target.name} cannot be packed: choose one of {', '.join(PACKED_TARGETS)}")
    _check_gpu("packed graphs are", "Leave packed out")


def _check_gpu(what: str, otherwise: str) -> None:
    reason = why_no_gpu()
    if reason:
        raise ProviderError(f"{what} proved on a GPU: {reason}. {otherwise}, or export where one is")


def _checked_outputs(outputs: Sequence[str]) -> tuple[str, ...]:
    wanted = [_OUTPUTS.get(name) for name in outputs]
    if None in wanted or SENTENCE not in wanted:
        raise InputError(
            f"outputs must be {SENTENCE} or dense, and besides {TOKENS}, sparse or multi_vector where they are wanted; "
            f"got {','.join(outputs)}"
        )
    return tuple(name for name in OUTPUTS if name in wanted)
