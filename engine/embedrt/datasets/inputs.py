"""An input's files, their row groups, and the rows of one shard, in bounded memory."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from embedrt.commands.kept import array_of, fields_of
from embedrt.commands.reading.compression import SUFFIXES as PACKED
from embedrt.commands.reading.compression import unpacked
from embedrt.commands.reading.encodings import has_byte_lines
from embedrt.commands.reading.formats import FORMATS, check_options, is_known
from embedrt.commands.reading.parquet import import_pyarrow, text_encoding, text_path, type_at
from embedrt.commands.reading.records import How, Record, kept_columns
from embedrt.datasets.plan import Group, InputFile, Shard
from embedrt.datasets.sources import BATCH_BYTES, BATCH_ROWS, LANCE, TEXT, Rows, Source, batch_rows, of_batch
from embedrt.datasets.stores import Store, is_url, reading
from embedrt.errors import FileFormatError

_BUFFER_BYTES = 1 << 20  # of a column chunk are read at once, not the whole of it
_LINES_BYTES = 1 << 20  # lines are counted in such groups
_SAMPLE_ROWS = 1000  # decide the types of kept columns


def input_files(source: Source) -> Iterator[InputFile]:
    """The files, by name. Those in folders that begin with "_" or "." are a program's own and left out.

    Of a Lance dataset they are its fragments.
    """
    if source.input_format == LANCE:
        from embedrt.datasets.lance_input import fragments

        yield from fragments(source)
        return
    for stat in source.store.files():
        if stat.bytes and _is_input(source, stat.path):
            yield InputFile(stat.path, stat.tag, stat.bytes)


def reads_output(source: Source, output: Store) -> bool:
    """Whether Parquet files that are written there would be among the source's files."""
    place, out = (f"{root if is_url(root) else os.path.realpath(root)}/" for root in (source.store.root, output.root))
    return out.startswith(place) and _is_input(source, f"{out.removeprefix(place)}part-0.parquet")


def _is_input(source: Source, path: str) -> bool:
    """Whether a file at this path below the source's place is one of its files."""
    if source.pattern:
        return path == source.pattern or re.fullmatch(_regex(source.pattern), path) is not None
    if any(part.startswith(("_", ".")) for part in PurePosixPath(path).parts):
        return False
    return source.input_format is not None or is_known(Path(path))


def groups_of(source: Source, file: InputFile) -> Iterator[Group]:
    """Rows that lie together in a file: Parquet's are in its footer, others are counted by reading it once.

    Raises:
        FileFormatError: it cannot be read as what it is.
    """
    if source.input_format == LANCE:
        from embedrt.datasets.lance_input import fragment_group

        yield fragment_group(source, file)
        return
    kind = source.format_of(file.path)
    check_options(file.path, kind, source.how)
    with reading(source.store, file.path) as stream:
        if kind == "parquet":
            yield from _row_groups(stream, file.path, source.how)
        elif _has_lines(file.path, kind, source.how):
            yield from _lines(stream, kind)
        else:
            count = size = 0
            for record in _records(stream, file.path, kind, source.how):
                count, size = count + 1, size + len(record.text or "")
            yield Group(count, size)


def sampled(source: Source, file: InputFile) -> Source:
    """The source with the types of its columns, as the first rows of a file have them."""
    if source.input_format == LANCE:
        from embedrt.datasets.lance_input import lance_sampled

        return lance_sampled(source)
    pa, pq = import_pyarrow()
    kind = source.format_of(file.path)
    with reading(source.store, file.path) as stream:
        if kind == "parquet":
            try:
                schema = pq.read_schema(stream)
            except (pa.ArrowException, OSError) as exc:
                raise FileFormatError(f"{file.path} cannot be read as parquet: {exc}") from exc
            path = text_path(source.how, schema, file.path)
            text_encoding(type_at(schema, path), source.how, file.path, ".".join(path), schema)
            names = kept_columns(source.how, path[0], schema.names, file.path)
            return replace(source, schema=pa.schema([schema.field(name).remove_metadata() for name in names]))
        first = list(islice(_records(stream, file.path, kind, source.how), _SAMPLE_ROWS))
    fields = {field.name: field for field in fields_of(first)}
    names = tuple(fields) if source.how.keep == "all" else source.how.keep
    return replace(source, schema=pa.schema([fields.get(name, pa.field(name, pa.string())) for name in names]))


def read_shard(source: Source, shard: Shard) -> Iterator[Rows]:
    """A shard's rows in their order.

    Raises:
        FileFormatError: the file changed since it was planned, is damaged, or has other columns than the first one.
    """
    if source.input_format == LANCE:
        from embedrt.datasets.lance_input import lance_rows

        yield from lance_rows(source, shard)
        return
    now = source.store.stat(shard.path)
    if now is None or now.tag != shard.tag:
        raise FileFormatError(
            f"{shard.path} {'has changed' if now else 'is gone'} since it was planned; run again with --resume"
        )
    kind = source.format_of(shard.path)
    with reading(source.store, shard.path) as stream:
        if kind == "parquet":
            yield from _parquet_rows(stream, source, shard)
            return
        if shard.stop:
            stream.seek(shard.start)
            stream = io.BufferedReader(_Part(stream, shard.stop - shard.start))
        records = _records(stream, shard.path, kind, source.how)
        for block in _sized(islice(records, shard.rows)):
            yield _of_records(block, source.schema)


