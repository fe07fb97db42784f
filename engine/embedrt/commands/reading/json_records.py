"""JSON: a value per line (.jsonl), or one array of them (.json)."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

from embedrt.commands.reading.encodings import read_lines
from embedrt.commands.reading.records import How, Record, default_column, listed, no_column
from embedrt.errors import FileFormatError

BLANKS = " \t\r\n\f\v"  # a line of these alone is no record
_KINDS = {str: "a string", int: "a number", float: "a number", bool: "a boolean", list: "an array", dict: "an object"}
_PIECE_CHARS = 1 << 18
_AFTER_ITEM = ",]"


class _Object(dict[str, Any]):
    """An object that remembers which of its fields were there twice."""

    twice: frozenset[str] = frozenset()


def _object(pairs: list[tuple[str, Any]]) -> _Object:
    made = _Object(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        made.twice = frozenset(name for name in names if names.count(name) > 1)
    return made


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def kind_of(value: object) -> str:
    """A value in the words of JSON."""
    return "null" if value is None else _KINDS.get(_plain_type(value), f"of type {type(value).__name__}")


def _plain_type(value: object) -> type:
    return dict if isinstance(value, dict) else type(value)


class _Values:
    """Values to records: strings, or objects with a field that holds the text. The first one decides which."""

    def __init__(self, name: str, how: How) -> None:
        self._name = name
        self._column = how.column
        self._keep = how.keep
        self._keep_option = how.keep_option
        self._column_option = how.column_option

    def record(self, row: int, line: int, value: object) -> Record:
        """The record of one value."""
        if isinstance(value, _Object):
            return self._of_object(row, line, value)
        if self._column is not None:
            return Record(
                row, line, None, f"an object with a field {self._column!r} is expected, this is {kind_of(value)}"
            )
        if self._keep not in ((), "all"):
            raise FileFormatError(
                f"{self._name} holds {kind_of(value)} where {self._keep_option} needs objects with fields"
            )
        return of_value(row, line, value)

    def _of_object(self, row: int, line: int, value: _Object) -> Record:
        if self._column is None:
            self._column = default_column(list(value), self._name, self._column_option)
        if row == 0:
            named = () if self._keep == "all" else self._keep
            for wanted, option in ((self._column, ""), *((name, self._keep_option) for name in named)):
                if wanted not in value:
                    raise no_column(self._name, wanted, list(value), option)
        if self._column not in value:
            return Record(row, line, None, f"no field {self._column!r}; it has: {listed(list(value))}")
        names = tuple(key for key in value if key != self._column) if self._keep == "all" else self._keep
        for name in (self._column, *names):
            if name in value.twice:
                return Record(row, line, None, f"field {name!r} is there twice")
        text, kept = value[self._column], {name: value.get(name) for name in names}
        if not isinstance(text, str):
            return Record(row, line, None, f"field {self._column!r} is {kind_of(text)}, not a text", kept)
        return Record(row, line, text, None, kept)


def of_value(row: int, line: int, value: object) -> Record:
    """The record of a value that is the text itself."""
    if isinstance(value, str):
        return Record(row, line, value)
    return Record(row, line, None, f"{kind_of(value)}, not a text")


def read_jsonl(stream: io.BufferedReader, name: str, how: How) -> Iterator[Record]:
    """One JSON string, or object with a field for the text, per line. Blank lines are no records."""
    values = _Values(name, how)
    row = -1
    for line in read_lines(stream, name, how.encoding):
        if not line.text.strip(BLANKS):
            continue
        row += 1
        if line.problem is not None:
            yield Record(row, line.number, None, line.problem)
            continue
        try:
            value = _DECODER.decode(line.text.strip(BLANKS))
        except (ValueError, RecursionError) as exc:
            yield Record(row, line.number, None, f"not JSON: {exc}")
            continue
        yield values.record(row, line.number, value)


def read_json(stream: io.BufferedReader, name: str, how: How) -> Iterator[Record]:
    """One array of strings, or of objects with a field for the text; read item by item.

    Raises:
        FileFormatError: it is no array, or breaks off; the message has the line.
    """
    values = _Values(name, how)
    for row, value in enumerate(items_of(stream, name, how.encoding)):
        yield values.record(row, row + 1, value)


def items_of(stream: io.BufferedReader, name: str, encoding: str | None) -> Iterator[object]:
    """The items of one array, whatever they are; FileFormatError as `read_json`."""
    return iter(_Items(stream, name, encoding))


class _Items:
    """The items of one array, decoded as its text comes in."""

    def __init__(self, stream: io.BufferedReader, name: str, encoding: str | None) -> None:
        self._pieces = _pieces(stream, name, encoding)
        self._name = name
        self._text = ""  # not yet decoded
        self._line = 1  # where it begins
        self._ended = False

    def __iter__(self) -> Iterator[object]:
        self._expect("[", "one array of texts or objects is expected (JSON lines are --input-format jsonl)")
        if self._next_char() == "]":
            self._skip(1)
        else:
            while True:
                yield self._item()
                if self._expect(_AFTER_ITEM, "',' or ']' is expected") == "]":
                    break
        if self._next_char():
            raise self._error("more follows after the array's end")

    def _item(self) -> object:
        self._next_char()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text)
            except (ValueError, RecursionError) as exc:
                if self._more():
                    continue
                raise self._error(f"not JSON: {exc}") from exc
            if end < len(self._text) or not self._more():  # "12" may go on as "123"
                self._skip(end)
                return value

    def _expect(self, chars: str, problem: str) -> str:
        char = self._next_char()
        if not char or char not in chars:
            raise self._error("it breaks off" if not char and self._line > 1 else problem)
        self._skip(1)
        return char

    def _next_char(self) -> str:
        """The next character that is no blank, or "" at the end."""
        while True:
            bare = self._text.lstrip(BLANKS)
            self._skip(len(self._text) - len(bare))
            if self._text or not self._more():
                return self._text[:1]

    def _skip(self, count: int) -> None:
        self._line += self._text.count("\n", 0, count)
        self._text = self._text[count:]

    def _more(self) -> bool:
        """Read on, twice as much as is held, so that a long item is not scanned once per piece."""
        wanted, pieces = max(_PIECE_CHARS, len(self._text)), [self._text]
        for piece in self._pieces:
            pieces.append(piece)
            wanted -= len(piece)
            if wanted <= 0:
                break
        grown = len(pieces) > 1
        self._text = "".join(pieces)
        return grown

    def _error(self, problem: str) -> FileFormatError:
        return FileFormatError(f"{self._name}, line {self._line}: {problem}")


def _pieces(stream: io.BufferedReader, name: str, encoding: str | None) -> Iterator[str]:
    for line in read_lines(stream, name, encoding):
        if line.problem is not None:
            raise FileFormatError(f"{name}, line {line.number}: {line.problem}")
        yield line.text + line.end
