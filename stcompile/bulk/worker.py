"""One shard from rows to files: what every engine calls, on whatever machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stcompile.bulk.artifacts import local_artifact
from stcompile.bulk.journal import Journal
from stcompile.bulk.plan import ROW, Plan, Shard
from stcompile.bulk.precision import TOO_LARGE, encode_precision, in_precision, too_large
from stcompile.bulk.readers import reader_of
from stcompile.bulk.readers.base import Reader, Rows, UnreadableError
from stcompile.bulk.store import Store
from stcompile.bulk.vectors import as_column
from stcompile.bulk.writers import writer_of
from stcompile.errors import InputError
from stcompile.runtime.encoder import Encoder, load

# Rows of each shard that are looked at for the ranges of 8 bits.
_SAMPLED = 64


@dataclass
class Encoded:
    """A shard's rows, ready to be written.

    Attributes:
        table: the rows that have a vector.
        rejects: row of the file and reason, of the others.
        tokens: that were read for it.
    """

    table: pa.Table
    rejects: list[tuple[int, str]]
    tokens: int


class Worker:
    """Does shards of the job in an output, which holds all there is to know of it.

    Args:
        output: address of the output.
        device: as of `stcompile.load`.
        threads: the same.

    Raises:
        StcompileError: as `stcompile.load`, or there is no job in the output.
    """

    def __init__(self, output: str, device: str = "cpu", threads: int | None = None) -> None:
        self.journal = Journal(Store(output))
        plan = self.journal.plan()
        if plan is None:
            raise InputError(f"no job was begun in {output}")
        self.plan: Plan = plan
        self._options = plan.options
        self._writer = writer_of(plan.options.format, plan.options.into)
        self.encoder: Encoder = load(local_artifact(plan.artifact), device=device, threads=threads)
        self._asked: dict[str, Any] = {
            **plan.options.encoding,
            "precision": encode_precision(plan.options.precision),
            "show_progress_bar": False,
        }
        # `(0, dim)`; what is wrong with the options is said here, and is not the fault of a text.
        self._nothing: NDArray[Any] = self.encoder.encode([], **self._asked)
        self._ranges = self.journal.ranges()
        self._reader: tuple[int, Reader] | None = None

    def know_ranges(self, ranges: NDArray[np.float32]) -> None:
        """Takes the ranges that were just found, as those who open the job later will."""
        self.journal.note_ranges(ranges)
        self._ranges = ranges

    def run(self, shard: Shard) -> dict[str, Any]:
        """Does one shard, unless it is done; returns its journal entry."""
        done = self.journal.entry(shard)
        return done or self.write(shard, self.encode(shard, self.read(shard)))

    def read(self, shard: Shard) -> Rows:
        """The shard's rows; of what cannot be read, a problem for each of them."""
        try:
            return self._reader_of(shard.file).read(shard.start, shard.stop, self.plan.schema)
        except UnreadableError as error:
            schema = self.plan.schema
            nothing = pa.Table.from_arrays([pa.nulls(shard.rows, field.type) for field in schema], schema=schema)
            problems = dict.fromkeys(range(shard.rows), f"the file cannot be read here: {error}")
            return Rows([None] * shard.rows, nothing, problems)

    def encode(self, shard: Shard, rows: Rows) -> Encoded:
        """The vectors of a shard's rows."""
        before = self.encoder.counted.tokens
        places = [place for place, text in enumerate(rows.texts) if text is not None]
        found, problems = self.vectors([rows.texts[place] for place in places])
        problems = {**rows.problems, **{places[index]: reason for index, reason in problems.items()}}
        kept = [place for place in places if place not in problems]
        vectors = in_precision(found, self._options.precision, self._ranges)
        if (lost := too_large(found, vectors)).any():
            problems |= dict.fromkeys((place for place, is_lost in zip(kept, lost, strict=True) if is_lost), TOO_LARGE)
            kept, vectors = [place for place in kept if place not in problems], vectors[~lost]
        columns: dict[str, Any] = {}
        if self._options.id is None:
            columns[ROW] = pa.array(np.array(kept, np.int64) + (shard.offset + shard.start))
        carried = rows.table.take(pa.array(kept, pa.int64())) if rows.table.num_columns else rows.table
        columns.update(zip(carried.column_names, carried.columns, strict=True))
        columns[self._options.into] = as_column(vectors)
        rejects = [(shard.start + place, problems[place]) for place in sorted(problems)]
        return Encoded(pa.table(columns), rejects, self.encoder.counted.tokens - before)

    def write(self, shard: Shard, encoded: Encoded) -> dict[str, Any]:
        """Writes the shard and then its journal entry, which it returns."""
        entry: dict[str, Any] = {"rows": shard.rows, "written": len(encoded.table), "rejects": encoded.rejects}
        if len(encoded.table):
            entry |= self._writer.write(self.journal.store, shard.name, encoded.table)
        else:
            entry |= {"files": []}
        # After a kill a reader must not take rows for done whose files are not there: the entry comes last.
        self.journal.note(shard, entry)
        return {**entry, "tokens": encoded.tokens}

    def vectors(self, texts: list[Any]) -> tuple[NDArray[Any], dict[int, str]]:
        """The vectors `(n, dim)` of those texts that have one, and why the others have none.

        A text that the tokenizer cannot read is found by halves: the others are encoded all the same.
        """
        if not texts:
            return self._nothing, {}
        try:
            return self.encoder.encode(texts, **self._asked), {}
        except InputError as error:
            if len(texts) == 1:
                return self._nothing, {0: str(error)}
        half = len(texts) // 2
        first, problems = self.vectors(texts[:half])
        second, more = self.vectors(texts[half:])
        return np.concatenate([first, second]), {**problems, **{half + place: why for place, why in more.items()}}

    def sampled_ranges(self, shards: list[Shard]) -> NDArray[np.float32]:
        """Lowest and highest value of each dimension `(2, dim)`, by a sample of the rows.

        Args:
            shards: to take rows of.

        Raises:
            InputError: there are not two texts in them.
        """
        texts: list[Any] = []
        for shard in shards:
            rows = min(_SAMPLED, shard.rows)
            part = Shard(shard.name, shard.file, shard.start, shard.start + rows, shard.offset)
            texts += [text for text in self.read(part).texts if text is not None]
        vectors, _ = self.vectors(texts)
        if len(vectors) < 2:
            raise InputError(
                f"precision {self._options.precision} takes its ranges from at least two texts: choose float32"
            )
        return np.stack([vectors.min(axis=0), vectors.max(axis=0)]).astype(np.float32)

    def close(self) -> None:
        """Lets go of the engine and the file that was read last."""
        if self._reader is not None:
            self._reader[1].close()
        self.encoder.close()

    def _reader_of(self, file: int) -> Reader:
        """Of the file that was read last, where it is the same: its next rows are near."""
        if self._reader is None or self._reader[0] != file:
            if self._reader is not None:
                self._reader[1].close()
                self._reader = None
            self._reader = file, reader_of(self.plan.files[file].file, self.plan.wanted)
        return self._reader[1]
