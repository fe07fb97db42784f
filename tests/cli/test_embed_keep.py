"""`embedrt embed --keep`: the input's columns go along."""

from __future__ import annotations

import datetime
import decimal
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedrt.embedder import Embedder
from tests.cli.embedding import expected, many_texts
from tests.cli.test_embed_resume import break_after

COUNT = 40
TYPES = {
    "id": pa.array(range(COUNT), pa.int16()),
    "at": pa.array([i if i % 7 else None for i in range(COUNT)], pa.timestamp("ns")),
    "price": pa.array([decimal.Decimal(i) / 4 for i in range(COUNT)], pa.decimal128(6, 2)),
    "tags": pa.array([["a", "b"][: i % 3] if i % 5 else None for i in range(COUNT)]),
    "where": pa.array([{"x": i, "day": datetime.date(2026, 1, 1)} if i % 4 else None for i in range(COUNT)]),
    "raw": pa.array([bytes([i, 255]) for i in range(COUNT)]),
    "half": pa.array(np.arange(COUNT, dtype=np.float16)),
    "pair": pa.array([[i, i] if i % 3 else None for i in range(COUNT)], pa.list_(pa.float32(), 2)),
    "kind": pa.array([f"k{i % 2}" for i in range(COUNT)]),
}


@pytest.fixture
def parquet(tmp_path):
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"text": many_texts(COUNT), **TYPES}), path, row_group_size=7)
    return path


def test_parquet_to_parquet_keeps_values_and_types(cli, lookup_bundle, tmp_path, parquet):
    out = tmp_path / "out.parquet"
    cli.ok("embed", lookup_bundle, parquet, "-o", out, "--keep", "all", "--block-size", 8)
    table = pq.read_table(out)
    assert table.column_names == ["row", *TYPES, "embedding"]
    for name, values in TYPES.items():
        assert table.schema.field(name).type == values.type, name
        assert table.column(name).combine_chunks().equals(values), name
    cli.ok("embed", lookup_bundle, parquet, "-o", out, "--keep", "kind, id", "--with-text", "--force")
    assert pq.read_table(out).column_names == ["row", "text", "kind", "id", "embedding"]


def test_parquet_to_json_lines(cli, lookup_bundle, parquet, tmp_path):
    cli.ok("embed", lookup_bundle, parquet, "-o", tmp_path / "out.jsonl", "--keep", "all")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert list(lines[3]) == ["row", *TYPES, "embedding"]
    assert lines[3]["id"] == 3
    assert lines[3]["at"] == "1970-01-01 00:00:00.000000003"
    assert lines[3]["price"] == "0.75"
    assert lines[3]["tags"] == []
    assert lines[3]["raw"] == "A/8="
    assert lines[0]["at"] is None


