"""Unpacking: gzip, bzip2, xz and zstd, recognized by their first bytes."""

from __future__ import annotations

import bz2
import gzip
import importlib
import io
import lzma
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, BinaryIO, Protocol, cast

from embedrt.errors import DependencyError, FileFormatError

_HEAD_BYTES = 16
_BUFFER_BYTES = 1 << 18
_ZSTD_INPUT_BYTES = 1 << 14  # what a piece unpacks to is held whole


class _Decompressor(Protocol):
    eof: bool
    unused_data: bytes

    def decompress(self, data: bytes, /) -> bytes: ...


@dataclass(frozen=True)
class _Packing:
    """One format: how its data begins, and what opens it."""

    name: str
    suffixes: tuple[str, ...]
    starts: tuple[bytes, ...]
    open: Callable[[BinaryIO], BinaryIO]


class _Prefixed(io.RawIOBase):
    """A stream whose first bytes were read already; it does not close what it reads from."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head = head
        self._rest = rest
        self._read = getattr(rest, "read1", rest.read)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        data = self._head[: len(buffer)] or self._read(len(buffer))
        self._head = self._head[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)


class _ZstdFrames(io.RawIOBase):
    """The frames of a zstd file, one after the other; unlike the libraries' readers it tells of a cut one."""

    def __init__(self, stream: BinaryIO, make: Callable[[], _Decompressor], error: type[Exception]) -> None:
        self._stream = stream
        self._make = make
        self._error = error
        self._frame: _Decompressor | None = None
        self._packed = self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        while not self._ready:
            if not self._packed:
                self._packed = self._stream.read(_ZSTD_INPUT_BYTES)
            if not self._packed:
                if self._frame is not None:
                    raise EOFError
                return 0
            self._advance()
        data, self._ready = self._ready[: len(buffer)], self._ready[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)

    def _advance(self) -> None:
        frame = self._frame or self._make()
        try:
            self._ready = frame.decompress(self._packed)
        except self._error as exc:
            raise OSError(str(exc)) from exc
        self._packed = frame.unused_data if frame.eof else b""
        self._frame = None if frame.eof else frame


def _buffered(stream: io.RawIOBase) -> io.BufferedReader:
    return io.BufferedReader(stream, _BUFFER_BYTES)


def _open_zstd(stream: BinaryIO) -> BinaryIO:
    if sys.version_info >= (3, 14):
        zstd = importlib.import_module("compression.zstd")
        frames = _ZstdFrames(stream, zstd.ZstdDecompressor, zstd.ZstdError)
    else:
        try:
            zstandard = importlib.import_module("zstandard")
        except ImportError as exc:
            raise DependencyError("zstd files need zstandard: pip install zstandard") from exc
        frames = _ZstdFrames(
            stream, lambda: cast(_Decompressor, zstandard.ZstdDecompressor().decompressobj()), zstandard.ZstdError
        )
    return _buffered(frames)


def _open_gzip(stream: BinaryIO) -> BinaryIO:
    return cast(BinaryIO, gzip.GzipFile(fileobj=stream, mode="rb"))


def _open_bzip2(stream: BinaryIO) -> BinaryIO:
    return cast(BinaryIO, bz2.BZ2File(stream))


def _open_xz(stream: BinaryIO) -> BinaryIO:
    return cast(BinaryIO, lzma.open(stream))


# A block follows the level, or the end of an empty file; "BZh9" alone may begin a text.
_BZIP2_STARTS = tuple(b"BZh%d%b" % (level, rest) for level in range(1, 10) for rest in (b"1AY&SY", b"\x17rE8P\x90"))
_PACKINGS = (
    _Packing("gzip", (".gz", ".gzip"), (b"\x1f\x8b",), _open_gzip),
    _Packing("bzip2", (".bz2",), _BZIP2_STARTS, _open_bzip2),
    _Packing("xz", (".xz",), (b"\xfd7zXZ\x00",), _open_xz),
    _Packing("zstd", (".zst", ".zstd"), (b"\x28\xb5\x2f\xfd",), _open_zstd),
)
SUFFIXES = tuple(suffix for packing in _PACKINGS for suffix in packing.suffixes)

# What people give for a file of texts.
_OTHER_FILES = {
    b"PK\x03\x04": "a zip file, as Excel's .xlsx is: save it as CSV, or unpack it",
    b"\xd0\xcf\x11\xe0": "an old Office file: save it as CSV",
    b"PAR1\x15": "a parquet file: say --input-format parquet",
    b"\x93NUMPY": "a numpy array: texts are expected",
    b"ARROW1\x00\x00": "an Arrow file: save it as parquet",
    b"\x04\x22\x4d\x18": "lz4 data: unpack it, or use gzip, bzip2, xz or zstd",
    b"SQLite format 3\x00": "an SQLite database: save the texts as CSV",
}


@contextmanager
def unpacked(stream: BinaryIO, name: str) -> Iterator[io.BufferedReader]:
    """The bytes of `stream`, unpacked if they are packed; nothing is closed that the caller opened.

    Raises:
        FileFormatError: the name says that it is packed and it is not; the data is damaged or cut short; or this is
            a kind of file that holds no lines.
        DependencyError: zstd, and nothing here unpacks it.
    """
    head = stream.read(_HEAD_BYTES)
    plain = _buffered(_Prefixed(head, stream))
    packing = _packing_of(head, name)
    try:
        if packing is None:
            yield plain
            return
        with packing.open(plain) as opened:
            yield _buffered(_Prefixed(b"", opened))
    except EOFError as exc:
        raise FileFormatError(f"{name} is cut short: its compressed data has no end") from exc
    except (gzip.BadGzipFile, zlib.error, lzma.LZMAError, OSError) as exc:
        if getattr(exc, "filename", None) is not None:  # of another file, which the caller writes meanwhile
            raise
        raise FileFormatError(f"{name} cannot be read: {getattr(exc, 'strerror', None) or exc}") from exc


def without_packing(name: PurePath) -> PurePath:
    """The name without ".gz" and the like."""
    return name.with_suffix("") if name.suffix.lower() in SUFFIXES else name


def _packing_of(head: bytes, name: str) -> _Packing | None:
    for packing in _PACKINGS:
        if head.startswith(packing.starts):
            return packing
    for start, what in _OTHER_FILES.items():
        if head.startswith(start):
            raise FileFormatError(f"{name} is {what}")
    suffix = PurePath(name).suffix.lower()
    for packing in _PACKINGS:
        if suffix in packing.suffixes:
            raise FileFormatError(f"{name} is called {suffix} and holds no {packing.name} data; give it its right name")
    return None
