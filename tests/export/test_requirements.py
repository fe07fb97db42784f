"""Packages that do not fit are named with their ranges before any of them is imported."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from embedrt import DependencyError
from embedrt_export import requirements
from embedrt_export.requirements import (
    Misfit,
    check_installed,
    describe,
    find_misfits,
    find_outdated,
    installed_version,
)

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
DECLARED = [
    "numpy>=1.26",
    "torch>=2.4; extra == 'export'",
    "transformers>=4.48; extra == 'export'",
    "sentence-transformers>=5.4; extra == 'export'",
    "onnx<2,>=1.17; extra == 'export'",
    "pyarrow>=15; extra == 'parquet'",
    "tomli; python_version < '3' and extra == 'export'",
]
FITTING = {
    "numpy": "2.0", "torch": "2.13.0+cpu", "transformers": "5.24.0", "sentence-transformers": "6.2.0", "onnx": "1.23.2",
}  # fmt: skip
TOO_OLD = {"transformers": "4.47.1", "sentence-transformers": "3.4.0"}


@pytest.mark.parametrize(
    ("changes", "misfits"),
    [
        ({}, []),
        ({"torch": "2.14.0a0+git12ab"}, []),  # builds from before a release count
        ({"transformers": "4.48.0rc1"}, [("transformers", ">=4.48", "4.48.0rc1")]),
        ({"sentence-transformers": "5.3.0"}, [("sentence-transformers", ">=5.4", "5.3.0")]),
        ({"onnx": "2.0.0"}, [("onnx", "<2,>=1.17", "2.0.0")]),
        ({"torch": None}, [("torch", ">=2.4", None)]),
        ({"numpy": None, "pyarrow": None}, []),  # not the exporter's
    ],
    ids=str,
)
def test_misfits(changes: dict[str, str | None], misfits: list[tuple[str, str, str | None]]) -> None:
    versions: Mapping[str, str | None] = {**FITTING, **changes}
    assert find_misfits(DECLARED, versions.get) == tuple(Misfit(*misfit) for misfit in misfits)


def test_what_a_newer_version_saved() -> None:
    saved = {"transformers": "5.24.0", "sentence-transformers": "6.2.0", "torch": "whatever", "other": "1.0"}
    assert find_outdated(saved, FITTING.get) == ()
    outdated = find_outdated(saved, {**FITTING, "sentence-transformers": "5.7.0"}.get)
    assert outdated == (Misfit("sentence-transformers", ">=6.2.0", "5.7.0"),)


def test_the_line_says_which_versions_and_how_to_get_them() -> None:
    said = describe(find_misfits(DECLARED, {**FITTING, **TOO_OLD, "torch": None}.get))
    assert said.startswith(
        "this needs transformers>=4.48 (installed: 4.47.1), sentence-transformers>=5.4 (installed: 3.4.0), "
        "torch (not installed): pip install 'torch>=2.4' 'transformers>=4.48' 'sentence-transformers>=5.4'"
    )
    assert "\n" not in said
    assert describe([Misfit("torch", ">=2.4", None), Misfit("onnx", "", None)]) == (
        "this needs torch, onnx, not installed: pip install 'embedrt[export]'"
    )


@pytest.mark.skipif(not PYPROJECT.is_file(), reason="pyproject.toml is not beside these tests")
def test_both_ends_of_the_range_may_stay_as_they_are() -> None:
    """`pip install 'embedrt[export]'` beside them changes neither: what today's mteb is used with, and the oldest."""
    extra = tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"]["export"]
    wanted = {requirement.name: requirement.specifier for requirement in map(Requirement, extra)}
    for versions in (
        {"transformers": "5.24.0", "sentence-transformers": "6.2.0", "torch": "2.13.0"},
        {"transformers": "4.48.0", "sentence-transformers": "5.4.0", "torch": "2.4.0"},
    ):
        assert all(wanted[name].contains(version) for name, version in versions.items()), versions
    assert "optimum" not in " ".join(wanted)  # its last release wants transformers below 4.58


@pytest.mark.skipif(not PYPROJECT.is_file(), reason="pyproject.toml is not beside these tests")
def test_pip_changes_nothing_where_sentence_transformers_6_and_mteb_are_installed() -> None:
    """Asked of pip's resolver with what this environment holds, and without an index, so that it could only fail."""
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["export"]]
    beside = [name for name in ("mteb", "sentence-transformers") if installed_version(name)]
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "--quiet", "--report", "-"]
    ran = subprocess.run([*command, *wanted, *beside], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["install"] == []


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
        [sys.executable, "-c", _IMPORTS.format(versions=TOO_OLD)], capture_output=True, text=True, check=True
    )
    first, *rest = ran.stdout.strip().splitlines()
    assert first.startswith("1 error: this needs transformers")
    assert "(installed: 4.47.1), sentence-transformers" in first
    assert "pip install 'transformers" in first
    assert "bug" not in first
    assert rest[-1] == "[]"
