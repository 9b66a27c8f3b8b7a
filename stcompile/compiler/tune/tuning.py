"""Which target is best for a model on this machine: all are compiled and measured on the user's texts, one is kept."""

from __future__ import annotations

import dataclasses
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from stcompile.artifact import Artifact, Destination, claimed, open_artifact, scratch, written
from stcompile.artifact.manifest import ENCODER, MANIFEST_NAME
from stcompile.artifact.report import read_report
from stcompile.artifact.target import TARGETS, Target
from stcompile.compiler.export import run_export
from stcompile.compiler.metrics import Matrix, distance, pair_correlation, rounded
from stcompile.compiler.parity.probes import probe_texts, texts_sha256
from stcompile.compiler.quantize.calibration import CalibrationSet, calibration_set
from stcompile.compiler.request import ExportOptions
from stcompile.compiler.scored_pairs import ScoredPair, checked_pairs
from stcompile.compiler.stack.source import ModelSource, SourceOptions
from stcompile.compiler.steps import Step, Tell, silent_step
from stcompile.compiler.timing import Spread, Timing, interleave, speedup
from stcompile.errors import InputError, ParityError, TargetError, UnsupportedError
from stcompile.kernels.cpu_features import processor
from stcompile.runtime.arguments import check_share, checked_texts, local_path
from stcompile.runtime.cpus import available_cpus
from stcompile.runtime.encoder import Encoder

# What every speed is a ratio to, and every accuracy is measured against: torch but for rounding.
BASELINE = "onnx-fp32"

# What the drop is a share of.
MEAN_COSINE, SPEARMAN = "mean_cosine", "spearman"

MAX_DROP = 0.005

# Rounds of one target differ by this much: two targets this near each other are equally fast.
_TIE = 0.03


@dataclass(frozen=True)
class Measurement:
    """One target, measured.

    Attributes:
        size: bytes of the artifact.
        batch_invariant: whether a text's vector is its own, whatever else is in the batch.
        min_cosine: smallest cosine of any text's vector to the baseline's.
        mean_cosine: mean of those.
        drop: share of accuracy lost: 1 - mean cosine, or of the rank correlation on scored pairs.
        texts_per_second: by the wall clock, median of the rounds.
        texts_per_cpu_second: the same by the clock of the process.
        ratio: how many times faster than the baseline, by the wall clock, round by round.
        seconds: of every round, in the order they were run.
        parity: the export's own report: the compiled graph against sentence-transformers, on the texts of parity.
    """

    size: int
    batch_invariant: bool
    min_cosine: float
    mean_cosine: float
    drop: float
    texts_per_second: float
    texts_per_cpu_second: float
    ratio: Spread
    seconds: Timing
    parity: dict[str, Any]


@dataclass(frozen=True)
class TunedTarget:
    """One row of the table.

    Attributes:
        target: its name.
        reason: why it is not recommended; empty for the winner.
        measured: None where the machine refused it or it could not be compiled.
    """

    target: str
    reason: str
    measured: Measurement | None


@dataclass(frozen=True)
class Recommendation:
    """The target to take.

    Attributes:
        winner: its name.
        why: the sentence behind it.
        reasons: of every other target, why not.
    """

    winner: str
    why: str
    reasons: dict[str, str]


@dataclass(frozen=True)
class TuneReport:
    """What was measured, and what is recommended.

    Attributes:
        winner: the recommended target.
        why: the sentence behind it.
        targets: the winner first, then the others by speed, then what was not measured.
        settings: what was asked for.
        machine: what the numbers hold for.
    """

    winner: str
    why: str
    targets: tuple[TunedTarget, ...]
    settings: dict[str, Any]
    machine: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """As JSON carries it."""
        return dataclasses.asdict(self)


