"""Failures as a user meets them: one line on stderr, exit code 1, nothing half-written."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from embedrt.cli.app import app
from tests import tiny

# Mounts a small file system over FOLDER, exports into it, and says what came of it and what is left there.
FULL_DISK = """
import json, os, subprocess, sys
from click.testing import CliRunner
from embedrt.cli.app import app
model, folder, *sizes = sys.argv[1:]
for size in sizes:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], check=True)
    args = ["export", model, f"{folder}/out", "--variants", "fp32,int8", "-q"]
    result = CliRunner().invoke(app, args, prog_name="embedrt")
    print(json.dumps([result.exit_code, result.stderr, os.listdir(folder)]))
    subprocess.run(["umount", folder], check=True)
"""
UNSHARE = ["unshare", "--map-root-user", "--mount"]


def export(*args: object) -> tuple[int, str]:
    """Exit code and stderr of `embedrt export ARGS -q`."""
    command = ["export", *map(str, args), "--variants", "fp32", "-q"]
    result = CliRunner().invoke(app, command, prog_name="embedrt")
    return result.exit_code, result.stderr


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda model: _cut(model / "model.safetensors"), "is truncated: it has"),
        (lambda model: (model / "model.safetensors").unlink(), "holds no weights"),
        (lambda model: (model / "config.json").unlink(), "config.json is missing"),
        (lambda model: (model / "1_Pooling" / "config.json").unlink(), "Pooling"),
        (lambda model: (model / "tokenizer.json").write_text("{"), "tokenizer"),
    ],
    ids=["truncated", "no weights", "no config", "no pooling", "broken tokenizer"],
)
def test_damaged_models(tmp_path: Path, damage: Callable[[Path], object], message: str) -> None:
    model = tiny.save_pipeline(tmp_path / "m")
    damage(model)
    code, stderr = export(model, tmp_path / "out")
    assert (code, stderr.count("\n")) == (1, 1), stderr
    assert stderr.startswith("error: ")
    assert message in stderr
    assert "bug" not in stderr
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_an_output_that_exists_is_left_as_it_is(tmp_path: Path) -> None:
    model = tiny.save_pipeline(tmp_path / "m")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.json").write_text("{}")
    code, stderr = export(model, tmp_path / "out")
    assert (code, stderr) == (1, f"error: {tmp_path / 'out'} exists already; --force replaces it\n")
    assert (tmp_path / "out" / "manifest.json").read_text() == "{}"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m", "out"]


@pytest.mark.slow  # three exports; test_export.py has the quick one
def test_a_disk_that_fills_up_at_any_step(tmp_path: Path) -> None:
    """Real file systems, so small that they are full while parity files, the graph, or int8 is written."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if shutil.which("unshare") is None or subprocess.run([*UNSHARE, "true"], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a small file system")
    model = tiny.save_pipeline(tmp_path / "m")
    sizes = ["16k", "300k", "700k"]
    ran = subprocess.run(
        [*UNSHARE, sys.executable, "-W", "ignore", "-c", FULL_DISK, str(model), str(folder), *sizes],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    results = [json.loads(line) for line in ran.stdout.splitlines()]
    assert len(results) == len(sizes)
    for size, (code, stderr, left) in zip(sizes, results, strict=True):
        assert code == 1, size
        assert stderr.startswith(f"error: no space left for {folder}/out ("), size
        assert stderr.count("\n") == 1, size
        assert left == [], size
