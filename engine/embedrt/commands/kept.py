"""Columns of the input that go along into an output: as JSON, and as Arrow arrays."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from embedrt.commands.reading.parquet import Cell, import_pyarrow
from embedrt.commands.reading.records import Record
from embedrt.errors import FileFormatError


def json_object(kept: Mapping[str, Any]) -> dict[str, Any]:
    """Kept values as JSON has them; what it lacks (times, decimals) as text, bytes in base64, NaN as null."""
    return {name: _json_value(value) for name, value in kept.items()}


def label_of(record: Record, column: str) -> str:
    """A kept value as a name for the rows that share it."""
    value = json_object({column: record.kept.get(column)})[column]
    return "(none)" if value is None or value == "" else str(value)


def _json_value(value: Any) -> Any:
    if not isinstance(value, Cell):
        return value
    pa, _ = import_pyarrow()
    scalar = value.column[value.index]
    try:
        plain = scalar.as_py()
        json.dumps(plain)
    except (TypeError, ValueError):
        try:
            return scalar.cast(pa.string()).as_py()
        except (pa.ArrowException, NotImplementedError):
            raw = scalar.as_py()
            return base64.b64encode(raw).decode("ascii") if isinstance(raw, bytes) else str(raw)
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain


def refuse_taken(records: Sequence[Record], taken: Sequence[str]) -> None:
    """Keep the output's own columns apart from the input's.

    Raises:
        FileFormatError: a kept column is called as one of the output's own.
    """
    for record in records:
        for name in taken:
            if name in record.kept:
                raise FileFormatError(
                    f"--keep: the output has a column {name!r} of its own; name the columns to keep, without it"
                )


def fields_of(records: Sequence[Record]) -> list[Any]:
    """Arrow fields for the columns that some records keep, in the order in which they come up.

    An Arrow column keeps its type. Values of JSON are strings, numbers or booleans; others are kept as JSON text,
    because their inner fields may differ from row to row.
    """
    pa, _ = import_pyarrow()
    names = dict.fromkeys(name for record in records for name in record.kept)
    return [pa.field(name, _type_of([record.kept.get(name) for record in records])) for name in names]


def _type_of(values: Sequence[Any]) -> Any:
    pa, _ = import_pyarrow()
    found = [value for value in values if value is not None]
    if not found:
        return pa.string()
    if isinstance(found[0], Cell):
        return found[0].column.type
    kinds = {type(value) for value in found}
    if kinds <= {bool}:
        return pa.bool_()
    if kinds <= {int}:
        return pa.int64()
    return pa.float64() if kinds <= {int, float} else pa.string()


def array_of(field: Any, records: Sequence[Record]) -> Any:
    """One kept column of some records as an Arrow array of the field's type.

    Raises:
        FileFormatError: a value is of another type than those of the first rows.
    """
    pa, _ = import_pyarrow()
    values = [record.kept.get(field.name) for record in records]
    if any(isinstance(value, Cell) for value in values):
        return pa.concat_arrays([value.column.slice(value.index, 1) for value in values if isinstance(value, Cell)])
    if pa.types.is_string(field.type):
        return pa.array([_as_text(value) for value in values], field.type)
    for record, value in zip(records, values, strict=True):
        try:
            fits = not isinstance(value, bool) or pa.types.is_boolean(field.type)
            pa.scalar(value if fits else str(value), field.type)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as exc:
            raise FileFormatError(
                f"--keep: {field.name!r} is {json.dumps(value, ensure_ascii=False)[:40]} in record {record.row + 1}, "
                f"where the first ones have {field.type}; .jsonl keeps any"
            ) from exc
    return pa.array(values, field.type)


def _as_text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def refuse_unknown(records: Sequence[Record], known: Sequence[str]) -> None:
    """FileFormatError if a record keeps a column that the first ones did not have."""
    for record in records:
        for name in record.kept:
            if name not in known:
                raise FileFormatError(
                    f"--keep all: record {record.row + 1} has {name!r}, which the first ones did not; name the columns "
                    "to keep, or write .jsonl"
                )
