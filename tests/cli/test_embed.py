from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedrt.embedder import Embedder
from embedrt.errors import ExecutorError
from embedrt.executors.onnxruntime import OnnxRuntimeExecutor

TEXTS = ["the water", "", "a stone in the river", "light", "", "bread and paper"]


def expected(bundle: Path, texts: list[str], **options: object) -> np.ndarray:
    with Embedder(bundle, num_threads=1) as embedder:
        return embedder.encode(texts, **options)


def many_texts(count: int) -> list[str]:
    draw = random.Random(3)
    words = ["the", "water", "stone", "light", "river", "house", "of", "in"]
    return [" ".join(draw.choices(words, k=draw.randint(0, 12))) for _ in range(count)]


def write_input(folder: Path, suffix: str, texts: list[str]) -> Path:
    path = folder / f"in{suffix}"
    if suffix == ".txt":
        path.write_text("".join(f"{text}\n" for text in texts))
    elif suffix == ".jsonl":
        path.write_text("".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in enumerate(texts)))
    elif suffix in (".csv", ".tsv"):
        comma = "," if suffix == ".csv" else "\t"
        path.write_text(f"id{comma}text\n" + "".join(f'{i}{comma}"{text}"\n' for i, text in enumerate(texts)))
    else:
        pq.write_table(pa.table({"id": range(len(texts)), "text": texts}), path)
    return path


@pytest.mark.parametrize("suffix", [".txt", ".jsonl", ".csv", ".tsv", ".parquet"])
def test_every_input_gives_one_row_per_text_and_blank_ones_count(cli, lookup_bundle, tmp_path, suffix):
    source = write_input(tmp_path, suffix, TEXTS)
    cli.ok("embed", lookup_bundle, source, "-o", tmp_path / "out.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected(lookup_bundle, TEXTS))


@pytest.mark.parametrize(
    ("source", "out", "code", "said"),
    [
        ("none.txt", "new.npy", 1, "none.txt is not there"),
        (".", "new.npy", 1, "is a directory; a file with texts is expected"),
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


# -- bad records -------------------------------------------------------------------------------------------------

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
        hidden[np.repeat(lengths == 4, lengths)] = np.nan  # texts of two words
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
        ("a.csv", "id,text\n1,x\n2\n", [], "line 3: ends after field 1; 'text' is number 2"),
        ("a.jsonl", '{"a": "x", "b": "y"}\n', [], "choose with --column: a, b"),
        ("a.jsonl", '{"a": "x"}\n', ["--column", "z"], "no column 'z'; its columns: a"),
        ("a.jsonl", '"x"\n[1]\n', [], "line 2: an array, not a text"),
        ("a.jsonl", '{"text": "x"}\n"y"\n', [], "line 2: an object with a field 'text' is expected, this is a string"),
        ("a.txt", "x\n", ["--column", "text"], "plain lines"),
        ("a.pdf", "x\n", [], "unknown suffix '.pdf'"),
        ("a.parquet", "x\n", [], "cannot be read as parquet"),
        ("a.txt", "\ufeff".encode("utf-16-le").decode("latin1"), [], "UTF-16"),
        (None, "", [], "is not there"),
        (".", "", ["--input-format", "txt"], "is a directory"),
    ],
)
def test_unusable_inputs_say_why(cli, lookup_bundle, tmp_path, name, content, options, message):
    source = tmp_path / (name or "missing.txt")
    if name not in (None, "."):
        source.write_bytes(content.encode("latin1"))
    error = cli.fails("embed", lookup_bundle, source, "-o", tmp_path / "out.npy", *options)
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
        [],
    ],
)
def test_wrong_usage_is_exit_code_2(cli, lookup_bundle, tmp_path, options):
    cli.fails("embed", lookup_bundle, write_input(tmp_path, ".txt", TEXTS), *options, code=2)


# -- interrupted -------------------------------------------------------------------------------------------------


class PowerCutError(ExecutorError):
    pass


