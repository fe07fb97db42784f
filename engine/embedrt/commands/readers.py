"""Text records out of .txt, .jsonl, .csv, .tsv and .parquet, one at a time.

A record that holds no usable text is still a record, with the reason in `problem`: the caller decides whether
it ends the run. Rows count records from 0, lines count lines of the file from 1.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from embedrt.errors import DependencyError, FileFormatError

DEFAULT_COLUMN = "text"
_BATCH_ROWS = 1024  # parquet rows decoded at once
_KINDS = {str: "a string", int: "a number", float: "a number", bool: "a boolean", list: "an array", dict: "an object"}


@dataclass(frozen=True)
class Record:
    """One record: its text, or why it has none."""

    row: int  # from 0
    line: int  # from 1; where the record starts (parquet: row + 1)
    text: str | None
    problem: str | None = None


Reader = Callable[[BinaryIO, str, str | None], Iterator[Record]]


def read_txt(stream: BinaryIO, name: str, column: str | None) -> Iterator[Record]:
    """One text per line; an empty line is an empty text. Ends of lines may be LF or CRLF."""
    if column is not None:
        raise FileFormatError(f"{name} is read as plain lines, which have no column {column!r}; see --input-format")
    for row, raw in enumerate(_lines(stream, name)):
        yield _decoded(row, row + 1, raw)


def read_jsonl(stream: BinaryIO, name: str, column: str | None) -> Iterator[Record]:
    """One JSON string, or object with a field `column`, per line. Blank lines are no records."""
    row = -1
    for line, raw in enumerate(_lines(stream, name), start=1):
        if not raw.strip():
            continue
        row += 1
        record = _decoded(row, line, raw)
        if record.text is None:
            yield record
            continue
        try:
            value = json.loads(record.text)
        except (ValueError, RecursionError) as exc:
            yield Record(row, line, None, f"not JSON: {exc}")
            continue
        if isinstance(value, dict):
            if column is None:
                column = _default_column(list(value), name)
            elif row == 0 and column not in value:
                raise _no_column(name, column, list(value))
            yield _from_object(row, line, value, column)
        elif column is not None:
            yield Record(row, line, None, f"an object with a field {column!r} is expected, this is {_kind(value)}")
        else:
            yield _from_value(row, line, value)


def read_csv(stream: BinaryIO, name: str, column: str | None) -> Iterator[Record]:
    """Records of a comma-separated file with a header line; quoted fields may hold line ends."""
    return _read_separated(stream, name, column, ",")


def read_tsv(stream: BinaryIO, name: str, column: str | None) -> Iterator[Record]:
    """Records of a tab-separated file with a header line."""
    return _read_separated(stream, name, column, "\t")


def read_parquet(stream: BinaryIO, name: str, column: str | None) -> Iterator[Record]:
    """Values of one string column, by row groups."""
    pa, pq = import_pyarrow()
    try:
        file = pq.ParquetFile(stream)
        schema = file.schema_arrow
        chosen = _chosen_column(column, schema.names, name)
        kind = schema.field(chosen).type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if not any(getattr(pa.types, f"is_{name}")(kind) for name in ("string", "large_string", "string_view", "null")):
            raise FileFormatError(f"{name}: column {chosen!r} holds {kind}, not text; columns: {_names(schema.names)}")
        row = 0
        for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=[chosen]):
            for value in batch.column(0).to_pylist():
                yield _from_value(row, row + 1, value)
                row += 1
    except (pa.ArrowException, OSError, UnicodeDecodeError) as exc:
        raise FileFormatError(f"{name} cannot be read as parquet: {exc}") from exc


READERS: dict[str, Reader] = {
    "txt": read_txt,
    "jsonl": read_jsonl,
    "csv": read_csv,
    "tsv": read_tsv,
    "parquet": read_parquet,
}
SUFFIXES = {
    ".txt": "txt",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}


def format_of(path: Path) -> str:
    """The input format that a suffix stands for."""
    try:
        return SUFFIXES[path.suffix.lower()]
    except KeyError:
        raise FileFormatError(
            f"{path}: unknown suffix {path.suffix!r}; known: {', '.join(SUFFIXES)}; "
            "or say what it is with --input-format"
        ) from None


def import_pyarrow() -> tuple[Any, Any]:
    """pyarrow and pyarrow.parquet; DependencyError says how to install them."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as exc:
        raise DependencyError("parquet files need pyarrow: pip install 'embedrt[parquet]'") from exc
    return pa, pq


