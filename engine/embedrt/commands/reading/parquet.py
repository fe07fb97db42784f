"""Parquet: the values of one column, by row groups."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from embedrt.commands.reading.encodings import checked_encoding, undecodable
from embedrt.commands.reading.json_records import of_value
from embedrt.commands.reading.records import How, Record, chosen_column, kept_columns, listed
from embedrt.errors import DependencyError, FileFormatError

_BATCH_ROWS = 1024  # rows decoded at once
_TEXTS = ("string", "large_string", "string_view", "null")
_BYTES = ("binary", "large_binary", "binary_view", "fixed_size_binary")


@dataclass(frozen=True)
class Cell:
    """One value of an Arrow column, left where it is: Python has no type for some (nanoseconds, half floats)."""

    column: Any
    index: int


def import_pyarrow() -> tuple[Any, Any]:
    """pyarrow and pyarrow.parquet; DependencyError says how to install them."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as exc:
        raise DependencyError("parquet files need pyarrow: pip install 'embedrt[parquet]'") from exc
    return pa, pq


def read_parquet(stream: BinaryIO, name: str, how: How) -> Iterator[Record]:
    """Values of one column of texts; "a.b" is the field b of a column a that holds structs. Lines are rows from 1.

    Raises:
        FileFormatError: it is no parquet file, or the column is not there or holds no text.
    """
    pa, pq = import_pyarrow()
    try:
        file = pq.ParquetFile(stream)
        schema = file.schema_arrow
        path = text_path(how, schema, name)
        kept = kept_columns(how, path[0], schema.names, name)
        encoding = text_encoding(type_at(schema, path), how, name, ".".join(path), schema)
        row = 0
        for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=[".".join(path), *kept]):
            columns = {other: column_at(batch, (other,)) for other in kept}
            for index, value in enumerate(texts_of(column_at(batch, path), encoding)):
                record = of_value(row, row + 1, value) if not isinstance(value, Unreadable) else _bad(row, value)
                if kept:
                    along = {other: Cell(column, index) for other, column in columns.items()}
                    record = Record(record.row, record.line, record.text, record.problem, along)
                yield record
                row += 1
    except (pa.ArrowException, OSError) as exc:
        raise FileFormatError(f"{name} cannot be read as parquet: {exc}") from exc


def count_parquet(stream: BinaryIO, name: str) -> int:
    """Number of rows, out of the footer."""
    pa, pq = import_pyarrow()
    try:
        return int(pq.read_metadata(stream).num_rows)
    except (pa.ArrowException, OSError) as exc:
        raise FileFormatError(f"{name} cannot be read as parquet: {exc}") from exc


class Unreadable(str):
    """Why a value is no text."""


def _bad(row: int, problem: Unreadable) -> Record:
    return Record(row, row + 1, None, str(problem))


def text_path(how: How, schema: Any, name: str) -> tuple[str, ...]:
    """The column's name; or, where none is called that, the way to a field inside a struct."""
    column = how.column
    if column is not None and column not in schema.names and "." in column:
        path = tuple(column.split("."))
        if type_at(schema, path) is not None:
            return path
    return (chosen_column(how, schema.names, name),)


def type_at(schema: Any, path: tuple[str, ...]) -> Any:
    """The type at the end of a way, or None if it leads nowhere."""
    pa, _ = import_pyarrow()
    fields: Any = schema
    kind = None
    for step in path:
        index = fields.get_field_index(step)
        if index < 0:
            return None
        kind = fields.field(index).type
        fields = kind if pa.types.is_struct(kind) else pa.struct([])
    return kind


def text_encoding(kind: Any, how: How, name: str, column: str, schema: Any) -> str:
    """How the column's bytes are to be read; FileFormatError if it holds no text."""
    pa, _ = import_pyarrow()
    value = kind.value_type if pa.types.is_dictionary(kind) else kind

    def is_one_of(names: tuple[str, ...]) -> bool:
        return any(getattr(pa.types, f"is_{kind}")(value) for kind in names)

    if is_one_of(_TEXTS):
        return "utf-8"
    if is_one_of(_BYTES) and how.encoding is not None:
        return checked_encoding(how.encoding)
    cure = ""
    if is_one_of(_BYTES):
        cure = "; if the bytes are texts, say --encoding utf-8"
    elif pa.types.is_struct(value):
        cure = f"; its fields are {listed([f'{column}.{field.name}' for field in value])}"
    raise FileFormatError(f"{name}: column {column!r} holds {kind}, not text{cure}; columns: {listed(schema.names)}")


def column_at(batch: Any, path: tuple[str, ...]) -> Any:
    """The column at the end of a way; null where any struct on the way is."""
    pa, _ = import_pyarrow()
    import pyarrow.compute as pc

    column = batch.column(batch.schema.get_field_index(path[0]))
    for step in path[1:]:
        column = pc.struct_field(column, step)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column


def texts_of(column: Any, encoding: str) -> list[Any]:
    """Texts, nulls, and `Unreadable` for values whose bytes are no text."""
    pa, _ = import_pyarrow()
    holds_bytes = any(getattr(pa.types, f"is_{kind}")(column.type) for kind in _BYTES)
    if not holds_bytes:
        try:
            return list(column.to_pylist())
        except UnicodeDecodeError:
            column = column.cast(pa.large_binary())
    return [None if raw is None else _decoded(raw, encoding) for raw in column.to_pylist()]


def _decoded(raw: bytes, encoding: str) -> str:
    problem = undecodable(raw, encoding)
    return raw.decode(encoding) if problem is None else Unreadable(problem.partition(";")[0])
