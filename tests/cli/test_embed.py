"""`embedrt embed`: inputs, outputs and options."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from embedrt.embedder import Embedder
from tests.cli.embedding import TEXTS, expected, many_texts, write_input


@pytest.mark.parametrize("suffix", [".txt", ".jsonl", ".csv", ".tsv", ".parquet"])
def test_every_input_gives_one_row_per_text_and_blank_ones_count(cli, lookup_bundle, tmp_path, suffix):
    source = write_input(tmp_path, suffix, TEXTS)
    cli.ok("embed", lookup_bundle, source, "-o", tmp_path / "out.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected(lookup_bundle, TEXTS))


@pytest.mark.parametrize(
    ("source", "out", "code", "said"),
    [
        ("none.txt", "new.npy", 1, "none.txt is not there"),
        ("in.txt", "old.npy", 1, "old.npy exists; replace it with --force"),
        ("in.txt", "none/new.npy", 2, "none is not there; mkdir -p"),
        ("in.txt", "new.txt", 2, "must end in .npy, .parquet, .jsonl"),
    ],
)
def test_what_cannot_work_is_said_before_a_model_is_loaded(
    cli, lookup_bundle, tmp_path, monkeypatch, source, out, code, said
):
    write_input(tmp_path, ".txt", TEXTS)
    (tmp_path / "old.npy").touch()
    monkeypatch.setattr(Embedder, "__init__", lambda *_args, **_kwargs: pytest.fail("a model was loaded"))
    error = cli.fails("embed", lookup_bundle, tmp_path / source, "-o", tmp_path / out, code=code)
    assert said in " ".join(error.split())


def test_jsonl_output_reads_back_bit_for_bit_and_can_carry_the_texts(cli, lookup_bundle, tmp_path):
    source = write_input(tmp_path, ".txt", TEXTS)
    cli.ok("embed", lookup_bundle, source, "-o", tmp_path / "out.jsonl", "--with-text")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["row"] for line in lines] == list(range(len(TEXTS)))
    assert [line["text"] for line in lines] == TEXTS
    read = np.array([line["embedding"] for line in lines], np.float32)
    np.testing.assert_array_equal(read, expected(lookup_bundle, TEXTS))


def test_parquet_output_has_rows_vectors_and_identity(cli, lookup_bundle, tmp_path):
    source = write_input(tmp_path, ".txt", TEXTS)
    cli.ok("embed", lookup_bundle, source, "-o", tmp_path / "out.parquet", "--with-text", "--document")
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.column("row").to_pylist() == list(range(len(TEXTS)))
    assert table.column("text").to_pylist() == TEXTS
    read = np.array(table.column("embedding").to_pylist(), np.float32)
    np.testing.assert_array_equal(read, expected(lookup_bundle, TEXTS, prompt="of "))
    with Embedder(lookup_bundle) as embedder:
        identity = embedder.identify(kind="document")
    assert json.loads(table.schema.metadata[b"embedrt"])["identity"] == identity
    assert json.loads((tmp_path / "out.parquet.meta.json").read_text())["identity"] == identity


def test_parquet_is_written_by_row_groups(cli, lookup_bundle, tmp_path, monkeypatch):
    monkeypatch.setattr("embedrt.commands.writers._ROW_GROUP", 8)
    source = write_input(tmp_path, ".txt", many_texts(30))
    cli.ok("embed", lookup_bundle, source, "-o", tmp_path / "out.parquet", "--block-size", 4)
    assert pq.ParquetFile(tmp_path / "out.parquet").num_row_groups == 4
    assert pq.read_table(tmp_path / "out.parquet").column("row").to_pylist() == list(range(30))


def test_stdin_to_stdout(cli, lookup_bundle):
    result = cli.ok("embed", lookup_bundle, "-", "-o", "-", stdin=b"the water\r\n\r\nlight")
    rows = [json.loads(line)["embedding"] for line in result.stdout.splitlines()]
    np.testing.assert_array_equal(np.array(rows, np.float32), expected(lookup_bundle, ["the water", "", "light"]))
    jsonl = b'{"body": "light"}\n"water"\n'
    result = cli("embed", lookup_bundle, "-", "-o", "-", "--input-format", "jsonl", stdin=jsonl)
    assert result.exit_code == 1, "a string where objects were begun"
    jsonl = b'{"body": "light"}\n{"body": "water"}\n'
    result = cli.ok("embed", lookup_bundle, "-", "-o", "-", "--input-format", "jsonl", stdin=jsonl)
    assert len(result.stdout.splitlines()) == 2


@pytest.mark.parametrize("suffix", [".npy", ".jsonl", ".parquet"])
def test_an_empty_file_gives_an_empty_output(cli, lookup_bundle, tmp_path, suffix):
    (tmp_path / "in.txt").write_bytes(b"")
    (tmp_path / "in.csv").write_bytes(b"text\n")
    for source in ("in.txt", "in.csv"):
        out = tmp_path / f"out{suffix}"
        cli.ok("embed", lookup_bundle, tmp_path / source, "-o", out, "--force")
        if suffix == ".npy":
            assert np.load(out).shape == (0, 8)
        elif suffix == ".parquet":
            assert pq.read_table(out).num_rows == 0
        else:
            assert out.read_bytes() == b""


@pytest.mark.parametrize(
    ("options", "keywords"),
    [
        (["--query", "--task", "stone"], {"prompt": "in stone : "}),
        (["--prompt-name", "document"], {"prompt": "of "}),
        (["--prompt", "light "], {"prompt": "light "}),
        (["--truncate-dim", "4"], {"truncate_dim": 4}),
        (["--precision", "ubinary"], {"precision": "ubinary"}),
        (["--precision", "int8", "--normalize"], {"precision": "int8", "normalize_embeddings": True}),
        (["--variant", "int8", "--threads", "1"], {}),
    ],
)
def test_options_reach_the_engine(cli, lookup_bundle, tmp_path, options, keywords):
    source = write_input(tmp_path, ".txt", TEXTS)
    cli.ok("embed", lookup_bundle, source, "-o", tmp_path / "out.npy", *options)
    found = np.load(tmp_path / "out.npy")
    wanted = expected(lookup_bundle, TEXTS, **keywords)
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted)


def test_an_existing_output_is_refused_without_force(cli, lookup_bundle, tmp_path):
    source = write_input(tmp_path, ".txt", TEXTS)
    out = tmp_path / "out.npy"
    out.write_bytes(b"precious")
    assert "--force" in cli.fails("embed", lookup_bundle, source, "-o", out)
    assert out.read_bytes() == b"precious"
    cli.ok("embed", lookup_bundle, source, "-o", out, "--force")
    assert np.load(out).shape == (6, 8)


def test_cut_texts_are_told_once_with_counts(cli, lookup_bundle, tmp_path):
    source = write_input(tmp_path, ".txt", ["light", "water " * 50, "stone " * 99])
    result = cli.ok("embed", lookup_bundle, source, "-o", tmp_path / "out.npy", "-q")
    assert result.stderr.count("warning") == 1
    assert "2 of 3 texts cut at 32 tokens (the longest, line 3, has 101)" in result.stderr
    error = cli.fails("embed", lookup_bundle, source, "-o", tmp_path / "b.npy", "--on-overflow", "error")
    assert "line 2: has 52 tokens" in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.txt", "out.npy", "out.npy.meta.json"]
