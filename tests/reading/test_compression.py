from __future__ import annotations

import bz2
import gzip
import io
import lzma

import pytest
import zstandard

from embedrt.commands.reading import compression
from embedrt.commands.reading.compression import unpacked
from embedrt.commands.source import open_source
from embedrt.errors import DependencyError, FileFormatError
from tests.reading.reading import records, texts

PACK = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor(write_checksum=True).compress,
}
LINES = [f"line {i} 물" for i in range(3000)]
PLAIN = "".join(f"{line}\n" for line in LINES).encode()


@pytest.mark.parametrize("suffix", PACK)
def test_packed_files_are_known_by_content_and_by_name(tmp_path, suffix):
    packed = PACK[suffix](PLAIN)
    (tmp_path / f"in.txt{suffix}").write_bytes(packed)
    (tmp_path / "in.txt").write_bytes(packed)
    for name in (f"in.txt{suffix}", "in.txt"):
        source = open_source(tmp_path / name)
        assert list(source.texts()) == LINES
        assert source.count() == len(LINES)
    assert texts(PACK[suffix](PLAIN[:9]) + PACK[suffix](PLAIN[9:]), "txt") == LINES, "several members in a row"
    assert texts(PACK[suffix](b""), "txt") == []


@pytest.mark.parametrize("suffix", PACK)
def test_a_packed_file_that_is_cut_short_is_no_shorter_file(suffix):
    packed = PACK[suffix](PLAIN)
    for kept in (len(packed) // 2, len(packed) - 5):
        with pytest.raises(FileFormatError, match=r"is cut short|cannot be read"):
            records(packed[:kept], "txt")


@pytest.mark.parametrize("suffix", PACK)
def test_damage_is_an_error(suffix):
    packed = bytearray(PACK[suffix](PLAIN))
    packed[len(packed) // 2] ^= 0xFF
    with pytest.raises(FileFormatError):
        records(bytes(packed), "txt")


@pytest.mark.parametrize("suffix", PACK)
def test_a_name_that_says_packed_and_a_content_that_is_not(tmp_path, suffix):
    (tmp_path / f"in.txt{suffix}").write_bytes(b"plain\n")
    with pytest.raises(FileFormatError, match="give it its right name"):
        list(open_source(tmp_path / f"in.txt{suffix}").texts())


def test_zstd_without_its_package_says_what_to_install(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(compression.importlib, "import_module", missing)
    monkeypatch.setattr(compression.sys, "version_info", (3, 13))
    with pytest.raises(DependencyError, match="pip install zstandard"):
        records(PACK[".zst"](PLAIN), "txt")


@pytest.mark.parametrize(
    ("start", "said"),
    [(b"PK\x03\x04rest", "xlsx"), (b"PAR1\x15\x04", "--input-format parquet"), (b"\x93NUMPY\x01\x00", "numpy array")],
)
def test_files_that_hold_no_lines_are_called_what_they_are(start, said):
    with pytest.raises(FileFormatError, match=said):
        records(start, "csv")


def test_texts_that_begin_as_a_format_does_are_texts():
    assert texts(b"BZh9 is no bzip2\nPAR1 is a gene\n", "txt") == ["BZh9 is no bzip2", "PAR1 is a gene"]


def test_a_pipe_that_gives_a_byte_at_a_time():
    class Slow(io.RawIOBase):
        def __init__(self, data: bytes) -> None:
            self._data = io.BytesIO(data)

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: bytearray) -> int:
            byte = self._data.read(1)
            buffer[: len(byte)] = byte
            return len(byte)

    packed = gzip.compress("a\nb\n".encode("utf-16"))
    with unpacked(io.BufferedReader(Slow(packed), 1), "stdin") as stream:
        assert stream.read() == "a\nb\n".encode("utf-16")
