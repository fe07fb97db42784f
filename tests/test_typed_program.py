"""What a user's type checker sees: the program below is checked by mypy, and by pyright where that is installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import numpy as np
from numpy.typing import NDArray
from typing import assert_type

from embedrt import Embedder

model = Embedder("bundle", variant="int8", device="cpu", executor="auto", max_tokens=64)
assert_type(model.encode("text"), np.ndarray[tuple[int], np.dtype[np.float32]])
assert_type(model.encode(["text"]), np.ndarray[tuple[int, int], np.dtype[np.float32]])
assert_type(model.encode(("a", "b")), np.ndarray[tuple[int, int], np.dtype[np.float32]])
assert_type(model.encode_query("text", task="Find it"), np.ndarray[tuple[int], np.dtype[np.float32]])
assert_type(model.encode_document(["text"], batch_size=8), np.ndarray[tuple[int, int], np.dtype[np.float32]])
assert_type(model.encode(["text"], precision="int8"), NDArray[np.int8])
assert_type(model.encode(["text"], precision="ubinary"), NDArray[np.uint8])
assert_type(
    model.encode(["text"], output_value="token_embeddings"), list[np.ndarray[tuple[int, int], np.dtype[np.float32]]]
)
assert_type(model.count_tokens("text"), int)
assert_type(model.count_tokens(["text"]), list[int])
assert_type(model.with_options(truncate_dim=64), Embedder)
for block in model.encode_stream(line.strip() for line in open("texts.txt")):
    print(block.embeddings.shape)
"""
WRONG = ('Embedder("bundle", variant="int7")', 'Embedder("bundle").encode("a", precision="int4")', "Embedder()")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("program")
    (folder / "right.py").write_text(PROGRAM)
    (folder / "wrong.py").write_text("from embedrt import Embedder\n\n" + "\n".join(WRONG) + "\n")
    return folder


def check(tool: list[str], folder: Path, name: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*tool, str(folder / name)], capture_output=True, text=True, cwd=folder)


def test_mypy(folder: Path) -> None:
    pytest.importorskip("mypy")
    config = folder / "mypy.ini"
    sources = Path(__file__).resolve().parents[1] / "engine"
    config.write_text(f"[mypy]\nstrict = true\nmypy_path = {sources}\ncache_dir = {folder / 'cache'}\n")
    tool = [sys.executable, "-m", "mypy", "--config-file", str(config)]
    right = check(tool, folder, "right.py")
    assert right.returncode == 0, right.stdout
    wrong = check(tool, folder, "wrong.py")
    lines = {int(line.split(":")[1]) for line in wrong.stdout.splitlines() if "wrong.py" in line and " error: " in line}
    assert lines == {3, 4, 5}, wrong.stdout


def test_pyright(folder: Path) -> None:
    pyright = shutil.which("pyright")
    if pyright is None:
        pytest.skip("pyright is not installed")
    right = check([pyright, "--pythonpath", sys.executable], folder, "right.py")
    assert right.returncode == 0, right.stdout
    assert check([pyright, "--pythonpath", sys.executable], folder, "wrong.py").stdout.count(" error: ") == len(WRONG)
