"""Separated values with a header line: CSV (RFC 4180) and TSV.

CSV fields may stand in double quotes. In TSV a quote is a character like any other, as in IANA's
text/tab-separated-values and in the data sets that people train on; `--quoting double` reads a spreadsheet's.
A file that breaks its own rules is an error: one that is read on past a stray quote loses rows without a sign.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from embedrt.commands.reading.encodings import Line, hint_for, read_lines
from embedrt.commands.reading.records import How, Record, chosen_column, kept_columns
from embedrt.errors import FileFormatError, OptionError

DELIMITERS = {"comma": ",", "tab": "\t", "semicolon": ";", "pipe": "|", "space": " "}
QUOTINGS = ("double", "none")
_LONGEST_FIELD = 1 << 26  # characters; a field that goes on for longer began with a stray quote


@dataclass(frozen=True)
class Dialect:
    """How fields are told apart."""

    delimiter: str
    quoting: str  # of QUOTINGS


def delimiter_of(text: str) -> str:
    """The character that `--delimiter` names: a word ("tab"), an escape ("\\t") or itself.

    Raises:
        OptionError: it is no single character, or one that fields cannot be told apart by.
    """
    found = DELIMITERS.get(text.lower(), "\t" if text == "\\t" else text)
    if len(found) != 1 or found in '"\r\n':
        raise OptionError(f"--delimiter {text!r} is not one character; or one of {', '.join(DELIMITERS)}")
    return found


def read_csv(stream: io.BufferedReader, name: str, how: How) -> Iterator[Record]:
    """Comma-separated; quoted fields may hold line ends. A first line "sep=;" names the delimiter, as in Excel."""
    return _read(stream, name, how, Dialect(how.delimiter or ",", how.quoting or "double"))


def read_tsv(stream: io.BufferedReader, name: str, how: How) -> Iterator[Record]:
    """Tab-separated; quotes are characters."""
    return _read(stream, name, how, Dialect(how.delimiter or "\t", how.quoting or "none"))


def read_fields(
    stream: io.BufferedReader, name: str, how: How, delimiter: str, quoting: str
) -> Iterator[tuple[int, list[str]]]:
    """Line and fields of each record of a file whose first line is data; blank lines are none.

    Args:
        delimiter, quoting: where `how` says none.

    Raises:
        FileFormatError: the file breaks its own rules, or a field cannot be decoded.
    """
    dialect = Dialect(how.delimiter or delimiter, how.quoting or quoting)
    for line, fields in _fields_of(read_lines(stream, name, how.encoding), name, dialect):
        for field_ in fields:
            if not field_.isascii() and (problem := _broken(field_, "a column", how.encoding or "utf-8")):
                raise FileFormatError(f"{name}, line {line}: {problem}")
        if fields:
            yield line, fields


def _read(stream: io.BufferedReader, name: str, how: How, dialect: Dialect) -> Iterator[Record]:
    lines = read_lines(stream, name, how.encoding)
    first = next(lines, None)
    said = re.fullmatch("sep=(.)", first.text) if first is not None and how.delimiter is None else None
    if said:
        dialect, first, how = Dialect(said[1], dialect.quoting), next(lines, None), _with_delimiter(how, said[1])
    if first is None:
        raise FileFormatError(f"{name} is empty; a header line with the column names is expected")
    rows = _fields_of(_chained(first, lines), name, dialect)
    header = _header(next(rows)[1], first, name, how, dialect)
    column = chosen_column(how, header, name)
    kept = kept_columns(how, column, header, name)
    return _records(rows, dialect, _Columns(tuple(header), column, kept, how.encoding or "utf-8"))


@dataclass(frozen=True)
class _Columns:
    names: tuple[str, ...]
    column: str
    kept: tuple[str, ...]
    encoding: str


def _with_delimiter(how: How, delimiter: str) -> How:
    return replace(how, delimiter=delimiter)


def _chained(first: Line, rest: Iterator[Line]) -> Iterator[Line]:
    yield first
    yield from rest


def _header(header: list[str], first: Line, name: str, how: How, dialect: Dialect) -> list[str]:
    """The column names; FileFormatError if they cannot be read, or are one that another delimiter would split."""
    if first.problem is not None:
        raise FileFormatError(f"{name}: its header is {first.problem}")
    if len(header) == 1 and how.delimiter is None:
        for word, other in DELIMITERS.items():
            if other in header[0] and other != " ":
                kept = next(key for key, value in DELIMITERS.items() if value == dialect.delimiter)
                raise FileFormatError(
                    f"{name} has one column, {header[0]!r}, where {kept}s separate; say --delimiter {word}, "
                    f"or --delimiter {kept} if it is one column"
                )
    return header


def _records(rows: Iterator[tuple[int, list[str]]], dialect: Dialect, columns: _Columns) -> Iterator[Record]:
    single = len(columns.names) == 1
    row, blank = 0, list[int]()
    for line, fields in rows:
        if not fields and single and dialect.quoting == "none":
            fields = [""]
        if not fields:  # no record; but in a file of one column it may be meant as an empty text
            blank.append(line)
            continue
        for number in blank if single else ():
            yield Record(row, number, None, 'a blank line; an empty text is written "" (or see --input-format txt)')
            row += 1
        blank.clear()
        yield _record(row, line, fields, dialect, columns)
        row += 1


def _record(row: int, line: int, fields: list[str], dialect: Dialect, columns: _Columns) -> Record:
    if len(fields) != len(columns.names):
        return Record(row, line, None, _wrong_number(fields, dialect, columns))
    values = dict(zip(columns.names, fields, strict=True))
    for name in (columns.column, *columns.kept):
        if not values[name].isascii() and (problem := _broken(values[name], name, columns.encoding)):
            return Record(row, line, None, problem)
    return Record(row, line, values[columns.column], None, {name: values[name] for name in columns.kept})


def _wrong_number(fields: list[str], dialect: Dialect, columns: _Columns) -> str:
    word = next((key for key, value in DELIMITERS.items() if value == dialect.delimiter), repr(dialect.delimiter))
    if dialect.quoting == "double":
        cure = f"a text that holds a {word} stands in double quotes; or say another --delimiter"
    elif any(text.startswith('"') for text in fields):
        cure = "if its fields stand in double quotes, say --quoting double"
    else:
        cure = f"a text cannot hold a {word} unless it is quoted (--quoting double); or say another --delimiter"
    count = f"{len(fields)} field{'' if len(fields) == 1 else 's'}"
    return f"{count}, the header has {len(columns.names)}: {cure}"


def _broken(text: str, column: str, encoding: str) -> str | None:
    """What is wrong with a field that may hold bytes which could not be decoded."""
    try:
        text.encode("utf-8")
        return None
    except UnicodeEncodeError as exc:
        shown, hint = encoding, "is --encoding right?"
        if encoding == "utf-8":
            shown, hint = "UTF-8", hint_for(text.encode("utf-8", "surrogateescape"))
        return f"not valid {shown} (byte 0x{ord(text[exc.start]) & 0xFF:02x} in {column!r}); {hint}"


def _fields_of(lines: Iterator[Line], name: str, dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    """The fields of each record with the number of its first line; none for a blank line."""
    if dialect.quoting == "none":
        return ((line.number, line.text.split(dialect.delimiter) if line.text else []) for line in lines)
    return _quoted_fields(_Lines(lines), name, dialect.delimiter)


@dataclass
class _Lines:
    """Gives lines to the csv module, and remembers those of the record that it is reading."""

    source: Iterator[Line]
    held: list[Line] = field(default_factory=list)

    def __iter__(self) -> Iterator[str]:
        for line in self.source:
            self.held.append(line)
            yield line.text + line.end


def _quoted_fields(lines: _Lines, name: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        lines.held.clear()
        try:
            fields = next(reader, None)
        except csv.Error as exc:
            raise _syntax_error(lines.held, name, delimiter, str(exc)) from exc
        if fields is None:
            return
        yield lines.held[0].number, fields


def _syntax_error(held: list[Line], name: str, delimiter: str, said: str) -> FileFormatError:
    """The csv module's error, with the line where the quote was opened that it is about."""
    last = held[-1].number
    if "new-line character" in said:
        return FileFormatError(
            f"{name}, line {last}: a carriage return outside quotes; lines end in LF or CRLF: tr '\\r' '\\n' < IN > OUT"
        )
    opened = last_opened(["".join((line.text, line.end)) for line in held], delimiter)
    start = held[0].number if opened is None else held[opened].number
    if "expected after" in said:
        where = f" on line {last}" if last != start else ""
        what = f"its closing quote{where} is followed by more; a quote inside a quoted field is written twice"
    else:
        what = "it is never closed"
    return FileFormatError(
        f"{name}, line {start}: a field begins with a quote, and {what} (--quoting none, if quotes are characters)"
    )


def last_opened(lines: list[str], delimiter: str) -> int | None:
    """Index of the line where the last quoted field of a record begins, by RFC 4180; None if none is quoted."""
    begins, inside, opened = True, False, None
    for index, line in enumerate(lines):
        place = 0
        while place < len(line):
            char = line[place]
            if inside and char == '"' and line[place + 1 : place + 2] == '"':
                place += 1
            elif inside:
                inside = char != '"'
            elif begins and char == '"':
                inside, opened, begins = True, index, False
            else:
                begins = char == delimiter
            place += 1
    return opened
