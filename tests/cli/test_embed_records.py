"""`embedrt embed` on records and files that are bad or odd."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedrt.executors.onnxruntime import OnnxRuntimeExecutor
from tests.cli.embedding import TEXTS, expected, write_input

BAD_LINES = b"the water\n\xff\xfe bad\nlight\nstone\n"


def test_invalid_utf8_is_an_error_with_its_line(cli, lookup_bundle, tmp_path):
    (tmp_path / "in.txt").write_bytes(BAD_LINES)
    error = cli.fails("embed", lookup_bundle, tmp_path / "in.txt", "-o", tmp_path / "out.npy")
    assert "line 2: not valid UTF-8 (byte 0xff at position 1)" in error
    assert [path.name for path in tmp_path.iterdir()] == ["in.txt"]


def test_skipped_texts_are_listed_and_rows_keep_their_numbers(cli, lookup_bundle, tmp_path):
    (tmp_path / "in.jsonl").write_bytes(
        b'{"text": "the water"}\n{"text": null}\nnot json\n{"text": "light"}\n{"text": "\\ud800"}\n'
        b'{"other": 1}\n{"text": "stone"}\n{"text": 7}\n'
    )
    out = tmp_path / "out.npy"
    result = cli.ok("embed", lookup_bundle, tmp_path / "in.jsonl", "-o", out, "--on-error", "skip")
    np.testing.assert_array_equal(np.load(out), expected(lookup_bundle, ["the water", "light", "stone"]))
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy.rows.npy"), [0, 3, 6])
    skipped = [json.loads(line) for line in (tmp_path / "out.npy.skipped.jsonl").read_text().splitlines()]
    assert [item["line"] for item in skipped] == [2, 3, 5, 6, 8]
    assert "null" in skipped[0]["reason"]
    assert "surrogate" in skipped[2]["reason"]
    assert "5 texts skipped" in result.stderr
    assert "line 2: field 'text' is null, not a text" in result.stderr
    assert "line 5: has a lone surrogate" in result.stderr


def test_texts_over_the_limit_and_vectors_with_nan_are_skipped_by_line(cli, lookup_bundle, tmp_path, monkeypatch):
    run = OnnxRuntimeExecutor.run

    def poisoned(self, batch, **options):
        hidden = run(self, batch, **options).copy()
        lengths = np.diff(batch.offsets)
        hidden[lengths == 4] = np.nan  # texts of two words, whose rows are pooled already
        return hidden

    monkeypatch.setattr(OnnxRuntimeExecutor, "run", poisoned)
    source = write_input(tmp_path, ".txt", ["light", "water " * 50, "the water", "stone"])
    options = ["--on-overflow", "error", "--on-error", "skip"]
    result = cli.ok("embed", lookup_bundle, source, "-o", tmp_path / "out.npy", *options)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy.rows.npy"), [0, 3])
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected(lookup_bundle, ["light", "stone"]), atol=1e-6)
    assert "2 texts skipped" in result.stderr
    assert "line 2: has 52 tokens, the model takes 32" in result.stderr
    assert "line 3: its vector holds NaN" in result.stderr
    error = cli.fails("embed", lookup_bundle, source, "-o", tmp_path / "b.npy")
    assert "line 3: its vector holds NaN or infinity" in error


@pytest.mark.parametrize("suffix", [".npy", ".jsonl", ".parquet"])
def test_nothing_but_bad_records(cli, lookup_bundle, tmp_path, suffix):
    (tmp_path / "in.txt").write_bytes(b"\xff\n\xff\n")
    result = cli.ok("embed", lookup_bundle, tmp_path / "in.txt", "-o", tmp_path / f"o{suffix}", "--on-error", "skip")
    assert "2 texts skipped" in result.stderr


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("a.csv", "id,body,title\n1,x,y\n", [], "no column 'text'; choose with --column: id, body, title"),
        ("a.csv", "id,body\n1,x\n", ["--column", "bodi"], "no column 'bodi'; its columns: id, body"),
        ("a.csv", "", [], "header line"),
        ("a.csv", "id,text\n1,x\n2\n", [], "line 3: 1 field, the header has 2"),
        ("a.jsonl", '{"a": "x", "b": "y"}\n', [], "choose with --column: a, b"),
        ("a.jsonl", '{"a": "x"}\n', ["--column", "z"], "no column 'z'; its columns: a"),
        ("a.csv", "hello,you,2.5\n", ["--column", "z"], "its columns: hello, you, 2.5. If that line is data"),
        ("a.jsonl", '"x"\n[1]\n', [], "line 2: an array, not a text"),
        ("a.jsonl", '{"text": "x"}\n"y"\n', [], "line 2: an object with a field 'text' is expected, this is a string"),
        ("a.pdf", "x\n", [], "is a document: save its texts"),
        ("a.log", "x\n", [], "unknown suffix '.log'"),
        ("a.parquet", "x\n", [], "cannot be read as parquet"),
        (None, "", [], "is not there"),
        (".", "", ["--input-format", "txt"], "is a folder of pictures"),
    ],
)
def test_unusable_inputs_say_why(cli, lookup_bundle, tmp_path, name, content, options, message):
    source = tmp_path / (name or "missing.txt")
    if name not in (None, "."):
        source.write_bytes(content.encode("latin1"))
    code = 2 if name == "." else 1  # a wrong use of options
    error = cli.fails("embed", lookup_bundle, source, "-o", tmp_path / "out.npy", *options, code=code)
    assert message in error
    assert not (tmp_path / "out.npy").exists()


def test_csv_quotes_bom_crlf_and_broken_bytes(cli, lookup_bundle, tmp_path):
    (tmp_path / "in.csv").write_bytes(b'\xef\xbb\xbfid,text\r\n1,"the ""water"",\r\nlight"\r\n2,\xff\r\n3,stone\r\n')
    out = tmp_path / "out.jsonl"
    error = cli.fails("embed", lookup_bundle, tmp_path / "in.csv", "-o", out)
    assert "line 4: not valid UTF-8 (byte 0xff in 'text')" in error
    cli.ok("embed", lookup_bundle, tmp_path / "in.csv", "-o", out, "--on-error", "skip", "--with-text")
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(line["row"], line["text"]) for line in lines] == [(0, 'the "water",\r\nlight'), (2, "stone")]


def test_parquet_column_of_another_type_and_nulls(cli, lookup_bundle, tmp_path):
    pq.write_table(pa.table({"id": [1, 2], "text": ["water", None]}), tmp_path / "in.parquet")
    args = ("embed", lookup_bundle, tmp_path / "in.parquet", "-o", tmp_path / "out.npy")
    assert "column 'id' holds int64, not text" in cli.fails(*args, "--column", "id")
    assert "row 2: null, not a text" in cli.fails(*args)
    skipped = cli.ok(*args, "--on-error", "skip").stderr
    assert "1 text skipped" in skipped
    assert "row 2: null, not a text" in skipped


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())])
def test_parquet_kinds_of_text(cli, lookup_bundle, tmp_path, kind):
    pq.write_table(pa.table({"text": pa.array(TEXTS).cast(kind)}), tmp_path / "in.parquet")
    cli.ok("embed", lookup_bundle, tmp_path / "in.parquet", "-o", tmp_path / "out.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected(lookup_bundle, TEXTS))


def test_a_huge_line(cli, lookup_bundle, tmp_path):
    (tmp_path / "in.txt").write_text("light\n" + "water " * 400_000 + "\nstone\n")
    result = cli.ok("embed", lookup_bundle, tmp_path / "in.txt", "-o", tmp_path / "out.npy")
    assert "1 of 3 texts cut" in result.stderr
    assert np.load(tmp_path / "out.npy").shape == (3, 8)


@pytest.mark.parametrize(
    "options",
    [
        ["-o", "out.txt"],
        ["-o", "-", "--resume"],
        ["-o", "out.npy", "--with-text"],
        ["-o", "out.npy", "--query", "--document"],
        ["-o", "out.npy", "--task", "x"],
        ["-o", "out.npy", "--prompt", "x", "--prompt-name", "y"],
        ["-o", "out.npy", "--threads", "0"],
        ["-o", "out.npy", "--column", "text"],
        ["-o", "out.npy", "--delimiter", "tab"],
        ["-o", "out.npy", "--encoding", "cp9490"],
        ["-o", "out.npy", "--truncate-dim", "9999"],
        ["-o", "out.npy", "--prompt-name", "none"],
        ["-o", "out.npy", "--isa", "mmx"],
        [],
    ],
)
def test_wrong_usage_is_exit_code_2(cli, lookup_bundle, tmp_path, options):
    cli.fails("embed", lookup_bundle, write_input(tmp_path, ".txt", TEXTS), *options, code=2)


def test_the_input_is_never_the_output_whatever_its_name(cli, lookup_bundle, tmp_path):
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "water"}\n')
    (tmp_path / "link.jsonl").symlink_to(source)
    (tmp_path / "hard.jsonl").hardlink_to(source)
    (tmp_path / "sub").mkdir()
    for out in ("in.jsonl", "link.jsonl", "hard.jsonl", "sub/../in.jsonl"):
        error = cli.fails("embed", lookup_bundle, source, "-o", tmp_path / out, "--force")
        assert "is the input itself" in error
    # a file that a run beside it would remove
    aside = tmp_path / "out.npy.skipped.jsonl"
    aside.write_bytes(source.read_bytes())
    assert "is the input itself" in cli.fails("embed", lookup_bundle, aside, "-o", tmp_path / "out.npy", "--force")
    assert source.read_text() == aside.read_text() == '{"text": "water"}\n'
    args = ("similarity", lookup_bundle, "--file", source, "--plot", tmp_path / "map.svg", "--input-format", "txt")
    (tmp_path / "map.svg").symlink_to(source)
    assert "is the input itself" in cli.fails(*args)
    cli.fails("bench", lookup_bundle, "--texts", source, "--json", tmp_path / "hard.jsonl")
    assert source.read_text() == '{"text": "water"}\n'


def test_a_tilde_is_the_home_folder(cli, lookup_bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_input(tmp_path, ".txt", TEXTS)
    (tmp_path / "bundle").symlink_to(lookup_bundle)
    cli.ok("embed", "~/bundle", "~/in.txt", "-o", "~/out.npy")
    assert np.load(tmp_path / "out.npy").shape == (len(TEXTS), 8)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~").mkdir()
    (tmp_path / "~" / "in.txt").write_text("a file in a folder of that name\n")
    cli.ok("embed", lookup_bundle, "~/in.txt", "-o", tmp_path / "other.npy")
    assert np.load(tmp_path / "other.npy").shape == (1, 8)


def test_a_file_in_another_encoding(cli, lookup_bundle, tmp_path):
    (tmp_path / "in.csv").write_bytes("번호,text\n1,물은\n".encode("cp949"))
    args = ("embed", lookup_bundle, tmp_path / "in.csv", "-o", tmp_path / "out.npy")
    assert "header is not valid UTF-8" in cli.fails(*args)
    cli.ok(*args, "--encoding", "cp949")
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected(lookup_bundle, ["물은"]))
    error = cli.fails(*args, "--encoding", "euc-kr", "--resume")
    assert "exists" in error
