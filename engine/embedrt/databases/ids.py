"""Which row of a table a record of a corpus is. Many millions of ids are kept end to end, and not as objects."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Protocol

import numpy as np

from embedrt.databases.model import Entry
from embedrt.errors import FileFormatError
from embedrt.vectors.keys import KEY_BYTES, Keys, Rows, first_rows, key_of, keys_in, occurrences, table_of


class Names:
    """Strings by number: their bytes and eight more for each, where a list of str takes sixty more."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._ends = array("q", [0])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, number: int) -> str:
        return self._bytes[self._ends[number] : self._ends[number + 1]].decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        return (self[number] for number in range(len(self)))

    def append(self, name: str) -> None:
        """Add one at the end."""
        self._bytes += name.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._bytes))


class Ids(Protocol):
    """Ids of records, by their rows in the corpus."""

    def add(self, entry: Entry) -> None:
        """The next record."""

    def check(self, entries: Iterable[Entry]) -> None:
        """Look at all ids, once every record has been added; `entries` are those records, for messages."""

    def __getitem__(self, row: int) -> str: ...

    def keys(self) -> Keys:
        """The keys (N, KEY_BYTES) of all ids."""


class IdsOfColumn:
    """The records' own ids."""

    def __init__(self, column: str) -> None:
        self._column = column
        self._names = Names()

    def add(self, entry: Entry) -> None:
        """The next record.

        Raises:
            FileFormatError: it has no id.
        """
        if entry.id is None:
            raise FileFormatError(f"{entry.place or 'a record'}: no id in {self._column!r}")
        self._names.append(entry.id)

    def check(self, entries: Iterable[Entry]) -> None:
        """FileFormatError if two records have the same id."""
        first = first_rows(self.keys())
        repeated = np.flatnonzero(first != np.arange(len(first)))
        if not len(repeated):
            return
        row = int(repeated[0])
        pair = (int(first[row]), row)
        # Read again for the two places, which are not kept for all that may go well.
        earlier, later = (entry.place for at, entry in enumerate(islice(entries, row + 1)) if at in pair)
        raise FileFormatError(
            f"{later or 'a record'}: the id {self[row]!r} stands in {earlier or 'an earlier record'}, too; "
            "ids must differ"
        )

    def __getitem__(self, row: int) -> str:
        return self._names[row]

    def keys(self) -> Keys:
        """The keys (N, KEY_BYTES) of all ids."""
        return table_of(self._names)


class IdsOfTexts:
    """The hash of a record's text; from its second occurrence on with a number, HASH-2.

    So a text keeps its id wherever it moves to.
    """

    def __init__(self) -> None:
        self._hashes = bytearray()
        self._occurrence: Rows = np.zeros(0, np.int64)

    def add(self, entry: Entry) -> None:
        """The next record."""
        self._hashes += key_of(entry.text)

    def check(self, entries: Iterable[Entry]) -> None:
        """Number the occurrences."""
        del entries
        self._occurrence = occurrences(keys_in(self._hashes))

    def __getitem__(self, row: int) -> str:
        text = self._hashes[row * KEY_BYTES : (row + 1) * KEY_BYTES].hex()
        number = self._occurrence[row]
        return text if number == 1 else f"{text}-{number}"

    def keys(self) -> Keys:
        """The keys (N, KEY_BYTES) of all ids."""
        return table_of(self[row] for row in range(len(self._occurrence)))


def ids_by(column: str | None) -> Ids:
    """Ids of a column, or of texts."""
    return IdsOfTexts() if column is None else IdsOfColumn(column)
