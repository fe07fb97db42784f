"""The runtime stays lean: importing it brings in nothing heavy, and nothing that is optional."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from embedrt.executors.native import available_isas, load_library

HEAVY = (
    "torch",
    "transformers",
    "optimum",
    "onnx",
    "sentence_transformers",
    "embedrt_export",
    "huggingface_hub",
)
OPTIONAL = (
    "click", "rich", "matplotlib", "pyarrow", "psutil", "starlette", "uvicorn", "msgspec", "orjson", "lancedb",
    "qdrant_client", "psycopg", "sklearn", "umap",
)  # fmt: skip


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
    assert {"embedrt", "numpy"} <= loaded_by_embedder
    assert "tokenizers" not in loaded_by_embedder  # 10 MB: the native tokenizer is there
    assert not loaded_by_embedder & {"email", "zipfile"}  # importlib.metadata brings these: a tenth of the time


def test_onnx_runtime_is_loaded_only_where_it_runs_the_encoder(tiny_bundle: Path) -> None:
    if not any(available_isas(load_library()).values()):
        pytest.skip("the native executor runs nothing here")
    code = f"from embedrt import Embedder\nwith Embedder({str(tiny_bundle)!r}, {{}}) as m: m.encode('x')"
    native = loaded_after(code.format("variant='int8', executor='native'"))
    assert "onnxruntime" not in native
    assert "onnxruntime" in loaded_after(code.format("variant='fp32'"))


def test_import_embedrt_waits_for_nothing() -> None:
    assert not loaded_after("import embedrt") & {*HEAVY, *OPTIONAL, "numpy", "onnxruntime", "tokenizers"}


def test_help_of_the_command_line_waits_for_nothing() -> None:
    loaded = loaded_after(
        "from embedrt.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit as exit:\n    assert not exit.code"
    )
    assert not loaded & ({*HEAVY, *OPTIONAL, "numpy", "onnxruntime", "tokenizers"} - {"click"})


def test_onnx_runtime_reports_nothing(tiny_bundle: Path, tmp_path: Path) -> None:
    """Since 1.29 it keeps a device id and events in the home directory, and sends them, unless it is told not to."""
    code = f"from embedrt import Embedder\nEmbedder({str(tiny_bundle)!r}, executor='onnxruntime').encode('x')"
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.rglob("*")] == []
