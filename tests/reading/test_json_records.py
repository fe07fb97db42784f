from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedrt.commands.reading import json_records
from embedrt.errors import FileFormatError
from tests.reading.reading import problems, records, texts

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.lists(TEXT), st.booleans(), st.sampled_from([None, 2]), st.integers(1, 40))
@settings(deadline=None)
def test_arrays_are_read_item_by_item_wherever_the_pieces_are_cut(values, escaped, indent, piece):
    before, json_records._PIECE_CHARS = json_records._PIECE_CHARS, piece
    try:
        data = json.dumps(values, ensure_ascii=escaped, indent=indent).encode()
        assert texts(data, "json") == values
        objects = json.dumps([{"id": i, "text": text} for i, text in enumerate(values)], indent=indent).encode()
        found = records(objects, "json", keep="all")
        assert [(record.text, record.kept) for record in found] == [(t, {"id": i}) for i, t in enumerate(values)]
    finally:
        json_records._PIECE_CHARS = before


@given(st.lists(TEXT), st.booleans(), st.booleans())
@settings(deadline=None)
def test_lines_of_json_are_read_row_for_row(values, escaped, marked):
    lines = "".join(json.dumps({"text": text}, ensure_ascii=escaped) + "\n" for text in values)
    data = (b"\xef\xbb\xbf" if marked else b"") + lines.encode()
    assert texts(data, "jsonl") == values


def test_blank_lines_are_no_records_and_odd_ones_say_why():
    data = (
        b'\xef\xbb\xbf{"text": "a"}\r\n\r\n  \n{"text": "b", "text": "c"}\n{"text": 7}\n["d"]\n'
        b'{"text": "e", "n": 1, "n": 2}\n'
    )
    assert [(record.row, record.line) for record in records(data, "jsonl")] == [(0, 1), (1, 4), (2, 5), (3, 6), (4, 7)]
    found = problems(data, "jsonl")
    assert found[4] == "field 'text' is there twice"
    assert found[5] == "field 'text' is a number, not a text"
    assert "this is an array" in found[6]
    assert texts(data, "jsonl")[-1] == "e", "a field that nobody reads may be there twice"
    assert problems(data, "jsonl", keep="all")[7] == "field 'n' is there twice"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'{"text": "a"}\n{"text": "b"}\n', "line 1: one array .* --input-format jsonl"),
        (b'["a",\n"b"\n', "line 3: it breaks off"),
        (b'["a",\n"b" "c"]', "line 2: ',' or ']' is expected"),
        (b'["a",\n nope]', "line 2: not JSON"),
        (b'["a"]\n["b"]', "line 2: more follows"),
        (b"", "one array"),
        (b'["a",\n"\xff"]', "line 2: not valid UTF-8"),
    ],
)
def test_a_file_that_is_no_array_is_refused_with_its_line(data, said):
    with pytest.raises(FileFormatError, match=said):
        records(data, "json")


def test_numbers_in_an_array_are_no_texts():
    assert problems(b'["a", 12, null, true, [1], "b"]', "json") == {
        2: "a number, not a text", 3: "null, not a text", 4: "a boolean, not a text", 5: "an array, not a text",
    }  # fmt: skip


def test_keep_needs_fields():
    with pytest.raises(FileFormatError, match="no column 'url' for --keep"):
        records(b'{"text": "a", "id": 1}\n', "jsonl", keep=("url",))
    with pytest.raises(FileFormatError, match="--keep needs objects"):
        records(b'"a"\n', "jsonl", keep=("url",))
    found = records(b'{"text": "a", "id": 1}\n{"text": "b"}\n', "jsonl", keep=("id",))
    assert [record.kept for record in found] == [{"id": 1}, {"id": None}]