def break_after(monkeypatch: pytest.MonkeyPatch, blocks: int) -> None:
    """The next run fails after so many blocks."""
    whole = Embedder.encode_stream

    def partly(self: Embedder, texts: Iterable[str], **options: object) -> object:
        for i, block in enumerate(whole(self, texts, **options)):
            if i == blocks:
                raise PowerCutError("cut")
            yield block

    monkeypatch.setattr(Embedder, "encode_stream", partly)


@pytest.fixture
def interrupted(cli, lookup_bundle, tmp_path, monkeypatch):
    """Makes an unfinished run over 40 texts; returns the arguments of the run."""
    monkeypatch.setattr("embedrt.commands.embed._SAVE_SECONDS", 0.0)

    def make(suffix: str, *options: str, blocks: int = 3, bad: bool = False) -> list[object]:
        source = tmp_path / "in.txt"
        lines = [text.encode() for text in many_texts(40)]
        if bad:
            lines[2] = lines[13] = lines[14] = lines[39] = b"\xff"
        source.write_bytes(b"\n".join(lines) + b"\n")
        args = ["embed", lookup_bundle, source, "--block-size", "4", *options, "-o"]
        cli.ok(*args, tmp_path / f"whole{suffix}")
        with monkeypatch.context() as patch:
            break_after(patch, blocks)
            cli.fails(*args, tmp_path / f"out{suffix}")
        assert not (tmp_path / f"out{suffix}").exists()
        return [*args, tmp_path / f"out{suffix}"]

    return make


@pytest.mark.parametrize("suffix", [".npy", ".jsonl", ".parquet"])
@pytest.mark.parametrize("blocks", [1, 3, 9])
def test_a_resumed_run_gives_the_same_bytes(cli, interrupted, tmp_path, suffix, blocks):
    args = interrupted(suffix, blocks=blocks)
    with (tmp_path / f"out{suffix}.part").open("ab") as stream:
        stream.write(b"half a row that the state does not know of")
    result = cli.ok(*args, "--resume")
    assert f"embedding from row {blocks * 4}" in result.stderr
    assert (tmp_path / f"out{suffix}").read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()
    assert not list(tmp_path.glob("*.part*"))


@pytest.mark.parametrize("suffix", [".npy", ".jsonl", ".parquet"])
def test_a_resumed_run_with_skipped_texts_gives_the_same_files(cli, interrupted, tmp_path, suffix):
    args = interrupted(suffix, "--on-error", "skip", blocks=4, bad=True)
    cli.ok(*args, "--resume")
    kinds = ["", ".skipped.jsonl", *([".rows.npy"] if suffix == ".npy" else [])]
    for kind in kinds:
        resumed, whole = (tmp_path / f"{stem}{suffix}{kind}" for stem in ("out", "whole"))
        assert resumed.read_bytes() == whole.read_bytes(), kind


def test_resume_refuses_changed_input_and_options(cli, interrupted, tmp_path):
    args = interrupted(".npy")
    assert "--truncate-dim was not given, now 4" in cli.fails(*args, "--resume", "--truncate-dim", "4")
    error = cli.fails(*args, "--resume", "--variant", "fp32", "--query")
    assert 'the kind of text was "encode", now "query"; --variant was "int8", now "fp32". Start over' in error
    assert "--resume" in cli.fails(*args), "an unfinished output is not thrown away in silence"
    with (tmp_path / "in.txt").open("a") as stream:
        stream.write("one more\n")
    error = cli.fails(*args, "--resume")
    assert "the input has changed (" in error
    assert "bytes then" in error
    assert "--force" in error
    cli.ok(*args, "--force")
    assert np.load(tmp_path / "out.npy").shape == (41, 8)


def test_resume_of_a_finished_output_does_nothing(cli, lookup_bundle, tmp_path):
    args = ["embed", lookup_bundle, write_input(tmp_path, ".txt", TEXTS), "-o", tmp_path / "out.npy"]
    cli.ok(*args, "--resume")  # nothing to resume: an ordinary run
    before = (tmp_path / "out.npy").stat().st_mtime_ns
    assert "complete already" in cli.ok(*args, "--resume").stderr
    assert (tmp_path / "out.npy").stat().st_mtime_ns == before
    assert "exists" in cli.fails(*args, "--resume", "--precision", "int8")