def tune_model(
    model: Any,
    destination: str | Path,
    *,
    texts: Sequence[str] | None = None,
    max_drop: float = MAX_DROP,
    targets: Sequence[str] | None = None,
    evaluation: Sequence[ScoredPair] | None = None,
    calibration: Sequence[str] | CalibrationSet | None = None,
    rounds: int = 5,
    limit: int = 512,
    threads: int | None = None,
    step: Step | None = None,
    **options: Unpack[SourceOptions],
) -> TuneReport:
    """Compiles the candidate targets, measures them interleaved on this machine, and publishes the best.

    Args:
        model: a model folder, a hub id, a live SentenceTransformer, or a `ModelSource` of one.
        destination: the winner's folder, as of `export_model`.
        texts: what speed and accuracy are measured on; None takes the project's probe texts.
        max_drop: the largest share of accuracy that may be lost; targets that calibrate are given it as their budget.
        targets: the candidates beside `onnx-fp32`; None takes all that this machine can run, but for `static`.
        evaluation: scored pairs that the drop is measured on; None measures 1 - mean cosine to `onnx-fp32`.
        calibration: texts to calibrate on, as of `export_model`.
        rounds: timed runs of each target.
        limit: most texts to measure on; of more an even sample is taken.
        threads: engine threads; None takes the CPUs this process may use.
        step: told before each step that may take a while.
        options: `revision`, `cache_dir`, `trust_remote_code`, `follow_links`, `sparse`, `modalities` of the
            model, see `ModelSource`.

    Returns:
        the report.

    Raises:
        InputError, TargetError: an argument is wrong, or a candidate that was named cannot run here.
        ArtifactError: the destination holds something else than an artifact, another export is writing to it, or it
            cannot be written.
        ModelFolderError, UnsupportedError, ParityError: the baseline cannot be compiled.
    """
    step = step or silent_step
    _check_numbers(max_drop, rounds=rounds, limit=limit, threads=threads)
    sample = _sample(probe_texts() if texts is None else texts, limit)
    pairs = None if evaluation is None else checked_pairs(evaluation)
    candidates, refused = _candidates(targets)
    calibrated = _calibration(calibration, candidates)
    failed: dict[str, str] = {}
    source = ModelSource.of(model, options)
    _check_embeds(source)
    budget = ExportOptions(calibration=calibrated, max_drop=max_drop, evaluation=pairs)
    with claimed(local_path(destination)) as place, scratch("tune") as folder:

        def made(number: int, target: Target) -> Encoder:
            with step(f"Target {number} of {len(candidates)}: {target.name}") as tell:
                asked = dataclasses.replace(budget if target.calibrates else ExportOptions(), target=target.name)
                artifact = run_export(source, folder / target.name, asked, partial(_within, tell))
            return Encoder.load(artifact.folder, threads=threads)

        encoders = {BASELINE: made(1, candidates[0])}
        # Before the minutes of the other candidates: texts or pairs that cannot be measured on end it here.
        loss = _Loss(encoders[BASELINE], sample, pairs)
        for number, target in enumerate(candidates[1:], start=2):
            try:
                encoders[target.name] = made(number, target)
            except (ParityError, UnsupportedError) as error:
                failed[target.name] = str(error)
        with step(f"Timing {len(encoders)} targets on {len(sample)} texts") as tell:
            timings = interleave({name: partial(item.encode, sample) for name, item in encoders.items()}, rounds, tell)
        with step("Measuring what they lose"):
            measured = {name: _measured(item, timings, name, loss) for name, item in encoders.items()}
        chosen = recommend(measured, max_drop)
        versions = read_report(encoders[BASELINE].artifact).versions
        _publish(encoders[chosen.winner].artifact, place)
    return TuneReport(
        chosen.winner,
        chosen.why,
        _rows(chosen, measured, {**failed, **refused}),
        {
            "max_drop": max_drop,
            "measure": MEAN_COSINE if pairs is None else SPEARMAN,
            "pairs": None if pairs is None else len(pairs),
            "texts": len(sample),
            "texts_sha256": texts_sha256(sample),
            "calibration": None if calibrated is None else {"name": calibrated.name, "sha256": calibrated.sha256},
            "rounds": rounds,
            "threads": encoders[BASELINE].threads,
        },
        {**_machine(), "versions": versions},
    )


