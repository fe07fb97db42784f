from __future__ import annotations

import datetime
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedrt.commands.reading.parquet import read_parquet
from embedrt.commands.reading.records import How
from embedrt.errors import FileFormatError


def records(table, **how):
    sink = io.BytesIO()
    pq.write_table(table, sink)
    sink.seek(0)
    return list(read_parquet(sink, "in", How(**how)))


def raw_texts(kind, *values: bytes):
    """An array of texts whose bytes nobody checked."""
    return pa.array(values, pa.binary()).view(pa.string()).cast(kind) if kind == pa.string() else _large(values)


def _large(values):
    return pa.array(values, pa.large_binary()).view(pa.large_string())


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_bytes_that_are_no_text_are_one_bad_row(kind):
    found = records(pa.table({"text": raw_texts(kind, b"a", b"\xffb", b"c")}))
    assert [record.text for record in found] == ["a", None, "c"]
    assert found[1].problem == "not valid UTF-8 (byte 0xff at position 1)"
    assert found[1].line == 2


def test_columns_twice_nested_and_of_bytes():
    twice = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"]), pa.array(["c"])], names=["text", "text", "id"])
    with pytest.raises(FileFormatError, match="2 columns 'text'"):
        records(twice)
    assert [record.text for record in records(twice, column="id")] == ["c"]
    nested = pa.table({"doc": pa.array([{"title": "a", "n": 1}, None, {"title": None, "n": 2}]), "id": [1, 2, 3]})
    assert [record.text for record in records(nested, column="doc.title")] == ["a", None, None]
    with pytest.raises(FileFormatError, match=r"its fields are doc.title, doc.n"):
        records(nested, column="doc")
    with pytest.raises(FileFormatError, match=r"no column 'doc\.none'"):
        records(nested, column="doc.none")
    blob = pa.table({"text": pa.array(["물".encode("cp949"), b"\xff"], pa.binary())})
    with pytest.raises(FileFormatError, match="say --encoding"):
        records(blob)
    assert [record.text for record in records(blob, encoding="cp949")] == ["물", None]
    with pytest.raises(FileFormatError, match=r"list<.*not text"):
        records(pa.table({"text": [["a"]]}))


def test_dictionaries_with_nulls():
    encoded = pa.DictionaryArray.from_arrays(pa.array([0, 1, None, 0]), pa.array(["a", "b"]))
    assert [record.text for record in records(pa.table({"text": encoded}))] == ["a", "b", None, "a"]


def test_kept_values_keep_their_types():
    stamps = pa.array([datetime.datetime(2026, 1, 2), None], pa.timestamp("ns"))
    found = records(pa.table({"text": ["a", "b"], "at": stamps, "n": pa.array([1, 2], pa.int8())}), keep="all")
    assert [record.kept["at"].column.type for record in found] == [pa.timestamp("ns")] * 2
    assert [record.kept["n"].column[record.kept["n"].index] for record in found] == [
        pa.scalar(1, pa.int8()),
        pa.scalar(2, pa.int8()),
    ]


def test_more_rows_than_are_decoded_at_once():
    words = [f"word {i}" for i in range(3000)]
    found = records(pa.table({"text": words, "id": range(3000)}), keep=("id",))
    assert [record.text for record in found] == words
    assert [record.kept["id"].column[record.kept["id"].index].as_py() for record in found] == list(range(3000))
