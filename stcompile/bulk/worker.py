"""One shard from rows to files: what every engine calls, on whatever machine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stcompile.bulk.artifacts import digest_of, local_artifact
from stcompile.bulk.forms import form_of
from stcompile.bulk.inputs import find
from stcompile.bulk.journal import Journal
from stcompile.bulk.plan import ROW, Plan, Shard, is_same
from stcompile.bulk.readers import reader_of
from stcompile.bulk.readers.base import Reader, Rows, UnreadableError
from stcompile.bulk.store import Store
from stcompile.bulk.writers import writer_of
from stcompile.errors import ArtifactError, InputError
from stcompile.runtime.loading import load

# Rows of each shard that are looked at for the ranges of 8 bits.
_SAMPLED = 64


@dataclass(frozen=True)
class Opening:
    """What a worker is opened with, in whatever process.

    Attributes:
        output: address of the output.
        artifact: address of the artifact, as it is now.
        device, threads: as of `stcompile.load`.
    """

    output: str
    artifact: str
    device: str = "cpu"
    threads: int | None = None


@dataclass
class Encoded:
    """A shard's rows, ready to be written.

    Attributes:
        table: the rows that have a vector.
        rejects: row of the file and reason, of the others.
        is_damaged: whether the file could not be read there.
        tokens: that were read for it.
    """

    table: pa.Table
    rejects: list[tuple[int, str]]
    is_damaged: bool
    tokens: int


class Worker:
    """Does shards of a job.

    Args:
        opening: where, with what.
        plan: the job; None takes the one that was begun in the output.

    Raises:
        StcompileError: as `stcompile.load`, there is no job in the output, or its artifact is another one.
    """

    def __init__(self, opening: Opening, plan: Plan | None = None) -> None:
        self.opening = opening
        self.journal = Journal(Store(opening.output), plan)
        plan = plan or self.journal.plan()
        if plan is None:
            raise InputError(f"no job was begun in {opening.output}")
        self.plan: Plan = plan
        self._options = plan.options
        self._writer = writer_of(plan.options.format, plan.options.into)
        self._writer.check(self.journal.store, plan.schema)
        loaded = load(local_artifact(opening.artifact), device=opening.device, threads=opening.threads)
        self.encoder, self._form = form_of(loaded, plan.options)
        if digest_of(opening.artifact) != plan.artifact_digest:
            raise ArtifactError(
                f"{opening.artifact} is another artifact than the job was begun with: bring that one back"
            )
        self._asked: dict[str, Any] = {**self._form.asked, "show_progress_bar": False}
        # `(0, dim)`; what is wrong with the options is said here, and is not the fault of a text.
        self._encode = getattr(self.encoder, self._form.method)
        self._nothing: Any = self._encode([], **self._asked)
        self._ranges = self.journal.ranges()
        self._reader: tuple[int, Reader] | None = None

    def know_ranges(self, shards: list[Shard]) -> None:
        """Finds the ranges of 8 bits, unless they are known, and notes them for whoever opens the job later.

        Args:
            shards: to take rows of; where they have none, all others are looked through.
        """
        if self._ranges is None:
            self._ranges = self._sampled(shards)
            self.journal.note_ranges(self._ranges)

    def run(self, shard: Shard) -> tuple[int, int]:
        """Does one shard, unless it is done; returns its rows, and the tokens that were read for it."""
        if self.journal.entry(shard) is not None:
            return shard.rows, 0
        encoded = self.encode(shard, self.read(shard))
        self.write(shard, encoded)
        return shard.rows, encoded.tokens

    def read(self, shard: Shard) -> Rows | str:
        """The shard's rows; of what is damaged there, the reason.

        Raises:
            StcompileError: the file cannot be read now, or is not the one that the job was begun with.
        """
        try:
            return self._reader_of(shard.file).read(shard.start, shard.stop, self.plan.schema)
        except UnreadableError as error:
            return f"the file cannot be read here: {error}"

    def encode(self, shard: Shard, rows: Rows | str) -> Encoded:
        """The vectors of a shard's rows."""
        if isinstance(rows, str):
            return Encoded(pa.table({}), [(row, rows) for row in range(shard.start, shard.stop)], True, 0)
        before = self.encoder.counted.tokens
        places = [place for place, text in enumerate(rows.texts) if text is not None]
        found, unreadable = self.vectors([rows.texts[place] for place in places])
        problems = {**rows.problems, **{places[index]: reason for index, reason in unreadable.items()}}
        kept = np.array([place for place in places if place not in problems], np.int64)
        column, wrong = self._form.column(found, self._ranges)
        table = self._table(shard, rows, kept, self._form.field(self._options.into, column, found), column)
        wrong = {**self._writer.problems(table), **wrong}
        if wrong:
            problems |= {int(kept[index]): reason for index, reason in wrong.items()}
            table = table.filter(pa.array([index not in wrong for index in range(len(kept))]))
        rejects = [(shard.start + place, problems[place]) for place in sorted(problems)]
        return Encoded(table, rejects, rows.is_damaged, self.encoder.counted.tokens - before)

    def write(self, shard: Shard, encoded: Encoded) -> None:
        """Writes the shard, and then its journal entry: what has one is there."""
        entry: dict[str, Any] = {"rows": shard.rows, "written": len(encoded.table), "is_damaged": encoded.is_damaged}
        entry |= (
            self._writer.write(self.journal.store, shard.name, encoded.table) if len(encoded.table) else {"files": []}
        )
        self.journal.note(shard, entry, encoded.rejects)

    def vectors(self, texts: list[Any]) -> tuple[Any, dict[int, str]]:
        """What `encode` gives `(n, dim)` for those texts that have one, and why the others have none.

        A text that the tokenizer cannot read is found by halves: the others are encoded all the same.
        """
        if not texts:
            return self._nothing, {}
        try:
            return self._encode(texts, **self._asked), {}
        except InputError as error:
            if len(texts) == 1:
                return self._nothing, {0: str(error)}
        half = len(texts) // 2
        first, problems = self.vectors(texts[:half])
        second, more = self.vectors(texts[half:])
        return self._form.joined([first, second]), {**problems, **{half + place: why for place, why in more.items()}}

    def close(self) -> None:
        """Lets go of the engine and the file that was read last."""
        self._close_reader()
        self.encoder.close()

    def _table(self, shard: Shard, rows: Rows, kept: NDArray[np.int64], field: pa.Field, vectors: pa.Array) -> pa.Table:
        columns: dict[str, Any] = {}
        if self._options.id is None:
            columns[ROW] = pa.array(kept + (shard.offset + shard.start))
        carried = rows.table.take(pa.array(kept)) if rows.table.num_columns else rows.table
        columns.update(zip(carried.column_names, carried.columns, strict=True))
        return pa.table(columns).append_column(field, vectors) if columns else pa.table([vectors], pa.schema([field]))

    def _sampled(self, shards: list[Shard]) -> NDArray[np.float32]:
        """Lowest and highest value of each dimension `(2, dim)`."""
        parts = [replace(shard, stop=min(shard.stop, shard.start + _SAMPLED)) for shard in shards]
        texts: list[Any] = []
        for shard in parts:
            texts += self._texts(shard)
        # Every row that was looked at has no text: whatever has one, in whole shards.
        for shard in self.plan.shards() if not texts else ():
            texts += self._texts(shard)
            if texts:
                break
        vectors, _ = self.vectors(texts)
        if not len(vectors):
            vectors = np.zeros((1, vectors.shape[1]), np.float32)
        return np.stack([vectors.min(axis=0), vectors.max(axis=0)]).astype(np.float32)

    def _texts(self, shard: Shard) -> list[str]:
        rows = self.read(shard)
        return [] if isinstance(rows, str) else [text for text in rows.texts if text is not None]

    def _reader_of(self, file: int) -> Reader:
        """Of the file that was read last, where it is the same: its next rows are near."""
        if self._reader is None or self._reader[0] != file:
            self._close_reader()
            item = self.plan.files[file]
            (now,) = find([item.file.address])
            if not is_same(item, now):
                raise InputError(
                    f"{item.file.address} has changed since the job was begun: begin anew with --overwrite"
                )
            self._reader = file, reader_of(item.file, self.plan.wanted)
        return self._reader[1]

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader[1].close()
            self._reader = None