def test_a_damaged_state_or_partial_file_is_told(cli, interrupted, tmp_path):
    args = interrupted(".npy")
    (tmp_path / "out.npy.part").write_bytes(b"")
    assert "start over with --force" in cli.fails(*args, "--resume")
    (tmp_path / "out.npy.part.json").write_text("{}")
    assert "start over with --force" in cli.fails(*args, "--resume")


def test_a_kill_between_the_renames_is_completed(cli, lookup_bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "embedrt.commands.outputs.OutputFiles.publish", lambda *_: (_ for _ in ()).throw(PowerCutError(""))
    )
    args = ["embed", lookup_bundle, write_input(tmp_path, ".txt", TEXTS), "-o", tmp_path / "out.parquet"]
    cli.fails(*args)
    monkeypatch.undo()
    assert not (tmp_path / "out.parquet").exists()
    cli.ok(*args, "--resume")
    assert pq.read_table(tmp_path / "out.parquet").num_rows == len(TEXTS)
    assert not list(tmp_path.glob("*.part*"))


def test_killed_by_sigkill_then_resumed(cli, lookup_bundle, tmp_path):
    """The texts come through a named pipe that the test holds open, so the kill hits a run in the middle."""
    lines = [f"{text}\n".encode() for text in many_texts(64)]
    (tmp_path / "in.txt").write_bytes(b"".join(lines))
    options = ["--block-size", "8", "--quiet"]
    cli.ok("embed", lookup_bundle, tmp_path / "in.txt", "-o", tmp_path / "whole.npy", *options)
    pipe, out, state = tmp_path / "pipe.txt", tmp_path / "out.npy", tmp_path / "out.npy.part.json"
    os.mkfifo(pipe)
    args = [sys.executable, "-m", "embedrt", "embed", str(lookup_bundle), str(pipe), "-o", str(out), *options]
    with subprocess.Popen(args) as child, open_pipe(pipe, child) as feed:
        feed.write(b"".join(lines[:40]))
        deadline = time.monotonic() + 60
        while not state.exists() and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert state.exists(), "no state was saved"
        child.send_signal(signal.SIGKILL)
        child.wait(60)
    assert child.returncode == -signal.SIGKILL
    assert not out.exists()
    done = json.loads(state.read_text())["rows_done"]
    assert 0 < done < 64

    with subprocess.Popen([*args, "--resume"]) as child, open_pipe(pipe, child) as feed:
        feed.write(b"".join(lines))
    assert child.returncode == 0
    assert out.read_bytes() == (tmp_path / "whole.npy").read_bytes()

    # the same, with a file that is not the one begun with
    state.write_text(json.dumps({**_state_of(tmp_path, done), "prefix_sha256": "0" * 64}))
    (tmp_path / "out.npy.part").write_bytes(out.read_bytes())
    out.unlink()
    with subprocess.Popen([*args, "--resume"], stderr=subprocess.PIPE, text=True) as child:
        with open_pipe(pipe, child) as feed:
            feed.write(b"".join(lines))
        assert f"the first {done} records of {pipe} are not those" in child.stderr.read()
    assert child.returncode == 1


def open_pipe(pipe: Path, child: subprocess.Popen) -> IO[bytes]:
    """The writing end, once the child reads; never waits for a child that is gone."""
    deadline = time.monotonic() + 60
    while child.poll() is None and time.monotonic() < deadline:
        try:
            descriptor = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # nobody reads yet
            time.sleep(0.01)
            continue
        os.set_blocking(descriptor, True)
        return open(descriptor, "wb", buffering=0)  # noqa: PTH123 (a descriptor, not a path)
    raise AssertionError(f"the child never read its input; exit code {child.poll()}")


def _state_of(folder: Path, rows: int) -> dict[str, object]:
    """A state of the run above, after `rows` rows."""
    key = json.loads((folder / "out.npy.meta.json").read_text())["key"]
    return {"key": key, "prefix_sha256": "", "rows_done": rows, "positions": {"out.npy.part": 128 + rows * 32}}
