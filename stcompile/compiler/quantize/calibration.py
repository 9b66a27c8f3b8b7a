"""Calibration: the texts that ranges and strengths are chosen on, as the graph's inputs, never padded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from importlib import resources

import numpy as np

from stcompile.artifact.report import BUILT_IN_TEXTS, CalibrationSummary
from stcompile.compiler.pictures import Drawn, calibration_pictures, pictures_sha256
from stcompile.compiler.stack.image_route import ImageRoute
from stcompile.compiler.stack.route import Route
from stcompile.runtime.arguments import checked_texts
from stcompile.runtime.text.base import Feeds, Text

PICTURES_NAME = "stcompile-pictures-1"

# Tokens of a batch: activations of a layer of 4096 are 16 MB.
_BATCH_TOKENS = 1024


@dataclass(frozen=True)
class CalibrationSet:
    """Texts to calibrate on.

    Attributes:
        name: what the report calls them.
        texts: at least one; empty texts count.
        is_default: whether they are the project's own, to which a model may add texts of its own vocabulary.
    """

    name: str
    texts: tuple[str, ...]
    is_default: bool = False

    @property
    def sha256(self) -> str:
        """Hash of the texts and their order."""
        return hashlib.sha256(json.dumps(list(self.texts), ensure_ascii=False).encode()).hexdigest()


def default_set() -> CalibrationSet:
    """The texts the project ships: 484 of its own, in 60 languages, from no word to three hundred, many domains.

    But for the empty text, none of them is among the probe texts that parity is judged on.
    """
    content = resources.files(__package__).joinpath("calibration_texts.json").read_text("utf-8")
    return CalibrationSet(BUILT_IN_TEXTS, tuple(json.loads(content)), is_default=True)


def calibration_set(texts: Sequence[str] | CalibrationSet | None, name: str = "texts") -> CalibrationSet:
    """The caller's texts, or the default set for None.

    Raises:
        InputError: not a list of strings, or empty.
    """
    if texts is None:
        return default_set()
    if isinstance(texts, CalibrationSet):
        return texts
    missing = "there is no text to calibrate on: pass at least one, or leave the option out"
    return CalibrationSet(name, tuple(checked_texts(texts, "calibration texts", missing)))


@dataclass(frozen=True)
class Batch:
    """Some texts as a graph's inputs, all of one length, so that no position is padding.

    Attributes:
        feeds: the graph's inputs.
        rows: positions of the texts.
        positions: of each image, where they are images; of texts their ids are counted.
    """

    feeds: Feeds
    rows: tuple[int, ...]
    positions: int = 0

    @property
    def tokens(self) -> int:
        """Of all of them together."""
        return self.positions * len(self.rows) or self.feeds["input_ids"].size

    def part(self, kept: slice | Sequence[int]) -> Batch:
        """Some of the texts, by their places in it."""
        rows = tuple(np.asarray(self.rows)[kept].tolist())
        feeds = {name: array[kept] if array.ndim else array for name, array in self.feeds.items()}
        return replace(self, feeds=feeds, rows=rows)

    def every(self, step: int) -> Batch | None:
        """The texts at every so many positions; None where none of them is here."""
        kept = [index for index, row in enumerate(self.rows) if row % step == 0]
        if len(kept) in (0, len(self.rows)):
            return self if kept else None
        return self.part(kept)


class Calibration:
    """A set's texts as the inputs of one route's graph; they take turns with the model's prompts, and with none."""

    def __init__(self, chosen: CalibrationSet, route: Route, prompts: Sequence[str] = ()) -> None:
        own = route.front.probe_texts() if chosen.is_default else []
        self._chosen = chosen
        self.texts = tuple(route.examples_of([*chosen.texts, *own]))
        turns = list(dict.fromkeys(("", *prompts)))
        self.batches = tuple(unpadded(route, self.texts, [turns[index % len(turns)] for index in range(len(self))]))

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def tokens(self) -> int:
        """Tokens of all texts together."""
        return sum(batch.tokens for batch in self.batches)

    def summary(self) -> CalibrationSummary:
        """What the report records."""
        texts = sum(len(batch.rows) for batch in self.batches)
        return CalibrationSummary(self._chosen.name, texts, self.tokens, self._chosen.sha256)

    def some(self, count: int) -> Calibration:
        """The batches that hold an even sample of about `count` texts, as a calibration of its own."""
        step = max(1, len(self) // count)
        return self._with(batch for batch in self.batches if any(row % step == 0 for row in batch.rows))

    def within(self, tokens: int) -> Calibration:
        """An even sample of the texts that has about so many tokens; all of a caller's own."""
        step = -(-self.tokens // tokens)
        if step <= 1 or not self._chosen.is_default:
            return self
        return self._with(part for batch in self.batches if (part := batch.every(step)) is not None)

    def _with(self, batches: Iterable[Batch]) -> Calibration:
        other = copy(self)
        other.batches = tuple(batches)
        return other


class ImageCalibration(Calibration):
    """The pictures that the project draws, as the inputs of an image tower's graph."""

    def __init__(self, route: ImageRoute) -> None:
        pictures = calibration_pictures()
        self._sha256 = pictures_sha256(pictures)
        self._count = len(pictures)
        self.batches = image_batches(route, pictures)

    def __len__(self) -> int:
        return self._count

    def summary(self) -> CalibrationSummary:
        return CalibrationSummary(PICTURES_NAME, self._count, self.tokens, self._sha256)

    def within(self, tokens: int) -> Calibration:
        return self


def image_batches(route: ImageRoute, pictures: Sequence[Drawn]) -> tuple[Batch, ...]:
    """Pictures as the inputs of a graph, in their order."""
    size, positions = max(1, _BATCH_TOKENS // route.tower.positions), route.tower.positions
    return tuple(
        Batch(
            route.feeds([picture.pixels for picture in pictures[start : start + size]]),
            tuple(range(start, min(start + size, len(pictures)))),
            positions,
        )
        for start in range(0, len(pictures), size)
    )


def unpadded(route: Route, texts: Sequence[Text], prompts: Sequence[str]) -> Iterator[Batch]:
    """Texts, each with a prompt in front, in batches of equal length, each at its natural one."""
    alike: dict[tuple[object, ...], list[tuple[int, Feeds]]] = {}
    for index, (text, prompt) in enumerate(zip(texts, prompts, strict=True)):
        feeds = route.feeds([text], prompt)
        shape = feeds["input_ids"].shape
        # Texts that lie behind each other have nothing to do with each other's length, but offsets of their own.
        key = (shape, prompt) if route.front.has_masked_rows else (index,)
        alike.setdefault(key, []).append((index, feeds))
    for group in alike.values():
        size = max(1, _BATCH_TOKENS // max(1, group[0][1]["input_ids"].size))
        for start in range(0, len(group), size):
            part = group[start : start + size]
            yield Batch(_stacked([feeds for _, feeds in part]), tuple(index for index, _ in part))


def _stacked(feeds: Sequence[Feeds]) -> Feeds:
    if len(feeds) == 1:
        return feeds[0]
    # A scalar is the prompt's length, the same for all.
    return {
        name: np.concatenate([item[name] for item in feeds]) if array.ndim else array
        for name, array in feeds[0].items()
    }
