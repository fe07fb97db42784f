"""What is published, and what pip and uv make of it, offline: every dependency is an empty wheel."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from email import message_from_string
from pathlib import Path, PurePosixPath
from types import ModuleType

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import embedrt
from embedrt.executors.library import _find_library
from tests.scripts import module_at

ROOT = Path(__file__).parent.parent
ONNXRUNTIMES = {"onnxruntime", "onnxruntime-gpu"}
RELEASE = ROOT / ".ci" / "release.py"
pytestmark = pytest.mark.skipif(not RELEASE.is_file(), reason=".ci/release.py is not part of an sdist")


OLDEST_GLIBC = (2, 17)  # manylinux2014
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="glibc is Linux's")


def newest_glibc(library: Path) -> tuple[int, ...]:
    """The newest version of glibc that a function of the library is asked for."""
    with library.open("rb") as stream:
        needed = ELFFile(stream).get_section_by_name(".gnu.version_r")
        names = [version.name for _file, versions in needed.iter_versions() for version in versions]
    return max(tuple(map(int, name[6:].split("."))) for name in names if name.startswith("GLIBC_"))


def write_wheel(folder: Path, name: str, version: str) -> None:
    """A wheel without code or dependencies."""
    stem = f"{name.replace('-', '_')}-{version}"
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{stem}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr(f"{stem}.dist-info/WHEEL", tags)
        wheel.writestr(f"{stem}.dist-info/RECORD", "")


def requirements(wheel: Path) -> list[Requirement]:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = message_from_string(archive.read(name).decode())
    return [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]


def needed(wheel: Path, extra: str = "") -> set[str]:
    """Requirements that hold with `extra`, or without any."""
    return {
        canonicalize_name(r.name) + str(r.specifier)
        for r in requirements(wheel)
        if r.marker is None or r.marker.evaluate({"extra": extra})
    }


@pytest.fixture(scope="module")
def release() -> ModuleType:
    return module_at(RELEASE)


@pytest.fixture(scope="module")
def dist(release: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release, and an empty wheel of everything that it depends on."""
    folder = tmp_path_factory.mktemp("dist")
    release.build(folder, native=False)
    for requirement in [r for wheel in folder.glob("*.whl") for r in requirements(wheel)]:
        if requirement.name != release.CHOICE:
            (lowest,) = (s.version for s in requirement.specifier if s.operator in (">=", "=="))
            write_wheel(folder, canonicalize_name(requirement.name), lowest)
    return folder