def test_csv_and_json_lines_into_both(cli, lookup_bundle, tmp_path):
    (tmp_path / "in.csv").write_text("id,text,url\n007,water,http://a\n8,light,\n")
    (tmp_path / "in.jsonl").write_text(
        '{"text": "water", "id": 7, "score": 1, "ok": true, "more": {"a": [1]}}\n'
        '{"text": "light", "id": 8, "score": 2.5, "ok": null, "more": null}\n'
    )
    out = tmp_path / "out.parquet"
    cli.ok("embed", lookup_bundle, tmp_path / "in.csv", "-o", out, "--keep", "all")
    table = pq.read_table(out)
    assert table.column("id").to_pylist() == ["007", "8"], "a CSV has texts, not numbers"
    assert table.column("url").to_pylist() == ["http://a", ""]
    cli.ok("embed", lookup_bundle, tmp_path / "in.jsonl", "-o", out, "--keep", "all", "--force")
    table = pq.read_table(out)
    assert [str(table.schema.field(name).type) for name in ("id", "score", "ok", "more")] == [
        "int64", "double", "bool", "string",
    ]  # fmt: skip
    assert table.column("more").to_pylist() == ['{"a": [1]}', None]
    shown = cli.ok("embed", lookup_bundle, tmp_path / "in.jsonl", "-o", "-", "--keep", "id,more").stdout
    assert [{k: v for k, v in json.loads(line).items() if k != "embedding"} for line in shown.splitlines()] == [
        {"row": 0, "id": 7, "more": {"a": [1]}}, {"row": 1, "id": 8, "more": None},
    ]  # fmt: skip


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_resumed_run_gives_the_same_bytes(cli, lookup_bundle, tmp_path, parquet, monkeypatch, suffix):
    monkeypatch.setattr("embedrt.commands.embed._SAVE_SECONDS", 0.0)
    args = ("embed", lookup_bundle, parquet, "--keep", "all", "--block-size", "4", "-o")
    cli.ok(*args, tmp_path / f"whole{suffix}")
    with monkeypatch.context() as patch:
        break_after(patch, 3)
        cli.fails(*args, tmp_path / f"out{suffix}")
    cli.ok(*args, tmp_path / f"out{suffix}", "--resume")
    assert (tmp_path / f"out{suffix}").read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()
    error = cli.fails(*args, tmp_path / f"out{suffix}", "--resume", "--keep", "id")
    assert '--keep was "all", now ["id"]' in error


def test_what_cannot_be_kept_says_why(cli, lookup_bundle, tmp_path, monkeypatch):
    source, out = tmp_path / "in.jsonl", tmp_path / "out.parquet"
    args = ("embed", lookup_bundle, source, "--block-size", 1, "--force", "--keep")
    source.write_text('{"text": "a", "id": 1}\n{"text": "b", "id": "x"}\n')
    assert "'id' is \"x\" in record 2, where the first ones have int64" in cli.fails(*args, "id", "-o", out)
    source.write_text('{"text": "a", "id": 1}\n{"text": "b", "id": true}\n')
    assert "'id' is true in record 2" in cli.fails(*args, "id", "-o", out)
    source.write_text('{"text": "a", "id": 1}\n{"text": "b", "url": 1}\n')
    assert "record 2 has 'url'" in cli.fails(*args, "all", "-o", out)
    assert "no column 'uri' for --keep; its columns: text, id" in cli.fails(*args, "uri", "-o", out)
    source.write_text('{"text": "a", "row": 1}\n')
    for suffix in (".jsonl", ".parquet"):
        assert "a column 'row' of its own" in cli.fails(*args, "all", "-o", out.with_suffix(suffix))
    monkeypatch.setattr(Embedder, "__init__", lambda *_args, **_kwargs: pytest.fail("a model was loaded"))
    assert "a .npy holds numbers only" in cli.fails(*args, "id", "-o", tmp_path / "out.npy", code=2)
    (tmp_path / "in.txt").write_text("a\n")
    cli.fails("embed", lookup_bundle, tmp_path / "in.txt", "-o", out, "--keep", "id", code=2)


def test_kept_columns_do_not_change_the_vectors(cli, lookup_bundle, tmp_path, parquet):
    cli.ok("embed", lookup_bundle, parquet, "-o", tmp_path / "out.parquet", "--keep", "id")
    read = np.array(pq.read_table(tmp_path / "out.parquet").column("embedding").to_pylist(), np.float32)
    np.testing.assert_array_equal(read, expected(lookup_bundle, many_texts(COUNT)))


def test_skipped_records_are_not_kept(cli, lookup_bundle, tmp_path):
    (tmp_path / "in.csv").write_bytes(b"id,text\n1,a\n2,\xff\n3,b,c\n4,light\n")
    out = tmp_path / "out.jsonl"
    cli.ok("embed", lookup_bundle, tmp_path / "in.csv", "-o", out, "--keep", "id", "--on-error", "skip")
    assert [(line["row"], line["id"]) for line in map(json.loads, out.read_text().splitlines())] == [(0, "1"), (3, "4")]
