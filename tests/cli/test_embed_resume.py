"""`embedrt embed`, interrupted and resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow.parquet as pq
import pytest

from embedrt.embedder import Embedder
from embedrt.errors import ExecutorError
from tests.cli.embedding import TEXTS, many_texts, write_input


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
    error = cli.fails(*args, "--resume", "--precision", "int8")
    assert 'exists and is complete, but --precision was "float32", now "int8". Replace it with --force' in error
    with (tmp_path / "in.txt").open("a") as stream:
        stream.write("one more\n")
    assert "exists and is complete, but the input has changed (55 bytes then, 64 bytes now)" in cli.fails(
        *args, "--resume"
    )
    cli.ok(*args, "--resume", "--force")
    assert np.load(tmp_path / "out.npy").shape == (len(TEXTS) + 1, 8)


@pytest.mark.parametrize("suffix", [".npy", ".jsonl", ".parquet"])
def test_a_full_disk_names_the_file_and_the_way_on(lookup_bundle, tmp_path, suffix):
    """A limit on the size of files stands for the disk's end; the system refuses in the same calls."""
    source, out = tmp_path / "in.txt", tmp_path / f"out{suffix}"
    source.write_text("".join(f"{text}\n" for text in many_texts(2000)))
    args = [sys.executable, "-m", "embedrt", "embed", str(lookup_bundle), str(source), "-q", "--block-size", "8", "-o"]
    whole = tmp_path / f"whole{suffix}"
    subprocess.run([*args, str(whole)], check=True)
    limit = whole.stat().st_size * 3 // 4
    command = [*args, str(out)]
    code = (
        "import resource, signal, sys, embedrt.commands.embed as e; from embedrt.cli import main; e._SAVE_SECONDS = 0\n"
    )
    code += f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); sys.exit(main({command[3:]!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {out}.part")
    assert "File too large; finished rows are kept: once this is mended, go on with --resume" in done.stderr
    assert not out.exists()
    resumed = subprocess.run([*command, "--resume"], capture_output=True, text=True)
    assert resumed.returncode == 0, resumed.stderr
    assert out.read_bytes() == whole.read_bytes()
    assert not list(tmp_path.glob("*.part*"))


def test_a_full_disk_under_stdout_is_told(lookup_bundle, tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    (tmp_path / "in.txt").write_text("water\n" * 3000)
    args = [sys.executable, "-m", "embedrt", "embed", str(lookup_bundle), str(tmp_path / "in.txt"), "-o", "-", "-q"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(args, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == "error: stdout: No space left on device\n"


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
