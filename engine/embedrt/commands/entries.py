"""Records of a file as entries of a database's table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from embedrt.commands.kept import json_object
from embedrt.commands.piece_source import START, PieceSource
from embedrt.commands.reading.formats import FORMATS
from embedrt.commands.reading.records import How, KeptNames, Record
from embedrt.commands.source import TextSource
from embedrt.databases.model import Entry
from embedrt.errors import FileFormatError, OptionError


@dataclass(frozen=True)
class SourceEntries:
    """The records of a source; may be read again and again.

    Raises:
        FileFormatError: while it is read, at the first record without a usable text.
    """

    source: TextSource
    ids: str | None  # the column that records are known by
    keep: KeptNames

    def __iter__(self) -> Iterator[Entry]:
        return (self._entry(record) for record in self.source.records())

    def _entry(self, record: Record) -> Entry:
        kept = json_object(record.kept)
        row_id = None if self.ids is None else _id_text(kept.get(self.ids))
        if self.ids is not None and self.keep != "all" and self.ids not in self.keep:
            kept.pop(self.ids, None)
        if row_id is not None and isinstance(self.source, PieceSource):
            row_id = f"{row_id}#{kept[START]}"  # pieces of a record are told apart by where they begin
        place = f"{self.source.name}, {self.source.unit} {record.line}"
        text = self.source.text_of(record)
        return Entry(text, row_id, kept, place, self.source.content_of(text))


def entries_of(source: TextSource, ids: str | None, keep: KeptNames) -> SourceEntries:
    """The source's records, known by the column `ids`, with the columns `keep`.

    Raises:
        FileFormatError: it is a pipe.
        OptionError: its format has no columns.
    """
    if source.is_pipe:
        raise FileFormatError(f"{source.name}: a corpus must be a file, because it is read twice")
    if ids is not None and (source.format not in FORMATS or "keep" not in FORMATS[source.format].options):
        raise OptionError(f"--id does not go with {source.name}: plain lines have no columns")
    read = keep if keep == "all" or ids is None else tuple(dict.fromkeys([ids, *keep]))
    option = "--keep" if ids is None else "--id and --keep" if keep else "--id"
    how: How = replace(source.how, keep=read, keep_option=option)
    return SourceEntries(replace(source, how=how), ids, keep)


def _id_text(value: object) -> str | None:
    if value is None or value == "" or isinstance(value, float | bool | list | dict):
        return None
    return str(value)
