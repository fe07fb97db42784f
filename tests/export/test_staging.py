"""Where a bundle may be put: asked before any work, and nothing is left behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from embedrt import ExportError, open_bundle
from embedrt_export.staging import publish, resolve_out
from tests.export.exporting import export
from tests.export.test_failures import UNSHARE

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")


def _replace(source: Path, out: Path) -> None:
    """Export the model beside bundle `source` to `out`, pooled otherwise than the bundle is."""
    export(source.parent / "model", out, pooling="cls", force=True)


def test_a_link_to_a_bundle_stays_and_the_bundle_is_replaced(make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    source = make_bundle("bert")
    shutil.copytree(source, tmp_path / "releases" / "1")
    link = tmp_path / "current"
    link.symlink_to("releases/1")
    _replace(source, link)
    assert link.readlink() == Path("releases/1")
    assert open_bundle(link).manifest.pipeline.pooling == ("cls",)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["current", "releases"]
    assert [path.name for path in (tmp_path / "releases").iterdir()] == ["1"]


def test_a_link_to_nothing_is_where_the_bundle_will_be(make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to("releases/1")
    _replace(make_bundle("bert"), tmp_path / "current")
    assert open_bundle(tmp_path / "releases" / "1").manifest.pipeline.pooling == ("cls",)
    assert [path.name for path in (tmp_path / "releases").iterdir()] == ["1"]


def test_places_that_cannot_be_written_are_found_before_the_model_is(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "file").write_text("x")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "manifest.json").write_text("{}")
    (tmp_path / "link").symlink_to("kept")
    refused = {
        "a": "cannot be resolved",
        "file": "is not a bundle",
        "file/bundle": r"cannot write in .*file",
        "link": rf"link \({tmp_path}/kept\) exists already",
    }
    for name, message in refused.items():
        with pytest.raises(ExportError, match=message):
            export("nobody/nothing", tmp_path / name, force=name != "link")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    (tmp_path / "read-only").mkdir(mode=0o555)
    with pytest.raises(ExportError, match=r"cannot write in .*read-only"):
        resolve_out(tmp_path / "read-only" / "deep" / "bundle", replace=False)


_MOUNTS = """
import pathlib, subprocess, sys
from embedrt import ExportError
from embedrt_export.staging import resolve_out
folder = pathlib.Path(sys.argv[1])
for name, mount in {"tmpfs": ["-t", "tmpfs", "none"], "bind of this disk": ["--bind", str(folder / "else")]}.items():
    place = folder / name
    place.mkdir()
    subprocess.run(["mount", *mount, str(place)], check=True)
    try:
        resolve_out(place, replace=True)
    except ExportError as exc:
        print(exc)
    assert resolve_out(place / "bundle", replace=True) == place / "bundle"
"""


def test_mount_points_are_refused_and_folders_in_them_are_not(tmp_path: Path) -> None:
    if shutil.which("unshare") is None or subprocess.run([*UNSHARE, "true"], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a file system")
    (tmp_path / "else").mkdir()
    ran = subprocess.run(
        [*UNSHARE, sys.executable, "-W", "ignore", "-c", _MOUNTS, str(tmp_path)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ran.stdout.splitlines() == [
        f"{place} is a mount point, which cannot be replaced; choose a folder in it: {place}/NAME"
        for place in (tmp_path / "tmpfs", tmp_path / "bind of this disk")
    ]


@pytest.mark.parametrize("failing", ["the old one", "the new one"])
def test_a_rename_that_fails_leaves_the_old_bundle_and_nothing_else(
    make_bundle: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    source = make_bundle("bert")
    new, out = tmp_path / "new", tmp_path / "out"
    shutil.copytree(source, new)
    shutil.copytree(source, out)

    def busy(*_: Any) -> None:
        raise OSError(16, "Device or resource busy")

    with monkeypatch.context() as patch:
        if failing == "the new one":
            patch.setattr(Path, "rename", busy)
        else:
            patch.setattr(Path, "replace", busy)
        with pytest.raises(OSError, match="busy"):
            publish(new, out)
    assert open_bundle(out).manifest.name == open_bundle(source).manifest.name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "out"]
