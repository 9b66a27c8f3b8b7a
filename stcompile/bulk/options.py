"""What a job of files can be asked for."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from stcompile.errors import InputError
from stcompile.runtime.inputs import at_least_one, check_prompt

# Rows of a shard: a multiple of the texts that the runtime has in hand at a time, about 25 MB of 384 float32 numbers.
SHARD_ROWS = 16_384

PRECISIONS = ("float32", "float16", "int8", "uint8", "binary", "ubinary")
FORMATS = ("parquet", "npy", "lance")


@dataclass(frozen=True)
class BulkOptions:
    """What becomes of each row of the input.

    Attributes:
        column: of the texts; of plain text files there is none.
        id: the column that names a row in the output; None numbers the rows of all files from 0, as `row`.
        keep: other columns that go along.
        into: the column of the vectors.
        format: of the output: `parquet`, `npy` or `lance`.
        precision: of the vectors. `int8` and `uint8` take their ranges from a sample of the rows.
        shard_rows: most rows of one file of the output, and of what is done again after a kill.
        prompt_name, prompt, batch_size, normalize_embeddings, truncate_dim, task: as of `Encoder.encode`.
        max_active_dims: of a sparse encoder, as of `SparseEncoder.encode`.
        outputs: of a hybrid encoder, as of `HybridEncoder.encode_hybrid`; None is all.
    """

    column: str = "text"
    id: str | None = None
    keep: tuple[str, ...] = ()
    into: str = "embedding"
    format: str = "parquet"
    precision: str = "float32"
    shard_rows: int = SHARD_ROWS
    prompt_name: str | None = None
    prompt: str | None = None
    batch_size: int | None = None
    normalize_embeddings: bool = False
    truncate_dim: int | None = None
    task: str | None = None
    max_active_dims: int | None = None
    outputs: tuple[str, ...] | None = None

    def settled(self) -> BulkOptions:
        """The same, checked, in the types that they are kept in.

        Raises:
            InputError: one is unknown, out of range, or means the same column as another.
        """
        for name, value, known in (("format", self.format, FORMATS), ("precision", self.precision, PRECISIONS)):
            if value not in known:
                raise InputError(f"unknown {name} {value!r}: choose one of {', '.join(known)}")
        check_prompt(self.prompt)
        written = [*self.carried, *(() if self.id else ("row",)), self.into]
        twice = sorted({name for name in written if written.count(name) > 1})
        if twice:
            raise InputError(
                f"the output would have two columns {twice[0]!r}: name each one once, the vectors' by --into"
            )
        if self.format == "npy" and self.keep:
            raise InputError("npy files hold vectors and ids alone: leave --keep out, or write Parquet")
        counts = ("shard_rows", "batch_size", "truncate_dim", "max_active_dims")
        given: dict[str, Any] = {
            name: at_least_one(name, value) for name in counts if (value := getattr(self, name)) is not None
        }
        return replace(self, keep=tuple(self.keep), **given)

    @property
    def carried(self) -> tuple[str, ...]:
        """Columns that are taken over from the input, the id first."""
        return (*(() if self.id is None else (self.id,)), *self.keep)

    @property
    def encoding(self) -> dict[str, Any]:
        """Keywords of `Encoder.encode` that are the same for all rows."""
        names = ("prompt_name", "prompt", "batch_size", "normalize_embeddings", "truncate_dim", "task")
        return {name: getattr(self, name) for name in names}

    @property
    def of_kinds(self) -> dict[str, str]:
        """What is asked for that not every kind of artifact takes, as of `check_of_kind`."""
        names = ("precision", "normalize_embeddings", "truncate_dim", "max_active_dims", "outputs")
        defaults = type(self)()
        return {name: name for name in names if getattr(self, name) != getattr(defaults, name)}

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "keep": list(self.keep), "outputs": self.outputs and list(self.outputs)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> BulkOptions:
        """What `to_json` gave."""
        outputs = value.get("outputs")
        return cls(**{**value, "keep": tuple(value["keep"]), "outputs": outputs and tuple(outputs)})
