"""Text front end of BoW: word ids of one text behind those of the other (module-stack spec, section 9.5)."""

from __future__ import annotations

from collections.abc import Sequence

from stcompile.runtime.text.base import Feeds, Row, flat
from stcompile.runtime.text.words import WordsText


class BowText(WordsText):
    """As `WordsText`, without padding: a bag of words needs none."""

    def collate(self, rows: Sequence[Row], prompt: str | None) -> Feeds:
        """Joins rows.

        Returns:
            of `input_ids` `(tokens,)` and `offsets` `(batch,)`, int64, what the graph takes; both may be of rows
            without any word.
        """
        feeds = flat(rows)
        return {name: feeds[name] for name in self._inputs}
