"""Where texts come from: a file, or stdin."""

from __future__ import annotations

import hashlib
import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from embedrt.commands.paths import at_home
from embedrt.commands.reading.compression import unpacked
from embedrt.commands.reading.encodings import checked_encoding, has_byte_lines
from embedrt.commands.reading.formats import FORMATS, RULES, check_options, format_of
from embedrt.commands.reading.parquet import count_parquet
from embedrt.commands.reading.records import How, Record
from embedrt.commands.reading.separated import delimiter_of
from embedrt.errors import FileFormatError, OptionError

if TYPE_CHECKING:
    from embedrt.embedder import Embedder
    from embedrt.model import Model

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
    how: How = field(default_factory=How)

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
            if self.format == "parquet":  # it is read from its end, and packed inside
                yield from FORMATS[self.format].read(stream, self.name, self.how)
                return
            with unpacked(stream, self.name) as plain:
                yield from FORMATS[self.format].read(plain, self.name, self.how)

    @contextmanager
    def opened(self) -> Iterator[io.BufferedReader]:
        """The input's bytes, unpacked.

        Raises:
            FileFormatError: as `records`.
        """
        with self._open() as stream, unpacked(stream, self.name) as plain:
            yield plain

    def texts(self) -> Iterator[str]:
        """All texts; FileFormatError at the first unusable record."""
        for record in self.records():
            yield self.text_of(record)

    def text_of(self, record: Record) -> str:
        """The text of a record of this source; FileFormatError says line and reason if there is none."""
        if record.text is None:
            raise self.error(record.line, record.problem or "no text")
        return record.text

    def content_of(self, text: str) -> str:
        """What decides the vector of a text of this source: the text."""
        return text

    def check_fits(self, embedder: Embedder | Model) -> None:
        """Refuse a model that cannot embed what is here: any can embed texts."""

    @property
    def unit(self) -> str:
        """What `Record.line` counts."""
        return FORMATS[self.format].unit

    @property
    def noun(self) -> str:
        """What one of the things is called that are embedded."""
        return "text"

    def error(self, line: int, problem: str) -> FileFormatError:
        """An error that names the line (for parquet: the row, from 1)."""
        return FileFormatError(f"{self.name}, {self.unit} {line}: {problem}")

    @property
    def reading(self) -> dict[str, str | int | None]:
        """What decides which texts the bytes hold."""
        how = self.how
        return {
            "format": self.format, "column": how.column, "encoding": how.encoding, "delimiter": how.delimiter,
            "quoting": how.quoting, "rules": RULES,
        }  # fmt: skip

    def fingerprint(self) -> Fingerprint | None:
        """Hash of the whole file as it is on the disk, or None for a pipe."""
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
            if self.format == "parquet":
                return count_parquet(stream, self.name)
            if self.format in ("txt", "jsonl") and has_byte_lines(self.how.encoding or "utf-8"):
                with unpacked(stream, self.name) as plain:
                    if not plain.peek(2).startswith((b"\xff\xfe", b"\xfe\xff", b"\x00\x00")):  # marks of wide encodings
                        is_blank = bytes.isspace if self.format == "jsonl" else lambda _line: False
                        return sum(not is_blank(line) for line in plain)
        return sum(1 for _ in self.records())

    def is_file(self, path: Path) -> bool:
        """Whether `path` is the very file that this reads, under this name or another."""
        try:
            mine = os.fstat(sys.stdin.fileno()) if self.path is None else self.path.stat()
            return path.exists() and os.path.samestat(mine, path.stat())
        except (OSError, ValueError):  # a standard input that is no file of the system
            return False

    def refuse_output(self, *paths: Path | None) -> None:
        """Keep an output away from the input, whatever names they have.

        Raises:
            FileFormatError: one of the paths is the input.
        """
        for path in paths:
            if path is not None and self.is_file(path):
                raise FileFormatError(f"{path} is the input itself ({self.name}); write to another file")

    @contextmanager
    def _open(self) -> Iterator[BinaryIO]:
        if self.path is None:
            yield sys.stdin.buffer
            return
        _check_file(self.path)
        try:
            stream = self.path.open("rb")
        except OSError as exc:
            raise FileFormatError(f"{self.path} cannot be read: {exc.strerror}") from exc
        with stream:
            yield stream


def open_source(
    path: str | Path,
    input_format: str | None = None,
    column: str | None = None,
    how: How | None = None,
    *,
    pictures: bool = False,
) -> TextSource:
    """The source at `path` ("-" is stdin), its format taken from the suffix unless it is given.

    `column` is short for a `How` that says nothing else. A folder is its pictures, and a picture is itself; with
    `pictures`, the texts of a file are paths of some.

    Raises:
        FileFormatError: it is not there, the suffix is unknown, or a pipe cannot carry the format.
        OptionError: what was said of it does not fit its format.
    """
    from embedrt.commands.picture_source import PictureSource, is_picture_file

    how = checked_how(how or How(column=column))
    given = at_home(Path(path))
    if str(path) != STDIN and (given.is_dir() or (input_format is None and is_picture_file(given))):
        if input_format is not None or how != How(keep_option=how.keep_option):
            what = "a folder of pictures" if given.is_dir() else "a picture"
            raise OptionError(f"{path} is {what}; options on how texts are read do not go with it")
        return PictureSource(given, "pictures", how)
    if pictures:
        found = open_source(path, input_format, how=how)
        return PictureSource(found.path, found.format, found.how)
    if str(path) == STDIN:
        if input_format == "parquet":
            raise FileFormatError("parquet cannot be read from stdin; save it to a file first")
        return _fitting(TextSource(None, input_format or "txt", how))
    file = at_home(Path(path))
    _check_file(file)  # before a model is loaded for it
    source = _fitting(TextSource(file, input_format or format_of(file), how))
    if source.format == "parquet" and source.is_pipe:
        raise FileFormatError(f"parquet cannot be read from a pipe ({path}); save it to a file first")
    return source


def checked_how(how: How) -> How:
    """With Python's name of the encoding, and the delimiter as a character; OptionError if one is unknown."""
    return replace(
        how,
        encoding=None if how.encoding is None else checked_encoding(how.encoding),
        delimiter=None if how.delimiter is None else delimiter_of(how.delimiter),
    )


def _fitting(source: TextSource) -> TextSource:
    check_options(source.name, source.format, source.how)
    return source


def _check_file(path: Path) -> None:
    if re.match(r"(https?|s3|gs|hf):/", str(path)):  # a Path has one of the slashes left
        raise FileFormatError(f"{path} is an address, and nothing is fetched; save it as a file first")
    if path.is_dir():
        raise FileFormatError(f"{path} is a directory; a file with texts is expected")
    if not path.exists():
        raise FileFormatError(f"{path} is not there")
