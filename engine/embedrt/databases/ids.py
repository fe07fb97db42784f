"""Which row of a table a record of a corpus is."""

from __future__ import annotations

from collections import Counter

from embedrt.databases.model import Entry
from embedrt.errors import FileFormatError
from embedrt.vectors.keys import key_of


class Ids:
    """Ids of records, in the corpus' order: their own, or else the hash of the text and its occurrence.

    The second occurrence of a text is HASH-2, so that a text keeps its id wherever it moves to.
    """

    def __init__(self, by_column: str | None) -> None:
        self._column = by_column
        self._seen: Counter[str] = Counter()
        self._places: dict[str, str] = {}

    def of(self, entry: Entry) -> str:
        """The next record's id.

        Raises:
            FileFormatError: it has none, or one that an earlier record has.
        """
        if self._column is None:
            text = key_of(entry.text).hex()
            self._seen[text] += 1
            return text if self._seen[text] == 1 else f"{text}-{self._seen[text]}"
        if entry.id is None:
            raise FileFormatError(f"{entry.place or 'a record'}: no id in {self._column!r}")
        if entry.id in self._places:
            first = self._places[entry.id]
            raise FileFormatError(
                f"{entry.place or 'a record'}: the id {entry.id!r} stands in {first or 'an earlier record'}, too; "
                "ids must differ"
            )
        self._places[entry.id] = entry.place
        return entry.id
