"""Bytes to lines of text: UTF-8 unless a byte order mark or the user says otherwise.

Lines end in LF or CRLF and in nothing else: U+2028, U+0085 and form feeds are characters of a text.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from embedrt.errors import FileFormatError, OptionError

_PIECE_BYTES = 1 << 16
# The longer marks first: UTF-32's begins with UTF-16's.
_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_MARKED = {"utf-16", "utf-32"}  # encodings whose byte order only a mark says
_SHIFTING = ("iso2022", "hz", "utf-7")  # a byte means what bytes before it say: cannot be cut into lines
_SAMPLE = '\n\r\t,;|"az09'
_MANY_NULS = 0.75  # of every other byte of a line: UTF-16 read as UTF-8


@dataclass(frozen=True)
class Line:
    """One line; bytes that could not be decoded stand in `text` as lone surrogates (U+DC80 to U+DCFF)."""

    number: int  # from 1
    text: str  # without its end
    end: str  # "\n", "\r\n", or what the last line has
    problem: str | None = None


def read_lines(stream: io.BufferedReader, name: str, encoding: str | None) -> Iterator[Line]:
    """The lines of a stream.

    Raises:
        FileFormatError: the encoding is not what was said, or bytes cannot be decoded in one that has no lines of
            bytes (UTF-16 and the like); in others only the line that holds them has a problem.
    """
    mark, chosen = _encoding_of(stream.peek(4), name, encoding)
    stream.read(len(mark))
    if has_byte_lines(chosen):
        yield from _byte_lines(stream, name, chosen, asked=encoding is not None or bool(mark))
    else:
        yield from _text_lines(stream, name, chosen)


def mark_and_encoding(stream: io.BufferedReader, name: str, encoding: str | None) -> tuple[bytes, str]:
    """The byte order mark at a stream's start (not taken from it), and Python's name of the encoding behind it.

    Raises:
        FileFormatError: the mark is of another encoding than the one said.
    """
    return _encoding_of(stream.peek(4), name, encoding)


def checked_encoding(encoding: str) -> str:
    """Python's name of an encoding; OptionError if it knows none of that name."""
    try:
        "".encode(encoding)
        return codecs.lookup(encoding).name
    except (LookupError, ValueError) as exc:
        raise OptionError(
            f"--encoding {encoding!r} is not known; such as utf-8, cp949, euc-kr, shift_jis, gb18030, cp1252, utf-16"
        ) from exc


def has_byte_lines(encoding: str) -> bool:
    """Whether a line's end is the byte 0x0A, so that bytes can be cut into lines before they are decoded."""
    name = codecs.lookup(encoding).name
    return not name.replace("_", "").startswith(_SHIFTING) and _SAMPLE.encode(name, "replace") == _SAMPLE.encode()


def hint_for(raw: bytes) -> str:
    """What to do about bytes that are no UTF-8."""
    if b"\x00" in raw:
        return "if it is UTF-16, say --encoding utf-16-le or utf-16-be"
    try:
        text = raw.decode("cp949")
    except UnicodeDecodeError:
        text = ""
    if any("가" <= char <= "힣" for char in text):
        return "it looks like Korean in CP949: say --encoding cp949"
    return "say how it is encoded with --encoding, such as cp949 or cp1252"


def undecodable(raw: bytes, encoding: str) -> str | None:
    """What is wrong with bytes in an encoding; None if nothing is."""
    try:
        raw.decode(encoding)
    except UnicodeDecodeError as exc:
        hint = f"; {hint_for(raw)}" if encoding == "utf-8" else "; is --encoding right?"
        shown = encoding.upper() if encoding.startswith("utf") else encoding
        return f"not valid {shown} (byte 0x{raw[exc.start]:02x} at position {exc.start + 1}){hint}"
    return None


def _encoding_of(head: bytes, name: str, encoding: str | None) -> tuple[bytes, str]:
    """The mark at the start, and the encoding."""
    asked = None if encoding is None else checked_encoding(encoding).removesuffix("-sig")
    for mark, marked in _MARKS.items():
        if not head.startswith(mark):
            continue
        if asked is not None and marked != asked and not (asked in _MARKED and marked.startswith(asked)):
            raise FileFormatError(f"{name} starts with the mark of {marked.upper()}, not of {asked}; see --encoding")
        return mark, marked
    if asked in _MARKED and head:
        raise FileFormatError(f"{name} has no byte order mark: say --encoding {asked}-le or {asked}-be")
    return b"", asked or "utf-8"


def _byte_lines(stream: BinaryIO, name: str, encoding: str, *, asked: bool) -> Iterator[Line]:
    for number, raw in enumerate(stream, start=1):
        if number == 1 and not asked and _is_half_nul(raw):
            raise FileFormatError(f"{name} looks like UTF-16 without a mark: say --encoding utf-16-le or utf-16-be")
        try:
            text, problem = raw.decode(encoding), None
        except UnicodeDecodeError:
            text = raw.decode(encoding, "surrogateescape")
            problem = undecodable(raw.rstrip(b"\r\n"), encoding) or f"not valid {encoding} at its end"
        yield _line(number, text, problem)


def _is_half_nul(raw: bytes) -> bool:
    halves = (raw[::2], raw[1::2])
    return any(len(half) > 1 and half.count(0) >= _MANY_NULS * len(half) for half in halves)


def _text_lines(stream: BinaryIO, name: str, encoding: str) -> Iterator[Line]:
    """Decode first, then cut: a failure ends the file, because what follows it cannot be trusted."""
    decoder = codecs.getincrementaldecoder(encoding)()
    number, rest, more = 1, "", True
    while more:
        piece = stream.read(_PIECE_BYTES)
        more = bool(piece)
        state = decoder.getstate()
        try:
            rest += decoder.decode(piece, final=not more)
        except UnicodeDecodeError as exc:
            lenient = codecs.getincrementaldecoder(encoding)(errors="replace")
            lenient.setstate(state)
            good = rest + lenient.decode(piece, final=True).partition("\ufffd")[0]
            line = number + good.count("\n")
            raise FileFormatError(f"{name}, line {line}: not valid {encoding}; is --encoding right?") from exc
        *whole, rest = rest.split("\n")
        for text in whole:
            yield _line(number, text + "\n", None)
            number += 1
    if rest:
        yield _line(number, rest, None)


def _line(number: int, text: str, problem: str | None) -> Line:
    bare = text.removesuffix("\n").removesuffix("\r")
    return Line(number, bare, text[len(bare) :], problem)
