"""What every form of output gives a shard, and what it does in the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

    from stcompile.bulk.store import Store


class Writer(Protocol):
    """Writes shards into a folder. Whatever the result's columns are, it takes them as a table."""

    @property
    def folder(self) -> str:
        """Where in the output its files lie; empty for the output itself."""

    def check(self, store: Store, schema: pa.Schema) -> None:
        """Whether it can write there, and columns of these types.

        Args:
            store: the output.
            schema: of the columns that name a row and go along.

        Raises:
            InputError: it cannot.
        """

    def problems(self, table: pa.Table) -> dict[int, str]:
        """Rows that it cannot hold, by their place, and why; most forms hold all."""

    def write(self, store: Store, name: str, table: pa.Table) -> dict[str, Any]:
        """Writes one shard, whole or not at all.

        Args:
            store: the output.
            name: of the shard, without an ending.
            table: its rows, at least one: the id or row number, the carried columns, the result.

        Returns:
            what its journal entry says of it, `files` among it: each one's name in `folder`, sha256 and bytes.
        """

    def finish(self, store: Store, entries: list[dict[str, Any]]) -> None:
        """Makes one thing of the shards, where the form has such; doing it again changes nothing.

        Args:
            store: the output.
            entries: the journal's, in the order of the rows.
        """
