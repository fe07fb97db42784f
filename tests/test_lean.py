"""The runtime stays lean: importing it brings in nothing heavy, and nothing that is optional."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "optimum", "onnx", "sentence_transformers", "embedrt_export")
OPTIONAL = ("click", "rich", "matplotlib", "pyarrow", "psutil", "starlette", "uvicorn", "msgspec", "orjson")


def loaded_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after running `code`."""
    code += "\nimport sys\nprint(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


@pytest.fixture(scope="module")
def loaded_by_embedder() -> set[str]:
    return loaded_after("from embedrt import Embedder")


@pytest.mark.parametrize("name", [*HEAVY, *OPTIONAL])
def test_the_engine_does_not_load(name: str, loaded_by_embedder: set[str]) -> None:
    assert name not in loaded_by_embedder


def test_the_engine_loads_what_it_needs(loaded_by_embedder: set[str]) -> None:
    assert {"embedrt", "numpy", "onnxruntime", "tokenizers"} <= loaded_by_embedder


def test_import_embedrt_waits_for_nothing() -> None:
    assert not loaded_after("import embedrt") & {*HEAVY, *OPTIONAL, "numpy", "onnxruntime", "tokenizers"}


def test_help_of_the_command_line_waits_for_nothing() -> None:
    loaded = loaded_after(
        "from embedrt.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit as exit:\n    assert not exit.code"
    )
    assert not loaded & {*HEAVY, "matplotlib", "pyarrow", "psutil", "numpy", "onnxruntime", "tokenizers", "rich"}
