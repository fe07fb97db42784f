"""Other people's clients, unchanged, at pinned versions, each in a folder of its own.

A client is a table row: packages, and a short program that embeds TEXTS and QUERY as the client's users do and prints
one JSON object, {"documents": [vector, ...], "query": vector}, as its last line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

KEY = "secret"
TEXTS = ["the water", "light river stone", "안녕하세요", "a house of bread and paper", "🙂 café", "the water"]
QUERY = "is it stone?"
_UNREACHABLE = ("dns error", "Could not connect", "error sending request", "EAI_AGAIN", "ENOTFOUND", "ECONNREFUSED",
                "ETIMEDOUT", "Network is unreachable")  # fmt: skip


@dataclass(frozen=True)
class Client:
    """One client.

    Attributes:
        name: for the test's name.
        packages: with their versions.
        program: what its users write; URL, KEY, TEXTS and QUERY are variables of it.
        raw: whether it asks for vectors before the model's own L2 norm.
        decoded: whether it sends token ids of cl100k_base.
    """

    name: str
    packages: tuple[str, ...]
    program: str
    raw: bool = False
    decoded: bool = False


def install(command: Sequence[str | Path], folder: Path) -> None:
    """Run an installer; skip the test where its registry cannot be reached, fail it for any other reason."""
    done = subprocess.run([str(part) for part in command], cwd=folder, capture_output=True, text=True, timeout=600)
    if done.returncode and any(sign in done.stderr + done.stdout for sign in _UNREACHABLE):
        pytest.skip(f"{Path(command[0]).name} reaches no registry: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr


def install_python(folder: Path, packages: Sequence[str]) -> Path:
    """A virtual environment in `folder` with these packages; its interpreter."""
    uv = [sys.executable, "-m", "uv"]
    install([*uv, "venv", "--quiet", "--python", sys.executable, folder / "venv"], folder)
    python = folder / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    install([*uv, "pip", "install", "--quiet", "--python", python, *packages], folder)
    return python


def run(command: Sequence[str | Path], folder: Path, url: str, **environment: str) -> dict[str, Any]:
    """What the program prints, in a home of its own that says nothing about other services."""
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "JAVA_HOME") if name in os.environ}
    told = {"URL": url, "KEY": KEY, "TEXTS": json.dumps(TEXTS), "QUERY": QUERY, "HOME": str(folder)}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={**kept, **told, **environment},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def check(found: dict[str, Any], documents: np.ndarray, query: np.ndarray) -> None:
    """The vectors that the client got are these, bit for bit."""
    assert np.array_equal(np.array(found["documents"], np.float32), documents)
    assert np.array_equal(np.array(found["query"], np.float32), query)
