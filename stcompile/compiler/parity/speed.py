"""How fast an artifact is beside what it is compared with, both in one process and in turns: `verify --speed`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from stcompile.artifact import Artifact
from stcompile.artifact.manifest import RERANKER
from stcompile.compiler.metrics import rounded
from stcompile.compiler.parity.runner import task_of
from stcompile.compiler.timing import Spread, interleave, speedup
from stcompile.kernels.cpu_features import processor
from stcompile.runtime.cpus import available_cpus
from stcompile.runtime.loading import load

_ROUNDS, _BATCH_SIZE = 5, 32

# Encodes the texts that it was made for, once.
Contender = Callable[[], object]


@dataclass(frozen=True)
class Throughput:
    """What was measured of an artifact on one machine.

    Attributes:
        count: texts of a round; of a reranker pairs.
        rounds: how often all of them were encoded.
        batch_size: texts of a batch, shorter and longer ones as each sorts them.
        texts_per_second: median of the rounds.
        machine: processor, CPUs and device it holds for.
    """

    count: int
    rounds: int
    batch_size: int
    texts_per_second: float
    machine: str


@dataclass(frozen=True)
class Speed(Throughput):
    """What was measured of it and of another, in turns.

    Attributes:
        beside: what the artifact was compared with.
        texts_per_second_beside: of the other.
        ratio: how many times faster the artifact is, round by round.
    """

    beside: str
    texts_per_second_beside: float
    ratio: Spread

    def __str__(self) -> str:
        ratio = self.ratio
        return (
            f"{self.texts_per_second:.0f} texts/s beside {self.texts_per_second_beside:.0f} of {self.beside}: "
            f"{ratio.median:.2f} times ({ratio.low:.2f} to {ratio.high:.2f}; {self.rounds} rounds of {self.count}, "
            f"batches of {self.batch_size}; {self.machine})"
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON carries it."""
        return {**dataclasses.asdict(self), "ratio": self.ratio.to_dict(3)}


def measured(
    artifact: Artifact, texts: Sequence[str], beside: str, other: Callable[[Sequence[Any]], Contender], device: str
) -> Speed:
    """Times an artifact beside another contender, after an untimed run of each.

    Args:
        artifact: what is judged.
        texts: what both encode, without a prompt; of a reranker each is paired with the next.
        beside: what the other is called.
        other: makes it, for those texts or pairs.
        device: where the artifact runs.
    """
    inputs = _inputs(artifact, texts)
    contenders = {"other": other(inputs), "artifact": of_artifact(artifact, inputs, device)}
    timings = interleave(contenders, _ROUNDS)
    found = {name: len(inputs) / Spread.of(timing.wall).median for name, timing in timings.items()}
    return Speed(
        beside=beside,
        count=len(inputs),
        rounds=_ROUNDS,
        batch_size=_BATCH_SIZE,
        texts_per_second=rounded(found["artifact"]),
        texts_per_second_beside=rounded(found["other"]),
        ratio=speedup(timings["other"].wall, timings["artifact"].wall),
        machine=_machine(device),
    )


def throughput(artifact: Artifact, texts: Sequence[str], device: str) -> Throughput:
    """Times an artifact by itself, after an untimed run. Arguments as of `measured`."""
    inputs = _inputs(artifact, texts)
    timings = interleave({"artifact": of_artifact(artifact, inputs, device)}, _ROUNDS)
    rate = len(inputs) / Spread.of(timings["artifact"].wall).median
    return Throughput(len(inputs), _ROUNDS, _BATCH_SIZE, rounded(rate), _machine(device))


def _inputs(artifact: Artifact, texts: Sequence[str]) -> Sequence[Any]:
    if artifact.manifest.kind != RERANKER:
        return texts
    return list(zip(texts, [*texts[1:], texts[0]], strict=True))


def _machine(device: str) -> str:
    return f"{processor()[0]}, {available_cpus()} CPUs" + ("" if device == "cpu" else f", artifact on {device}")


def of_artifact(artifact: Artifact, inputs: Sequence[Any], device: str) -> Contender:
    """The shipped runtime, of the graph that comes first."""
    loaded: Any = load(artifact.folder, device=device, check_integrity=False)
    if artifact.manifest.kind == RERANKER:
        return lambda: loaded.predict(inputs, prompt="", batch_size=_BATCH_SIZE)
    task = first_task(artifact)
    return lambda: loaded.encode(inputs, prompt="", task=task, batch_size=_BATCH_SIZE)


def of_reference(artifact: Artifact, reference: Any, inputs: Sequence[Any]) -> Contender:
    """The `Reference` of the same model, of the same graph."""
    manifest = artifact.manifest
    if manifest.kind == RERANKER:
        return lambda: reference.logits(inputs, prompt="", batch_size=_BATCH_SIZE)
    task, dim = first_task(artifact), manifest.dim_of(manifest.graphs[0])
    return lambda: reference.encode(inputs, prompt="", task=task, dim=dim, batch_size=_BATCH_SIZE)


def first_task(artifact: Artifact) -> str | None:
    """A task that takes the graph which comes first; None where no task does."""
    manifest = artifact.manifest
    return task_of(manifest.routing, manifest.graphs[0].route)