def recommend(measured: Mapping[str, Measurement], max_drop: float) -> Recommendation:
    """The fastest target within the drop whose vectors do not depend on the batch; of equally fast ones the nearest.

    Raises:
        InputError: none is within the drop, not even the baseline, which is among what was measured.
    """
    fit = {name: item for name, item in measured.items() if item.batch_invariant and item.drop <= max_drop}
    if not fit:
        raise InputError(
            f"no target is within the drop, not even {BASELINE}: the model gives some of the texts no vector of finite "
            "numbers, leave them out"
        )
    fastest = max(fit, key=lambda name: fit[name].texts_per_second)
    ties = [name for name in fit if fit[name].texts_per_second >= (1 - _TIE) * fit[fastest].texts_per_second]
    winner = min(ties, key=lambda name: (fit[name].drop, -fit[name].texts_per_second))
    reasons = {
        name: _reason(item, winner, fit[winner], max_drop, name in ties)
        for name, item in measured.items()
        if name != winner
    }
    return Recommendation(winner, _why(winner, fit, fastest, max_drop), reasons)


def _why(winner: str, fit: Mapping[str, Measurement], fastest: str, max_drop: float) -> str:
    best, allowed = fit[winner], f"{100 * max_drop:g}%"
    if len(fit) == 1:
        rank = f"the only target that is batch-invariant and loses at most {allowed}"
    else:
        rank = (
            "the fastest" if winner == fastest else f"as fast as {fastest}, to within {_TIE:.0%}, and the most accurate"
        )
        rank += f" of the {len(fit)} targets that are batch-invariant and lose at most {allowed}"
    speed = "" if winner == BASELINE else f", {best.ratio.median:.2f} times {BASELINE}"
    return f"{winner} is {rank}: {best.texts_per_second:.0f} texts/s{speed}, for a loss of {best.drop:.3%}"


def _reason(item: Measurement, winner: str, best: Measurement, max_drop: float, tied: bool) -> str:
    """Why a measured target is not the winner."""
    broken = []
    if not item.batch_invariant:
        broken.append("not batch-invariant: a text's vector depends on what else is in its batch")
    if item.drop > max_drop:
        broken.append(f"outside the drop: loses {item.drop:.3%}, more than {100 * max_drop:g}%")
    if broken:
        return "; ".join(broken)
    if tied:
        return f"as fast as {winner}, to within {_TIE:.0%}, and no more accurate"
    return f"slower: {item.texts_per_second:.0f} texts/s, not {best.texts_per_second:.0f}"


class _Loss:
    """What a target loses against the exact baseline, on texts and, for the drop, on scored pairs if there are any.

    Raises:
        InputError: the model cannot encode the texts, or does not rank the pairs by their scores at all.
    """

    def __init__(self, baseline: Encoder, texts: list[str], pairs: list[ScoredPair] | None) -> None:
        self.texts, self._pairs = texts, pairs
        self._exact: Matrix = baseline.encode(texts)
        self._correlation = 0.0 if pairs is None else _correlation(baseline, pairs)
        if pairs is not None and self._correlation <= 0:
            raise InputError(
                f"the model does not rank the scored pairs by their scores (Spearman {self._correlation:.2f}), so no "
                "share of that can be lost: pass pairs whose score grows with how alike they are"
            )

    def cosines(self, encoder: Encoder) -> NDArray[np.float64]:
        """Of each text's vector to the exact one."""
        return distance(self._exact, encoder.encode(self.texts)).cosine

    def drop(self, encoder: Encoder, cosines: NDArray[np.float64]) -> float:
        """The share that is lost; below 0 where the pairs are ranked better than before."""
        if self._pairs is None:
            return float(1 - cosines.mean())
        return (self._correlation - _correlation(encoder, self._pairs)) / self._correlation


def _correlation(encoder: Encoder, pairs: Sequence[ScoredPair]) -> float:
    rows = encoder.encode([text for pair in pairs for text in pair[:2]])
    return pair_correlation(rows, [pair[2] for pair in pairs])


