"""Who may have written what is read: modes and owners by numbers, links and folders on the disk."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from embedrt import Embedder
from embedrt.errors import OptionError
from embedrt.executors.native import available_isas, load_library
from embedrt.executors.trust import (
    UntrustedError,
    UntrustedFolderError,
    create_new,
    distrust,
    open_or_create,
    open_trusted,
    trusted_folder,
)

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="this system has no owners of files")


@pytest.mark.parametrize(
    ("mode", "owner", "says"),
    [
        (0o755, 1000, None),
        (0o700, 1000, None),
        (0o755, 0, None),
        (0o755, 1001, "belongs to user 1001, not to 1000 or root"),
        (0o775, 1000, "others may write to it (mode 0775)"),
        (0o757, 1000, "others may write to it (mode 0757)"),
        (0o1777, 0, "others may write to it (mode 1777)"),  # /tmp: the sticky bit keeps files from being moved, only
    ],
)
def test_who_is_trusted(mode: int, owner: int, says: str | None) -> None:
    found = distrust(stat.S_IFDIR | mode, owner, 1000)
    assert found is None if says is None else says in str(found)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "packed"
    path.mkdir(mode=0o755)
    return path


def test_a_lock_behind_a_link_truncates_nobody(folder: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("kept")
    (folder / "x.lock").symlink_to(victim)
    with trusted_folder(folder) as opened, pytest.raises(OSError):
        open_or_create(opened, "x.lock")
    assert victim.read_text() == "kept"


def test_what_a_lock_holds_stays(folder: Path) -> None:
    (folder / "x.lock").write_text("kept")
    with trusted_folder(folder) as opened, open_or_create(opened, "x.lock"):
        pass
    assert (folder / "x.lock").read_text() == "kept"


def test_links_pipes_and_files_of_others_are_not_read(folder: Path) -> None:
    (folder / "real").write_bytes(b"x")
    (folder / "link").symlink_to(folder / "real")
    (folder / "open").write_bytes(b"x")
    (folder / "open").chmod(0o666)
    os.mkfifo(folder / "pipe")
    with trusted_folder(folder) as opened:
        with open_trusted(opened, "real") as stream:
            assert stream.read() == b"x"
        with pytest.raises(OSError):
            open_trusted(opened, "link")
        with pytest.raises(UntrustedError, match="others may write"):
            open_trusted(opened, "open")
        with pytest.raises(UntrustedError, match="no regular file"):
            open_trusted(opened, "pipe")
        with pytest.raises(FileExistsError):
            create_new(opened, "link")


def test_a_folder_of_everybody_is_refused(folder: Path) -> None:
    folder.chmod(0o777)
    with pytest.raises(UntrustedFolderError, match="is not trusted: others may write to it"), trusted_folder(folder):
        pass


def test_a_folder_that_is_named_is_refused_loudly_and_the_bundles_own_in_the_reason(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    if not any(available_isas(load_library()).values()):
        pytest.skip("the native executor runs nothing here")
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(OptionError, match=r"packed_cache: .*shared is not trusted: others may write to it.*chmod go-w"):
        Embedder(tiny_bundle, variant="int8", executor="native", packed_cache=shared)
    assert list(shared.iterdir()) == []
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle", ignore=shutil.ignore_patterns(".packed"))
    (bundle / ".packed").mkdir()
    (bundle / ".packed").chmod(0o777)
    with Embedder(bundle, variant="int8", executor="native", packed_cache=True) as embedder:
        assert "packed at every load" in embedder.executor_reason
        assert "others may write to it" in embedder.executor_reason
