"""Build what is published: embedrt's wheel and sdist, and the two versions of embedrt-onnxruntime.

    python .ci/release.py dist

A checkout depends on onnxruntime itself, so that `pip install .` needs nothing but PyPI. What is published depends
on embedrt-onnxruntime instead: one name, of which only one version can be installed, 2.x for CPUs and 1.x for GPUs.
docs/packaging.md has the reasons and what pip and uv make of it. Needs hatchling, scikit-build-core, cmake, a C++
compiler, and on Linux auditwheel and patchelf; no network, no build isolation.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHOICE = "embedrt-onnxruntime"
CHOICE_VERSIONS = {"2.0.0": "onnxruntime", "1.0.0": "onnxruntime-gpu"}  # the highest is what resolvers prefer
EXTRA_IN_CHECKOUT = 'gpu = ["onnxruntime<0"]'
EXTRA_IN_RELEASE = f'gpu = ["{CHOICE}>=1,<2"]'
_SKIP_ANYWHERE = shutil.ignore_patterns(".*", "__pycache__")
_SKIP_AT_ROOT = {"dist", "build", "bench"}  # embedrt has a package called bench

_CHOICE_PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{name}"
version = "{version}"
description = "Makes embedrt run on {wheel}: 2.x is for CPUs, 1.x for CUDA GPUs. Holds no code."
readme = "README.md"
requires-python = "{python}"
license = "Apache-2.0"
dependencies = ["{requirement}"]

[tool.hatch.build.targets.wheel]
bypass-selection = true
"""

_CHOICE_README = """\
# embedrt-onnxruntime

The wheels of onnxruntime and onnxruntime-gpu own the same folder, so only one of them may be installed. This
package has no code, only one dependency: version 2.x depends on onnxruntime, version 1.x on onnxruntime-gpu.
`pip install embedrt` takes 2.x, `pip install 'embedrt[gpu]'` asks for 1.x, and never can both be there.
"""


def release_pyproject(text: str) -> str:
    """The checkout's pyproject.toml as it is published.

    Raises:
        ValueError: a line to be replaced is not there exactly once.
    """
    for old, new in ((f'"{onnxruntime_requirement(text)}"', f'"{CHOICE}>=1"'), (EXTRA_IN_CHECKOUT, EXTRA_IN_RELEASE)):
        if text.count(old) != 1:
            raise ValueError(f"pyproject.toml must hold {old} exactly once, it does {text.count(old)} times")
        text = text.replace(old, new)
    return text


def onnxruntime_requirement(text: str) -> str:
    """The checkout's base requirement on onnxruntime, e.g. "onnxruntime>=1.22"."""
    (found,) = (r for r in tomllib.loads(text)["project"]["dependencies"] if r.startswith("onnxruntime"))
    return str(found)


def build(target: Path, *, native: bool = True) -> None:
    """Build every file of a release into `target`; without `native` the wheel holds no compiled module."""
    target = target.absolute()
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch) / "embedrt"
        write_tree(tree)
        build_embedrt(tree, target, native=native)
    build_choices(target)


def write_tree(tree: Path) -> None:
    """The sources with the metadata of a release, to be built elsewhere."""
    shutil.copytree(ROOT, tree, ignore=_skipped)
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (tree / "pyproject.toml").write_text(release_pyproject(text), encoding="utf-8")


def _skipped(folder: str, names: list[str]) -> set[str]:
    return _SKIP_ANYWHERE(folder, names) | (_SKIP_AT_ROOT if Path(folder) == ROOT else set())


def build_choices(target: Path) -> None:
    """Both versions of embedrt-onnxruntime."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as scratch:
        for version in CHOICE_VERSIONS:
            _hatchling(_write_choice(Path(scratch) / f"choice-{version}", version, text), target.absolute())


def _write_choice(folder: Path, version: str, text: str) -> Path:
    folder.mkdir()
    wheel = CHOICE_VERSIONS[version]
    filled = _CHOICE_PYPROJECT.format(
        name=CHOICE,
        version=version,
        wheel=wheel,
        python=tomllib.loads(text)["project"]["requires-python"],
        requirement=onnxruntime_requirement(text).replace("onnxruntime", wheel),
    )
    (folder / "pyproject.toml").write_text(filled, encoding="utf-8")
    (folder / "README.md").write_text(_CHOICE_README, encoding="utf-8")
    return folder


def build_embedrt(tree: Path, target: Path, *, native: bool, sdist: bool = True) -> None:
    """Wheel and sdist of the checkout at `tree`. A compiler that fails is an error here."""
    settings = {} if native else {"wheel.cmake": "false", "wheel.exclude": "**/_native.so*"}
    program = f"import scikit_build_core.build as b; b.build_wheel({str(target)!r}, {settings!r})"
    if sdist:
        program += f"; b.build_sdist({str(target)!r})"
    subprocess.run([sys.executable, "-c", program], cwd=tree, check=True)
    wheel = next(target.glob("embedrt-*.whl"))
    if native and wheel.name.endswith("-none-any.whl"):
        raise RuntimeError("the native module was not built; pip install -v . shows the compiler's error")
    if native and sys.platform == "linux":
        _to_manylinux(wheel)


def _to_manylinux(wheel: Path) -> None:
    """Replace a wheel by one with the tag of the oldest glibc that it loads with; an index refuses `linux_*`."""
    repair = [sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", str(wheel.parent), str(wheel)]
    tools = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])  # patchelf
    subprocess.run(repair, env={**os.environ, "PATH": tools}, check=True)
    wheel.unlink()


def _hatchling(folder: Path, target: Path) -> None:
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", str(target)], cwd=folder, check=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Build what is published.")
    parser.add_argument("target", type=Path, help="folder for the files")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--plain", action="store_true", help="without the native module: a wheel for every platform")
    only.add_argument("--tree", action="store_true", help="only the sources as they are published, for cibuildwheel")
    only.add_argument("--choices", action="store_true", help="only both versions of embedrt-onnxruntime")
    given = parser.parse_args()
    if given.tree:
        write_tree(given.target)
    elif given.choices:
        build_choices(given.target)
    else:
        build(given.target, native=not given.plain)
        (wheel,) = given.target.glob("embedrt-*.whl")
        print(f"To try it before embedrt-onnxruntime is published: pip install --find-links {wheel.parent} {wheel}")


if __name__ == "__main__":
    main()
