"""Some records of a file, written in the file's own format: lines and fields that stay are not touched."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedrt.commands.reading.encodings import mark_and_encoding, read_lines
from embedrt.commands.reading.formats import FORMATS, SUFFIXES
from embedrt.commands.reading.json_records import items_of
from embedrt.commands.reading.parquet import import_pyarrow
from embedrt.commands.source import TextSource
from embedrt.commands.writers import AppendFile
from embedrt.errors import FileFormatError, OptionError

Chosen = NDArray[np.bool_]  # (N,) for each record, whether it stays


def check_suffix(source: TextSource, output: Path) -> None:
    """Refuse an output of another format than the input's.

    Raises:
        OptionError: its suffix is another format's.
    """
    if SUFFIXES.get(output.suffix.lower()) != source.format:
        known = ", ".join(FORMATS[source.format].suffixes)
        raise OptionError(f"{output} must end in {known}: the rows are written as {source.name} has them")


def write_kept(source: TextSource, chosen: Chosen, path: Path) -> None:
    """Write the records that stay to `path`, in the order, the encoding and the form of the input.

    Raises:
        FileFormatError: the input is not what it was when it was embedded.
        OSError: the system refuses to write.
    """
    _WRITERS[source.format](source, chosen, path)


@contextmanager
def _written(path: Path) -> Iterator[AppendFile]:
    """A new file whose errors have its name, because the input's are raised beside them."""
    out = AppendFile(path, 0)
    try:
        yield out
        out.sync()
    finally:
        out.close()


def _write_lines(source: TextSource, chosen: Chosen, path: Path) -> None:
    """Whole lines: a record's are those from its first to the next one's; what is before all of them is the header."""
    starts = chain((record.line for record in source.records()), [None])
    with source.opened() as stream:
        mark, encoding = mark_and_encoding(stream, source.name, source.how.encoding)
        with _written(path) as out:
            out.write(mark)
            row, start = -1, next(starts)
            for line in read_lines(stream, source.name, source.how.encoding):
                if line.number == start:
                    row, start = row + 1, next(starts)
                if row < 0 or _stays(chosen, row, source):
                    out.write((line.text + line.end).encode(encoding))
    if row + 1 != len(chosen):
        raise _changed(source)


def _write_json(source: TextSource, chosen: Chosen, path: Path) -> None:
    row, separator = -1, "[\n"
    with source.opened() as stream, _written(path) as out:
        for row, value in enumerate(items_of(stream, source.name, source.how.encoding)):
            if _stays(chosen, row, source):
                out.write((separator + json.dumps(value, ensure_ascii=False)).encode())
                separator = ",\n"
        out.write(b"\n]\n" if separator != "[\n" else b"[]\n")
    if row + 1 != len(chosen):
        raise _changed(source)


def _write_parquet(source: TextSource, chosen: Chosen, path: Path) -> None:
    """All columns, with the types and the metadata that they have."""
    pa, pq = import_pyarrow()
    file = pq.ParquetFile(source.path)
    start = 0
    with pq.ParquetWriter(path, file.schema_arrow) as out:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group)
            keep = chosen[start : start + len(table)]
            start += len(table)
            if start > len(chosen):
                break
            if keep.any():
                out.write_table(table.filter(pa.array(keep)))
    if start != len(chosen):
        raise _changed(source)


def _stays(chosen: Chosen, row: int, source: TextSource) -> bool:
    if row >= len(chosen):
        raise _changed(source)
    return bool(chosen[row])


def _changed(source: TextSource) -> FileFormatError:
    return FileFormatError(f"{source.name} has changed while it was read; run it again")


_WRITERS: dict[str, Callable[[TextSource, Chosen, Path], None]] = {
    "parquet": _write_parquet,
    "json": _write_json,
    **dict.fromkeys(("txt", "jsonl", "csv", "tsv"), _write_lines),
}