def _parquet_rows(stream: BinaryIO, source: Source, shard: Shard) -> Iterator[Rows]:
    pa, pq = import_pyarrow()
    try:
        file = pq.ParquetFile(stream, buffer_size=_BUFFER_BYTES, pre_buffer=False)
        schema = file.schema_arrow
    except pa.ArrowException as exc:
        raise FileFormatError(f"{shard.path} cannot be read as parquet: {exc}") from exc
    path = text_path(source.how, schema, shard.path)
    encoding = text_encoding(type_at(schema, path), source.how, shard.path, ".".join(path), schema)
    kept_columns(source.how, path[0], schema.names, shard.path)
    groups, before = _overlapping(file.metadata, shard)
    rows = batch_rows(sum(group.text_bytes for group in groups.values()), sum(group.rows for group in groups.values()))
    names = list(dict.fromkeys([".".join(path), *source.schema.names]))
    position, stop = before, shard.first + shard.rows
    try:
        for batch in file.iter_batches(batch_size=rows, row_groups=list(groups), columns=names):
            a, b = max(shard.first, position), min(stop, position + batch.num_rows)
            if a < b:
                yield of_batch(batch.slice(a - position, b - a), path, encoding, source.schema)
            position += batch.num_rows
            if position >= stop:
                break
    except pa.ArrowException as exc:
        raise FileFormatError(f"{shard.path} cannot be read as parquet: {exc}") from exc


def _of_records(records: list[Record], schema: Any) -> Rows:
    pa, _ = import_pyarrow()
    texts, problems = [], {}
    for k, record in enumerate(records):
        texts.append(record.text)
        if record.text is None:
            problems[k] = record.problem or "no text"
        elif not record.text.isascii():
            try:
                record.text.encode()
            except UnicodeEncodeError:
                texts[k], problems[k] = None, "it holds a lone surrogate, which is no text"
    kept = [array_of(field, records) for field in schema]
    return Rows(
        pa.RecordBatch.from_arrays([pa.array(texts, pa.large_string()), *kept], names=[TEXT, *schema.names]), problems
    )


def _row_groups(stream: BinaryIO, name: str, how: How) -> Iterator[Group]:
    pa, pq = import_pyarrow()
    try:
        metadata = pq.read_metadata(stream)
        path = text_path(how, metadata.schema.to_arrow_schema(), name)
    except (pa.ArrowException, OSError) as exc:
        raise FileFormatError(f"{name} cannot be read as parquet: {exc}") from exc
    for k in range(metadata.num_row_groups):
        yield _group(metadata.row_group(k), ".".join(path))


def _group(row_group: Any, text: str) -> Group:
    columns = [row_group.column(k) for k in range(row_group.num_columns)]
    size = sum(column.total_uncompressed_size for column in columns if column.path_in_schema == text)
    return Group(row_group.num_rows, size or row_group.total_byte_size)


def _overlapping(metadata: Any, shard: Shard) -> tuple[dict[int, Group], int]:
    """The row groups that hold the shard's rows, and the file's rows before the first of them."""
    groups: dict[int, Group] = {}
    before = position = 0
    for k in range(metadata.num_row_groups):
        rows = metadata.row_group(k).num_rows
        if position < shard.first + shard.rows and position + rows > shard.first:
            if not groups:
                before = position
            groups[k] = Group(rows, metadata.row_group(k).total_byte_size)
        position += rows
    return groups, before


def _has_lines(path: str, kind: str, how: How) -> bool:
    """Whether a file can be cut behind any line without reading what is before it."""
    packed = Path(path).suffix.lower() in PACKED
    return kind in ("jsonl", "txt") and not packed and has_byte_lines(how.encoding or "utf-8")


def _lines(stream: BinaryIO, kind: str) -> Iterator[Group]:
    """Lines in groups of about _LINES_BYTES. A blank line is no record of JSON lines, as its reader has it."""
    start = position = rows = 0
    for line in stream:
        position += len(line)
        rows += kind == "txt" or not line.isspace()
        if position - start >= _LINES_BYTES:
            yield Group(rows, position - start, start, position)
            start, rows = position, 0
    if rows:
        yield Group(rows, position - start, start, position)


def _records(stream: BinaryIO, path: str, kind: str, how: How) -> Iterator[Record]:
    if kind == "parquet":
        yield from FORMATS[kind].read(stream, path, how)
        return
    with unpacked(stream, path) as plain:
        yield from FORMATS[kind].read(plain, path, how)


def _sized(records: Iterator[Record]) -> Iterator[list[Record]]:
    """Records in lists of at most BATCH_ROWS, and of few long ones."""
    block: list[Record] = []
    size = 0
    for record in records:
        block.append(record)
        size += len(record.text or "")
        if len(block) == BATCH_ROWS or size >= BATCH_BYTES:
            yield block
            block, size = [], 0
    if block:
        yield block


class _Part(io.RawIOBase):
    """The next bytes of a stream, as a stream."""

    def __init__(self, stream: BinaryIO, num_bytes: int) -> None:
        self._stream = stream
        self._left = num_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        data = self._stream.read(min(len(buffer), self._left))
        self._left -= len(data)
        buffer[: len(data)] = data
        return len(data)


def _regex(pattern: str) -> str:
    """A glob as a regular expression; "**/" is any folders, "*" and "?" stay within one."""
    parts = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    pieces = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]*\])", pattern)
    return "".join(parts.get(piece) or (piece if piece.startswith("[") else re.escape(piece)) for piece in pieces)
