"""What every form of output gives a shard, and what it does in the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

    from stcompile.bulk.store import Store


class Writer(Protocol):
    """Writes shards into a folder. Whatever the result's columns are, it takes them as a table."""

    def write(self, store: Store, name: str, table: pa.Table) -> dict[str, Any]:
        """Writes one shard, whole or not at all.

        Args:
            store: the output.
            name: of the shard, without an ending.
            table: its rows: the id or row number, the carried columns, the result.

        Returns:
            what its journal entry says of it, `files` among it: each one's name, sha256 and bytes.
        """

    def finish(self, store: Store, entries: list[dict[str, Any]]) -> None:
        """Makes one thing of the shards, where the form has such; doing it again changes nothing.

        Args:
            store: the output.
            entries: the journal's, in the order of the rows.
        """

    def names(self, name: str) -> tuple[str, ...]:
        """The files of one shard, to be removed with it."""
