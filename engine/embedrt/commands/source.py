"""Where texts come from: a file, or stdin."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from embedrt.commands.readers import READERS, Record, format_of, import_pyarrow
from embedrt.errors import FileFormatError

STDIN = "-"
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Fingerprint:
    """What identifies a file's content."""

    sha256: str
    num_bytes: int


@dataclass(frozen=True)
class TextSource:
    """Texts in one input; `records` may be called again unless the input is a pipe."""

    path: Path | None  # None: stdin
    format: str
    column: str | None

    @property
    def name(self) -> str:
        """How messages call it."""
        return "stdin" if self.path is None else str(self.path)

    @property
    def is_pipe(self) -> bool:
        """Whether the bytes can be read only once."""
        return self.path is None or not self.path.is_file()

    def records(self) -> Iterator[Record]:
        """All records, the unusable ones too.

        Raises:
            FileFormatError: the file as a whole is not what it should be.
        """
        with self._open() as stream:
            yield from READERS[self.format](stream, self.name, self.column)

    def texts(self) -> Iterator[str]:
        """All texts; FileFormatError at the first unusable record."""
        for record in self.records():
            yield self.text_of(record)

    def text_of(self, record: Record) -> str:
        """The text of a record of this source; FileFormatError says line and reason if there is none."""
        if record.text is None:
            raise self.error(record.line, record.problem or "no text")
        return record.text

    @property
    def unit(self) -> str:
        """What `Record.line` counts."""
        return "row" if self.format == "parquet" else "line"

    def error(self, line: int, problem: str) -> FileFormatError:
        """An error that names the line (for parquet: the row, from 1)."""
        return FileFormatError(f"{self.name}, {self.unit} {line}: {problem}")

    def fingerprint(self) -> Fingerprint | None:
        """Hash of the whole file, or None for a pipe."""
        if self.is_pipe:
            return None
        digest = hashlib.sha256()
        size = 0
        with self._open() as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
        return Fingerprint(digest.hexdigest(), size)

    def count(self) -> int | None:
        """Number of records, or None for a pipe. Reads the file, but decodes as little as its format allows."""
        if self.is_pipe:
            return None
        with self._open() as stream:
            if self.format == "txt":
                return _count_lines(stream)
            if self.format == "jsonl":
                return sum(1 for line in stream if line.strip())
            if self.format == "parquet":
                return _count_parquet(stream, self.name)
        return sum(1 for _ in self.records())

    @contextmanager
    def _open(self) -> Iterator[BinaryIO]:
        if self.path is None:
            yield sys.stdin.buffer
            return
        _check_file(self.path)
        with self.path.open("rb") as stream:
            yield stream


def open_source(path: str, input_format: str | None = None, column: str | None = None) -> TextSource:
    """The source at `path` ("-" is stdin), its format taken from the suffix unless it is given.

    Raises:
        FileFormatError: it is not there, the suffix is unknown, or a pipe cannot carry the format.
    """
    if path == STDIN:
        if input_format == "parquet":
            raise FileFormatError("parquet cannot be read from stdin; save it to a file first")
        return TextSource(None, input_format or "txt", column)
    _check_file(Path(path))  # before a model is loaded for it
    source = TextSource(Path(path), input_format or format_of(Path(path)), column)
    if source.format == "parquet" and source.is_pipe:
        raise FileFormatError(f"parquet cannot be read from a pipe ({path}); save it to a file first")
    return source


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise FileFormatError(f"{path} is a directory; a file with texts is expected")
    if not path.exists():
        raise FileFormatError(f"{path} is not there")


def _count_lines(stream: BinaryIO) -> int:
    count, last = 0, b"\n"
    while chunk := stream.read(_CHUNK_BYTES):
        count += chunk.count(b"\n")
        last = chunk[-1:]
    return count + (last != b"\n")


def _count_parquet(stream: BinaryIO, name: str) -> int:
    pa, pq = import_pyarrow()
    try:
        return int(pq.read_metadata(stream).num_rows)
    except (pa.ArrowException, OSError) as exc:
        raise FileFormatError(f"{name} cannot be read as parquet: {exc}") from exc
