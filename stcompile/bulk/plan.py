"""What a job is going to do, decided once and kept beside its output: files, shards, columns, options.

A shard's name follows from where its rows stand in the input. So whoever does it, and however often, puts the same file
in the same place, and what is there need not be done again.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa

from stcompile.bulk.inputs import InputFile
from stcompile.bulk.options import BulkOptions
from stcompile.bulk.readers import reader_of
from stcompile.bulk.readers.base import UnreadableError, Wanted
from stcompile.errors import InputError

SCHEMA_VERSION = 1

# Of the numbers that name rows where no column does.
ROW = "row"


@dataclass(frozen=True)
class Shard:
    """Rows of one file, encoded and written together.

    Attributes:
        name: of what is written, without an ending.
        file: its place among the plan's files.
        start, stop: the first row of the file, and the one after the last.
        offset: rows of the files before.
    """

    name: str
    file: int
    start: int
    stop: int
    offset: int

    @property
    def rows(self) -> int:
        """How many."""
        return self.stop - self.start


@dataclass(frozen=True)
class PlannedFile:
    """One file of the input.

    Attributes:
        file: it.
        digest: sha256 of its bytes, or empty where it is not on this machine's disk.
        rows: that it has; of a broken file 0.
        starts: the first row of each of its shards.
        error: why it cannot be read, or None.
    """

    file: InputFile
    digest: str
    rows: int
    starts: tuple[int, ...]
    error: str | None = None


@dataclass(frozen=True)
class Plan:
    """A job.

    Attributes:
        artifact: its address.
        artifact_digest: sha256 of its manifest, which has those of all its files.
        options: what becomes of each row.
        addresses: what the user named as input.
        files: that were found there.
        schema: of the carried columns.
    """

    artifact: str
    artifact_digest: str
    options: BulkOptions
    addresses: tuple[str, ...]
    files: tuple[PlannedFile, ...]
    schema: pa.Schema

    @property
    def wanted(self) -> Wanted:
        """The columns to read."""
        return Wanted(self.options.column, self.options.carried)

    @property
    def rows(self) -> int:
        """Of all files."""
        return sum(item.rows for item in self.files)

    def shards(self) -> Iterator[Shard]:
        """All, in the order of the rows."""
        offset = 0
        for number, item in enumerate(self.files):
            for start, stop in zip(item.starts, (*item.starts[1:], item.rows), strict=False):
                yield Shard(f"part-{number:08}-{start:012}", number, start, stop, offset)
            offset += item.rows

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "schema_version": SCHEMA_VERSION,
            "artifact": self.artifact,
            "artifact_digest": self.artifact_digest,
            "options": self.options.to_json(),
            "addresses": list(self.addresses),
            "files": [{**asdict(item), "starts": list(item.starts)} for item in self.files],
            "columns": base64.b64encode(self.schema.serialize().to_pybytes()).decode("ascii"),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Plan:
        """What `to_json` gave.

        Raises:
            InputError: it is of a newer version, or was not written by this program.
        """
        try:
            if value["schema_version"] != SCHEMA_VERSION:
                raise InputError("the output was begun by another version of stcompile: finish it with that one")
            return cls(
                artifact=value["artifact"],
                artifact_digest=value["artifact_digest"],
                options=BulkOptions.from_json(value["options"]),
                addresses=tuple(value["addresses"]),
                files=tuple(
                    PlannedFile(**{**item, "file": InputFile(**item["file"]), "starts": tuple(item["starts"])})
                    for item in value["files"]
                ),
                schema=pa.ipc.read_schema(pa.py_buffer(base64.b64decode(value["columns"]))),
            )
        except (KeyError, TypeError, ValueError, pa.ArrowException) as error:
            raise InputError(f"the plan in the output is broken ({error!r}): begin anew with --overwrite") from error


def make_plan(
    artifact: str,
    digest: str,
    options: BulkOptions,
    addresses: Sequence[str | os.PathLike[str]],
    found: Sequence[InputFile],
) -> Plan:
    """Counts the rows of files and cuts them into shards; a damaged file is noted, and the others stay.

    Raises:
        InputError: a file lacks a column, or files do not agree on one.
        StcompileError: a file cannot be read now.
    """
    wanted = Wanted(options.column, options.carried)
    files = []
    schemas: dict[str, pa.Schema] = {}
    for file in found:
        try:
            reader = reader_of(file, wanted)
            try:
                scan = reader.scan(options.shard_rows)
            finally:
                reader.close()
        except UnreadableError as error:
            files.append(PlannedFile(file, file.digest(), 0, (), str(error)))
            continue
        files.append(PlannedFile(file, file.digest(), scan.rows, scan.starts))
        if scan.rows:
            schemas[file.address] = scan.schema
    named = tuple(os.fspath(address) for address in addresses)
    return Plan(artifact, digest, options, named, tuple(files), _one_schema(schemas, options))


def differences(plan: Plan, found: Sequence[InputFile], artifact_digest: str, options: BulkOptions) -> list[str]:
    """Why a job that was begun is not the one that is asked for now; empty where it is.

    Args:
        plan: of the job that was begun.
        found: the input's files as they are now.
        artifact_digest: of the artifact as it is now.
        options: as they are asked for now.
    """
    reasons = []
    if artifact_digest != plan.artifact_digest:
        reasons.append("another artifact")
    if options != plan.options:
        old, new = plan.options.to_json(), options.to_json()
        changed = [f"{name} {old[name]!r}, now {new[name]!r}" for name in old if old[name] != new[name]]
        reasons.append(f"other options ({'; '.join(changed)})")
    known = {item.file.address: item for item in plan.files}
    now = {file.address: file for file in found}
    reasons += [f"{address} is new" for address in now if address not in known]
    reasons += [f"{address} is gone" for address in known if address not in now]
    for address, item in known.items():
        file = now.get(address)
        if file is not None and not is_same(item, file):
            reasons.append(f"{address} has changed")
    return reasons


def is_same(item: PlannedFile, file: InputFile) -> bool:
    """Whether a file is as it was when the job was begun; a copy has another time and the same bytes."""
    return file == item.file or _is_copy(item, file)


def _is_copy(item: PlannedFile, file: InputFile) -> bool:
    return replace(file, version=item.file.version) == item.file and bool(item.digest) and file.digest() == item.digest


# Each holds every value of those before it, exactly.
_WIDER = (
    (pa.int8(), pa.int16(), pa.int32(), pa.int64()),
    (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
    (pa.float32(), pa.float64()),
    (pa.string(), pa.large_string()),
    (pa.binary(), pa.large_binary()),
)


def _one_schema(schemas: dict[str, pa.Schema], options: BulkOptions) -> pa.Schema:
    """Of the carried columns of all files, by their addresses; a column is of the widest of its types, if one is."""
    fields = []
    for name in options.carried:
        kind, first = pa.null(), ""
        for address, schema in schemas.items():
            other = schema.field(name).type
            both = _one_type(kind, other)
            if both is None:
                raise InputError(
                    f"the files do not agree on a column ({name!r} is {kind} in {first}, {other} in {address}): "
                    "convert them, or encode them one by one"
                )
            if both != kind:
                kind, first = both, address
        fields.append(pa.field(name, pa.string() if pa.types.is_null(kind) else kind))
    return pa.schema(fields)


def _one_type(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """The type of the two that holds the values of both as they are."""
    if pa.types.is_null(one) or one == other:
        return other
    if pa.types.is_null(other):
        return one
    return next((max(one, other, key=kinds.index) for kinds in _WIDER if one in kinds and other in kinds), None)
