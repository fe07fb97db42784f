"""Packages that do not fit are named with their ranges before any of them is imported."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata

import pytest

from embedrt import DependencyError
from embedrt_export import requirements
from embedrt_export.requirements import Misfit, check_installed, describe, find_misfits

DECLARED = [
    "numpy>=1.26",
    "torch>=2.4; extra == 'export'",
    "transformers<4.58,>=4.48; extra == 'export'",
    "optimum-onnx<0.2,>=0.1.0; extra == 'export'",
    "sentence-transformers<6,>=5.4; extra == 'export'",
    "pyarrow>=15; extra == 'parquet'",
    "tomli; python_version < '3' and extra == 'export'",
]
FITTING = {
    "numpy": "2.0", "torch": "2.13.0+cpu", "transformers": "4.57.6", "optimum-onnx": "0.1.0",
    "sentence-transformers": "5.7.0",
}  # fmt: skip
TOO_NEW = {"transformers": "5.24.0", "sentence-transformers": "6.1.0"}


@pytest.mark.parametrize(
    ("changes", "misfits"),
    [
        ({}, []),
        ({"torch": "2.14.0a0+git12ab"}, []),  # builds from before a release count
        ({"transformers": "5.0.0rc1"}, [("transformers", "<4.58,>=4.48", "5.0.0rc1")]),
        ({"sentence-transformers": "6.0.0"}, [("sentence-transformers", "<6,>=5.4", "6.0.0")]),
        ({"torch": None}, [("torch", ">=2.4", None)]),
        ({"optimum-onnx": None}, [("optimum-onnx", "<0.2,>=0.1.0", None)]),
        ({"numpy": None, "pyarrow": None}, []),  # not the exporter's
    ],
    ids=str,
)
def test_misfits(changes: dict[str, str | None], misfits: list[tuple[str, str, str | None]]) -> None:
    versions: Mapping[str, str | None] = {**FITTING, **changes}
    assert find_misfits(DECLARED, versions.get) == tuple(Misfit(*misfit) for misfit in misfits)


def test_the_line_says_which_versions_and_how_to_get_them() -> None:
    said = describe(find_misfits(DECLARED, {**FITTING, **TOO_NEW, "torch": None}.get))
    assert said.startswith(
        "this needs transformers<4.58,>=4.48 (installed: 5.24.0), sentence-transformers<6,>=5.4 (installed: 6.1.0), "
        "torch (not installed): pip install 'torch>=2.4' 'transformers<4.58,>=4.48' 'sentence-transformers<6,>=5.4'"
    )
    assert "\n" not in said
    assert describe([Misfit("torch", ">=2.4", None), Misfit("onnx", "", None)]) == (
        "this needs torch, onnx, not installed: pip install 'embedrt[export]'"
    )


def test_what_is_installed_here_fits() -> None:
    check_installed()
    assert any("transformers" in line for line in metadata.requires("embedrt") or ())  # else it checked nothing


def test_without_packaging_which_comes_with_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "packaging.requirements", None)
    with pytest.raises(DependencyError, match=r"pip install 'embedrt\[export\]'"):
        check_installed()


def test_sources_that_were_never_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: str) -> None:
        raise metadata.PackageNotFoundError

    monkeypatch.setattr(requirements.metadata, "requires", unknown)
    check_installed()


_IMPORTS = """
import importlib.metadata, sys
real = importlib.metadata.version
importlib.metadata.version = lambda name: {versions!r}.get(name) or real(name)
from embedrt.cli.app import app
from click.testing import CliRunner
result = CliRunner().invoke(app, ["export", "nobody/nothing", "out", "-q"], prog_name="embedrt")
print(result.exit_code, result.stderr)
print(sorted(name for name in ("torch", "transformers", "optimum", "sentence_transformers") if name in sys.modules))
"""


def test_the_command_line_says_so_before_it_imports_any_of_them(tmp_path: object) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _IMPORTS.format(versions=TOO_NEW)], capture_output=True, text=True, check=True
    )
    first, *rest = ran.stdout.strip().splitlines()
    assert first.startswith("1 error: this needs transformers")
    assert "(installed: 5.24.0), sentence-transformers" in first
    assert "pip install 'transformers" in first
    assert "bug" not in first
    assert rest[-1] == "[]"
