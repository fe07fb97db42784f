from __future__ import annotations

import codecs
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedrt.commands.reading import encodings
from embedrt.commands.reading.encodings import checked_encoding, has_byte_lines, read_lines
from embedrt.errors import FileFormatError, OptionError
from tests.reading.reading import problems, records, texts

KOREAN = "안녕하세요\n한국어 문장\n"
WIDE = ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"]
MARKS = dict(
    zip(WIDE, [codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE], strict=True)
)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r"))))
@settings(deadline=None)
@pytest.mark.parametrize("encoding", ["utf-8", *WIDE])
def test_a_text_per_line_whatever_other_worlds_call_a_line(encoding, lines):
    data = "".join(f"{line}\n" for line in lines).encode(encoding)
    marked = MARKS.get(encoding, codecs.BOM_UTF8) + data
    if not (encoding == "utf-16-le" and data.startswith(b"\0\0")):  # UTF-16's mark and a NUL are UTF-32's mark
        assert texts(marked, "txt") == lines
    if not data.startswith(tuple(MARKS.values())):  # a text that begins with U+FEFF is its mark
        assert texts(data, "txt", encoding=encoding) == [*lines] or data.startswith(codecs.BOM_UTF8)


def test_only_lf_and_crlf_end_a_line():
    data = "a\u2028b\x85c\x0cd\r\n\re\n\nlast".encode()
    assert texts(data, "txt") == ["a\u2028b\x85c\x0cd", "\re", "", "last"]
    with pytest.raises(FileFormatError, match="carriage returns"):
        records(b"one\rtwo\rthree", "txt")
    assert texts(b"one\r", "txt") == ["one"]
    assert texts(b"a\x00b\nc\n", "txt") == ["a\x00b", "c"]


@pytest.mark.parametrize("encoding", ["cp949", "euc-kr", "johab", "utf-16", "utf-32", "iso2022_kr", "utf-8"])
def test_encodings_of_korean(encoding):
    assert texts(KOREAN.encode(encoding), "txt", encoding=encoding) == KOREAN.split("\n")[:-1]


@pytest.mark.parametrize("encoding", ["shift_jis", "gb18030", "big5", "cp1252", "cp037", "iso2022_jp", "utf-7"])
def test_encodings_of_others(encoding):
    text = {"shift_jis": "こんにちは", "gb18030": "你好", "big5": "你好", "iso2022_jp": "日本"}.get(
        encoding, "hello, you"
    )
    assert texts(f"{text}\nb\n".encode(encoding), "txt", encoding=encoding) == [text, "b"]


def test_bytes_that_are_not_utf8_name_line_byte_and_cure():
    found = problems(b"a\n" + "물\n".encode("cp949") + b"b\n\xff\n", "txt")
    assert found[2] == "not valid UTF-8 (byte 0xb9 at position 1); it looks like Korean in CP949: say --encoding cp949"
    assert "say how it is encoded with --encoding" in found[4]
    assert problems(b"a\n\xff\n", "txt", encoding="cp949").keys() == {2}


def test_wide_encodings_are_detected_by_their_mark_only():
    assert texts(KOREAN.encode("utf-16"), "txt") == KOREAN.split("\n")[:-1]
    with pytest.raises(FileFormatError, match="UTF-16 without a mark: say --encoding utf-16-le"):
        records("hello\n".encode("utf-16-le"), "txt")
    with pytest.raises(FileFormatError, match="no byte order mark: say --encoding utf-16-le or utf-16-be"):
        records("hello\n".encode("utf-16-le"), "txt", encoding="utf-16")
    with pytest.raises(FileFormatError, match="mark of UTF-8, not of cp949"):
        records(codecs.BOM_UTF8 + b"a\n", "txt", encoding="cp949")
    assert "utf-16-le" in problems("안녕 물\n".encode("utf-16-le"), "txt")[1]


@pytest.mark.parametrize("piece", [2, 5, 64, 1 << 16])
def test_a_wide_file_that_cannot_be_decoded_names_the_line(monkeypatch, piece):
    monkeypatch.setattr(encodings, "_PIECE_BYTES", piece)
    data = codecs.BOM_UTF16_LE + "a\nb\n".encode("utf-16-le") + b"\x00\xd8x\x00" + "c\n".encode("utf-16-le")
    with pytest.raises(FileFormatError, match="line 3: not valid utf-16-le"):
        records(data, "txt")


def test_a_character_cut_between_two_pieces(monkeypatch):
    monkeypatch.setattr(encodings, "_PIECE_BYTES", 3)
    lines = list(read_lines(io.BufferedReader(io.BytesIO("가\r\n나\n다".encode("utf-16"))), "in", None))
    assert [(line.number, line.text, line.end) for line in lines] == [(1, "가", "\r\n"), (2, "나", "\n"), (3, "다", "")]


def test_names_of_encodings():
    assert checked_encoding("UHC") == "cp949"
    assert has_byte_lines("cp949")
    assert not any(has_byte_lines(name) for name in ("utf-16", "cp037", "iso2022_kr"))
    for wrong in ("cp9490", "hex", "", "a\x00"):
        with pytest.raises(OptionError, match="such as utf-8, cp949"):
            checked_encoding(wrong)