def _measured(encoder: Encoder, timings: Mapping[str, Timing], name: str, loss: _Loss) -> Measurement:
    artifact, timing, count = encoder.artifact, timings[name], len(loss.texts)
    cosines = loss.cosines(encoder)
    return Measurement(
        size=artifact.size,
        batch_invariant=artifact.manifest.batch_invariant,
        min_cosine=rounded(cosines.min()),
        mean_cosine=rounded(cosines.mean()),
        drop=rounded(loss.drop(encoder, cosines)),
        texts_per_second=rounded(count / Spread.of(timing.wall).median),
        texts_per_cpu_second=rounded(count / Spread.of(timing.cpu).median),
        ratio=speedup(timings[BASELINE].wall, timing.wall),
        seconds=timing,
        parity=read_report(artifact).parity.to_dict(),
    )


def _rows(
    chosen: Recommendation, measured: Mapping[str, Measurement], unmeasured: Mapping[str, str]
) -> tuple[TunedTarget, ...]:
    order = sorted(measured, key=lambda name: (name != chosen.winner, -measured[name].texts_per_second))
    rows = [TunedTarget(name, chosen.reasons.get(name, ""), measured[name]) for name in order]
    return (*rows, *(TunedTarget(name, reason, None) for name, reason in unmeasured.items()))


def _candidates(names: Sequence[str] | None) -> tuple[list[Target], dict[str, str]]:
    """What to compile, the baseline first, and what this machine cannot run, with why not."""
    if names is None:
        chosen = [target for target in TARGETS.values() if not target.distills]
    else:
        chosen = [_named(name) for name in dict.fromkeys(names)]
    baseline = Target.parse(BASELINE)
    able = [target for target in chosen if not target.refusals() and target != baseline]
    refused = {target.name: f"refused here: {'; '.join(target.refusals())}" for target in chosen if target.refusals()}
    return [baseline, *able], refused


def _named(name: str) -> Target:
    """A candidate that was asked for by name: that it cannot run is an error, not a row."""
    target = Target.parse(name)
    if target.distills:
        raise InputError(f"target {name} is another model, not another precision: export it by itself")
    if target.refusals():
        raise TargetError(f"this machine cannot run {name}: {'; '.join(target.refusals())}")
    return target


def _calibration(texts: Sequence[str] | CalibrationSet | None, candidates: Sequence[Target]) -> CalibrationSet | None:
    if texts is None:
        return None
    if not any(target.calibrates for target in candidates):
        raise InputError("none of the targets is calibrated: leave the calibration texts out")
    return calibration_set(texts)


def _publish(winner: Artifact, place: Destination) -> None:
    with place.staged() as staging:
        with written(place.path):
            for name in (MANIFEST_NAME, *(entry.path for entry in winner.manifest.files)):
                shutil.copyfile(winner.folder / name, staging / name)
        open_artifact(staging)


def _sample(texts: Sequence[str], limit: int) -> list[str]:
    missing = "there is no text to measure on: pass at least one, or leave the option out"
    known = checked_texts(texts, "the texts to measure on", missing)
    places = np.linspace(0, len(known) - 1, min(limit, len(known))).astype(np.int64)
    return [known[place] for place in places]


def _check_embeds(source: ModelSource) -> None:
    with source.as_it_is() as (folder, name):
        found = source.described(folder)
    if found.settings.kind != ENCODER:
        raise UnsupportedError(
            name, f"it is a {found.settings.kind}, and tune measures embeddings: export its targets one by one"
        )


def _check_numbers(max_drop: float, *, rounds: int, limit: int, threads: int | None) -> None:
    check_share(max_drop)
    for name, number in {"rounds": rounds, "limit": limit, "threads": 1 if threads is None else threads}.items():
        if number < 1:
            raise InputError(f"{name} must be at least 1, got {number}")


def _machine() -> dict[str, Any]:
    name, flags = processor()
    return {
        "cpu": name,
        "cpu_flags": flags,
        "cpus_available": available_cpus(),
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        # Far above the threads of this process, somebody else was working too.
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def _within(tell: Tell, text: str) -> AbstractContextManager[Tell]:
    """A step inside a step: its text is how far the outer one has come."""
    tell(text)
    return nullcontext(lambda detail: tell(f"{text}: {detail}"))