@pytest.fixture(scope="module")
def checkout(release: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that `pip install .` makes where there is no compiler."""
    folder = tmp_path_factory.mktemp("checkout")
    release.build_embedrt(ROOT, folder, native=False, sdist=False)
    (wheel,) = folder.glob("*.whl")
    return wheel


def with_pip(dist: Path, requirement: str) -> dict[str, str]:
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--isolated"]
    command += ["--no-index", "--find-links", str(dist), "--report", "-", requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {item["metadata"]["name"]: item["metadata"]["version"] for item in json.loads(done.stdout)["install"]}


def with_uv(dist: Path, requirement: str) -> dict[str, str]:
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-config", "--no-annotate", "--no-header"]
    command += ["--no-index", "--find-links", str(dist), "--no-cache", "-"]
    done = subprocess.run(command, input=requirement, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(re.findall(r"^([\w.-]+)(?:\[.*\])?==(\S+)$", done.stdout, re.MULTILINE))


@pytest.mark.parametrize("resolve", [with_pip, with_uv])
@pytest.mark.parametrize(
    ("requirement", "wheel"),
    [
        ("embedrt", "onnxruntime"),
        ("embedrt[gpu]", "onnxruntime-gpu"),
        ("embedrt[export,plot]", "onnxruntime"),
        ("embedrt[gpu,export,parquet]", "onnxruntime-gpu"),
        (f"embedrt[gpu]=={embedrt.__version__}", "onnxruntime-gpu"),
    ],
)
def test_resolvers_choose_exactly_one_onnxruntime(dist: Path, resolve, requirement: str, wheel: str) -> None:
    chosen = resolve(dist, requirement)
    assert chosen["embedrt"] == embedrt.__version__
    assert ONNXRUNTIMES & set(chosen) == {wheel}


def test_release_leaves_the_choice_to_one_distribution_of_two_versions(dist: Path) -> None:
    (wheel,) = dist.glob("embedrt-*.whl")
    assert "embedrt-onnxruntime>=1" in needed(wheel)
    assert not any(r.startswith("onnxruntime") for r in needed(wheel) | needed(wheel, "gpu"))
    (extra,) = needed(wheel, "gpu") - needed(wheel)
    fitting = [version for version in ("1.0.0", "2.0.0") if version in Requirement(extra).specifier]
    assert fitting == ["1.0.0"]
    (cpu,) = needed(dist / "embedrt_onnxruntime-2.0.0-py3-none-any.whl")
    (gpu,) = needed(dist / "embedrt_onnxruntime-1.0.0-py3-none-any.whl")
    assert Requirement(cpu).name == "onnxruntime"
    assert Requirement(gpu).name == "onnxruntime-gpu"
    assert Requirement(cpu).specifier == Requirement(gpu).specifier


def test_checkout_depends_on_onnxruntime_itself(checkout: Path) -> None:
    names = {Requirement(r).name for r in needed(checkout)}
    assert names == {"numpy", "tokenizers", "onnxruntime", "click", "rich"}


def test_checkout_refuses_gpu_rather_than_install_both(checkout: Path) -> None:
    both = [Requirement(r).specifier for r in needed(checkout, "gpu") if Requirement(r).name == "onnxruntime"]
    assert len(both) == 2
    assert not any(version in both[0] and version in both[1] for version in ("0.9", "1.21", "1.22", "1.32.0", "2.0"))


def test_a_release_holds_every_file_of_both_packages(dist: Path) -> None:
    files = {
        path.relative_to(ROOT / folder).as_posix()
        for folder in ("engine", "export")
        for path in (ROOT / folder).glob("embedrt*/**/*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith("_native.so")
    }
    assert "embedrt/commands/bench/run.py" in files
    (wheel,) = dist.glob("embedrt-0*.whl")
    assert files <= set(zipfile.ZipFile(wheel).namelist())
    (sdist,) = dist.glob("embedrt-0*.tar.gz")
    with tarfile.open(sdist) as archive:
        inside = {PurePosixPath(*PurePosixPath(name).parts[2:]).as_posix() for name in archive.getnames()}
    assert files <= inside


def test_wheel_holds_both_packages_and_the_type_marker(checkout: Path) -> None:
    names = zipfile.ZipFile(checkout).namelist()
    assert {"embedrt/__init__.py", "embedrt/py.typed", "embedrt_export/__init__.py"} <= set(names)
    assert not [n for n in names if n.startswith(("tests/", "bench/")) or "__pycache__" in n]


def test_without_a_compiler_the_wheel_is_made_without_the_native_module(tmp_path: Path) -> None:
    """As pip builds it, with a C++ compiler that fails."""
    program = "import scikit_build_core.build as b, sys; b.build_wheel(sys.argv[1], {'build-dir': sys.argv[2]})"
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "dist"), str(tmp_path / "build")],
        cwd=ROOT, env={**os.environ, "CXX": "/bin/false"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "installed without the native executor" in done.stdout + done.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert not [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".so")]


@pytest.fixture(scope="module")
def native_wheel(release: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that is published for this platform."""
    folder = tmp_path_factory.mktemp("native")
    release.build_embedrt(ROOT, folder, native=True, sdist=False)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.mark.slow
def test_with_a_compiler_the_wheel_holds_the_native_module(native_wheel: Path) -> None:
    assert "embedrt/executors/_native.so" in zipfile.ZipFile(native_wheel).namelist()


@linux_only
@pytest.mark.slow
def test_an_index_takes_the_wheel_and_old_distributions_load_it(native_wheel: Path, tmp_path: Path) -> None:
    assert "manylinux2014" in native_wheel.name
    with zipfile.ZipFile(native_wheel) as archive:
        library = archive.extract("embedrt/executors/_native.so", tmp_path)
    assert newest_glibc(Path(library)) <= OLDEST_GLIBC


@linux_only
def test_the_module_that_is_tested_loads_on_old_distributions() -> None:
    """Sanitizers and emulation are for this machine alone."""
    if "EMBEDRT_TEST_LIBRARY" in os.environ:
        pytest.skip("another build of the module is tested")
    assert newest_glibc(_find_library()) <= OLDEST_GLIBC


@linux_only
@pytest.mark.slow
def test_the_wheel_runs_natively_where_there_is_no_compiler(
    native_wheel: Path, tmp_path: Path, tiny_bundle: Path
) -> None:
    """In a new environment, with its dependencies from this one and nothing on the path."""
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    site = sysconfig.get_paths(vars={"base": str(tmp_path / "venv"), "platbase": str(tmp_path / "venv")})["purelib"]
    install = [sys.executable, "-m", "pip", "--quiet", "install", "--no-deps", "--target", site, str(native_wheel)]
    subprocess.run(install, check=True)
    program = (
        f"import sys; sys.path.append({str(Path(np.__file__).parent.parent)!r})\n"
        "import embedrt\n"
        f"with embedrt.Embedder({str(tiny_bundle)!r}, variant='int8', executor='native') as one:\n"
        "    print(embedrt.__file__, one.encode('a').shape)\n"
    )
    done = subprocess.run([python, "-I", "-c", program], env={"PATH": ""}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert str(tmp_path) in done.stdout


def test_heavy_packages_are_extras_only(dist: Path) -> None:
    (wheel,) = dist.glob("embedrt-*.whl")
    heavy = {"torch", "transformers", "sentence-transformers", "onnx"}
    assert heavy <= {Requirement(r).name for r in needed(wheel, "export")}
    assert not heavy & {Requirement(r).name for r in needed(wheel)}


def test_release_refuses_a_pyproject_that_it_does_not_know(release: ModuleType) -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="exactly once"):
        release.release_pyproject(text.replace("onnxruntime<0", "onnxruntime-gpu"))


def test_constraints_pin_torch_by_version_only() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert "torch==2.13.0" in pins
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.!]+", pin) for pin in pins), "names and versions, nothing else"
