"""Results with a row per text, or per pair of texts, into .csv, .tsv, .jsonl and .parquet.

A file is written aside and renamed when it is whole: a run that is killed leaves an earlier file as it was.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from embedrt.commands.kept import array_of, fields_of, json_object, refuse_taken, refuse_unknown
from embedrt.commands.reading.parquet import import_pyarrow
from embedrt.commands.reading.records import Record
from embedrt.commands.source import TextSource
from embedrt.commands.writers import naming
from embedrt.errors import FileFormatError

_BLOCK_ROWS = 8192
_ARROW = {int: "int64", float: "float32", str: "string", bool: "bool_"}

Columns = Mapping[str, type]  # the output's own columns, and what each holds: int, float, str or bool


@dataclass(frozen=True)
class Row:
    """One row: the values of the own columns in their order, and the record whose kept columns go along."""

    values: tuple[Any, ...]
    record: Record


def refuse_existing(path: Path | None, sources: Sequence[TextSource], *, force: bool) -> None:
    """Refuse, before a model is loaded, an output that must not be written.

    Raises:
        FileFormatError: it is one of the inputs; or it is there, and `force` does not say to replace it.
    """
    if path is None:
        return
    for source in sources:
        source.refuse_output(path)
    if path.exists() and not force:
        raise FileFormatError(f"{path} exists; replace it with --force")
    if path.suffix.lower() == ".parquet":
        import_pyarrow()


def write_table(path: Path, columns: Columns, rows: Iterable[Row]) -> None:
    """Write the rows in the format of the suffix.

    Raises:
        FileFormatError: a value does not fit the format, or the disk is full.
    """
    write_aside(path, lambda part: _WRITERS[path.suffix.lower()](part, columns, iter(rows)))


def write_aside(
    path: Path, write: Callable[[Path], None], hint: str = "; the vectors are kept, so run it again"
) -> None:
    """Let `write` make a file beside `path`, and give it that name when it is whole.

    Args:
        hint: what is said behind the system's reason.

    Raises:
        FileFormatError: the system refuses; nothing is left behind.
    """
    part = path.with_name(path.name + ".part")
    try:
        with naming(path):
            write(part)
            part.replace(path)
    except OSError as exc:
        raise FileFormatError(f"{path}: {exc.strerror or exc}{hint}") from exc
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Write a report or a picture, whole or not at all.

    Raises:
        FileFormatError: the system refuses.
    """

    def write(part: Path) -> None:
        part.write_text(text, encoding="utf-8")

    write_aside(path, write, hint="")


def rounded(score: Any) -> float:
    """A score with the digits that mean something in float32."""
    return float(f"{float(score):.6g}")


def _write_jsonl(path: Path, columns: Columns, rows: Iterator[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        for block in _blocks(rows):
            refuse_taken([row.record for row in block], tuple(columns))
            for row in block:
                value = {**dict(zip(columns, row.values, strict=True)), **json_object(row.record.kept)}
                stream.write(_as_json(value) + "\n")


def _write_csv(path: Path, columns: Columns, rows: Iterator[Row]) -> None:
    with path.open("w", encoding="utf-8", errors="surrogatepass", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        for cells in _cells(columns, rows):
            writer.writerow(cells)


def _write_tsv(path: Path, columns: Columns, rows: Iterator[Row]) -> None:
    """Tabs and line ends cannot be told in a TSV without quotes, as `embed` reads it."""
    with path.open("w", encoding="utf-8", errors="surrogatepass", newline="") as stream:
        for number, cells in enumerate(_cells(columns, rows)):
            for cell in cells:
                if any(char in cell for char in "\t\r\n"):
                    raise FileFormatError(
                        f"{path.with_suffix('')}: row {number:,} holds a tab or a line end, which a .tsv cannot; "
                        "write .csv, .jsonl or .parquet"
                    )
            stream.write("\t".join(cells) + "\n")


def _write_parquet(path: Path, columns: Columns, rows: Iterator[Row]) -> None:
    pa, pq = import_pyarrow()
    writer: Any = None
    schema: Any = None
    try:
        for block in chain(_blocks(rows), [[]]):
            records = [row.record for row in block]
            if writer is None:
                refuse_taken(records, tuple(columns))
                own = [pa.field(name, getattr(pa, _ARROW[kind])()) for name, kind in columns.items()]
                schema = pa.schema([*own, *fields_of(records)])
                writer = pq.ParquetWriter(path, schema)
            if block:
                refuse_unknown(records, schema.names)
                values = zip(*(row.values for row in block), strict=True)
                arrays = [pa.array(list(column), field.type) for field, column in zip(schema, values, strict=False)]
                arrays += [array_of(field, records) for field in list(schema)[len(columns) :]]
                writer.write_batch(pa.record_batch(arrays, schema=schema))
    except pa.ArrowException as exc:
        raise FileFormatError(f"{path.with_suffix('')}: {exc}") from exc
    finally:
        if writer is not None:
            writer.close()


def _cells(columns: Columns, rows: Iterator[Row]) -> Iterator[list[str]]:
    """A header, and then the rows, as texts."""
    kept: tuple[str, ...] | None = None
    for block in chain(_blocks(rows), [[]]):
        records = [row.record for row in block]
        if kept is None:
            refuse_taken(records, tuple(columns))
            kept = tuple(dict.fromkeys(name for record in records for name in record.kept))
            yield [*columns, *kept]
        refuse_unknown(records, kept)
        for row in block:
            along = json_object(row.record.kept)
            yield [_text(value) for value in (*row.values, *(along.get(name) for name in kept))]


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return str(value) if type(value) is int else _as_json(value)


def _blocks(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while block := list(islice(rows, _BLOCK_ROWS)):
        yield block


_as_json = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps makes an encoder for every value
_WRITERS: dict[str, Callable[[Path, Columns, Iterator[Row]], None]] = {
    ".csv": _write_csv,
    ".tsv": _write_tsv,
    ".jsonl": _write_jsonl,
    ".parquet": _write_parquet,
}
SUFFIXES = tuple(_WRITERS)
