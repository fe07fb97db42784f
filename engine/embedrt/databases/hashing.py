"""What a corpus and a table are made of: keys, end to end, of many millions of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from embedrt.databases.columns import Type, hash_of, refuse_reserved, type_of
from embedrt.databases.ids import Ids, Names, ids_by
from embedrt.databases.model import Database, Entry
from embedrt.databases.planning import NOTHING, Hashed
from embedrt.errors import FileFormatError
from embedrt.vectors.keys import Keys, key_of, keys_in


@dataclass(frozen=True)
class Read:
    """A corpus."""

    ids: Ids
    texts: Keys
    columns: Keys  # empty where there are no rows to compare with
    types: dict[str, Type]


@dataclass(frozen=True)
class Held:
    """What a table holds."""

    ids: Names = field(default_factory=Names)
    rows: Hashed = NOTHING


def read_corpus(
    entries: Iterable[Entry],
    column: str | None,
    types: dict[str, Type] | None,
    columns_of: Callable[[Entry, dict[str, Type]], dict[str, Any]],
) -> Read:
    """What all entries are made of.

    Args:
        entries: read once; twice where an id is wrong.
        column: that of the ids; None: they are made of the texts.
        types: the table's columns; without a table they are found, and no columns are compared.
        columns_of: an entry's values by the table's columns.

    Raises:
        FileFormatError: there are no entries, or an id is missing or stands twice.
        OptionError: a column is called as one of the table's own.
    """
    ids = ids_by(column)
    texts, columns = bytearray(), bytearray()
    found: dict[str, Type | None] = {}
    for entry in entries:
        try:
            ids.add(entry)
        except FileFormatError:
            ids.check(entries)  # an earlier record's fault is told first
            raise
        texts += key_of(entry.decides)
        if types is None:
            for name, value in entry.columns.items():
                found[name] = type_of(value, found.get(name))
        else:
            columns += hash_of(columns_of(entry, types))
    if not texts:
        raise FileFormatError("the corpus is empty: there is nothing to index, and no row is deleted for it")
    ids.check(entries)
    if types is None:
        refuse_reserved(found)
        types = {name: kind or "text" for name, kind in found.items()}
    return Read(ids, keys_in(texts), keys_in(columns), types)


def read_table(database: Database) -> Held:
    """The ids of a table's rows, and what they were made of."""
    ids, id_keys, texts, columns = Names(), bytearray(), bytearray(), bytearray()
    for row_id, hashes in database.ids_and_hashes():
        ids.append(row_id)
        id_keys += key_of(row_id)
        texts += bytes.fromhex(hashes.text)
        columns += bytes.fromhex(hashes.columns)
    return Held(ids, Hashed(keys_in(id_keys), keys_in(texts), keys_in(columns)))