def _lines(stream: BinaryIO, name: str) -> Iterator[bytes]:
    """Lines without their ends, and without the byte order mark of the first."""
    for index, raw in enumerate(stream):
        if index == 0:
            _refuse_utf16(raw, name)
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        yield raw.removesuffix(b"\n").removesuffix(b"\r")


def _refuse_utf16(start: bytes, name: str) -> None:
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise FileFormatError(f"{name} is UTF-16; convert it: iconv -f UTF-16 -t UTF-8 IN > OUT")


def _decoded(row: int, line: int, raw: bytes) -> Record:
    try:
        return Record(row, line, raw.decode("utf-8"))
    except UnicodeDecodeError as exc:
        return Record(row, line, None, f"not valid UTF-8 (byte 0x{raw[exc.start]:02x} at position {exc.start + 1})")


def _read_separated(stream: BinaryIO, name: str, column: str | None, delimiter: str) -> Iterator[Record]:
    csv.field_size_limit(sys.maxsize)
    # Bytes that are no UTF-8 become lone surrogates, so that only the record that holds them is lost.
    peeked = stream.peek(2) if isinstance(stream, io.BufferedReader) else b""
    _refuse_utf16(peeked, name)
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
    reader = csv.reader(text, delimiter=delimiter)
    try:
        header = next(reader, None)
        if header is None:
            raise FileFormatError(f"{name} is empty; a header line with the column names is expected")
        column = _chosen_column(column, header, name)
        position = header.index(column)
        row, end = 0, reader.line_num
        for fields in reader:
            line, end = end + 1, reader.line_num
            if not fields:  # a blank line is no record in CSV
                continue
            yield _from_fields(row, line, fields, position, column)
            row += 1
    except csv.Error as exc:
        raise FileFormatError(f"{name}, line {reader.line_num}: {exc}") from exc
    finally:
        text.detach()  # the stream is the caller's to close


def _from_fields(row: int, line: int, fields: list[str], position: int, column: str) -> Record:
    if position >= len(fields):
        return Record(row, line, None, f"ends after field {len(fields)}; {column!r} is number {position + 1}")
    try:
        fields[position].encode("utf-8")
    except UnicodeEncodeError as exc:
        byte = ord(fields[position][exc.start]) & 0xFF
        return Record(row, line, None, f"not valid UTF-8 (byte 0x{byte:02x} in {column!r})")
    return Record(row, line, fields[position])


def _from_object(row: int, line: int, value: dict[str, Any], column: str) -> Record:
    if column not in value:
        return Record(row, line, None, f"no field {column!r}; it has: {_names(list(value))}")
    record = _from_value(row, line, value[column])
    return record if record.problem is None else Record(row, line, None, f"field {column!r} is {record.problem}")


def _from_value(row: int, line: int, value: object) -> Record:
    return (
        Record(row, line, value) if isinstance(value, str) else Record(row, line, None, f"{_kind(value)}, not a text")
    )


def _kind(value: object) -> str:
    """A value in the words of JSON."""
    return "null" if value is None else _KINDS.get(type(value), f"of type {type(value).__name__}")


def _chosen_column(column: str | None, names: list[str], name: str) -> str:
    if column is None:
        return _default_column(names, name)
    if column not in names:
        raise _no_column(name, column, names)
    return column


def _default_column(names: list[str], name: str) -> str:
    if DEFAULT_COLUMN in names:
        return DEFAULT_COLUMN
    if len(names) == 1:
        return names[0]
    raise FileFormatError(f"{name} has no column {DEFAULT_COLUMN!r}; choose with --column: {_names(names)}")


def _no_column(name: str, column: str, names: list[str]) -> FileFormatError:
    return FileFormatError(f"{name} has no column {column!r}; its columns: {_names(names)}")


def _names(names: list[str]) -> str:
    return ", ".join(names) if names else "(none)"
