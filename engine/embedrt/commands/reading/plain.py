"""Plain text: a text per line."""

from __future__ import annotations

import io
from collections.abc import Iterator

from embedrt.commands.reading.encodings import read_lines
from embedrt.commands.reading.records import How, Record
from embedrt.errors import FileFormatError


def read_txt(stream: io.BufferedReader, name: str, how: How) -> Iterator[Record]:
    """One text per line; an empty line is an empty text.

    Raises:
        FileFormatError: the lines end in bare carriage returns, so that the file would be one text.
    """
    lone: Record | None = None  # a first line that may be the only one
    for line in read_lines(stream, name, how.encoding):
        text = None if line.problem else line.text
        record = Record(line.number - 1, line.number, text, line.problem)
        if line.number == 1 and not line.end and "\r" in line.text:
            lone = record
            continue
        yield record
    if lone is not None:
        raise FileFormatError(
            f"{name} is one line with carriage returns in it; lines end in LF or CRLF: tr '\\r' '\\n' < IN > OUT"
        )
