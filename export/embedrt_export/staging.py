"""An output that appears whole or not at all: made in a hidden directory beside it, and renamed."""

from __future__ import annotations

import errno
import glob
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from embedrt import locks
from embedrt.bundle import MANIFEST_NAME, read_bundle
from embedrt.errors import ExportError
from embedrt_export.source import free_bytes


def resolve_out(out: Path, *, replace: bool) -> Path:
    """Where the bundle will lie: `out` with its symbolic links followed, checked before any work.

    The bundle is renamed into place, so the place must be one that can be renamed, in a directory that can be written.

    Raises:
        ExportError: it exists and is not to be replaced, is no bundle, or cannot be renamed.
    """
    try:
        place = out.resolve()
        exists = place.exists()
    except (OSError, RuntimeError) as exc:  # links in a circle
        raise ExportError(f"{out} cannot be resolved: {exc}") from exc
    shown = f"{out}" if place == out.absolute() else f"{out} ({place})"
    if exists and _is_mounted(place):
        raise ExportError(f"{shown} is a mount point, which cannot be replaced; choose a folder in it: {out}/NAME")
    if exists and not replace:
        raise ExportError(f"{shown} exists already; --force replaces it")
    if exists and not (place / MANIFEST_NAME).is_file() and (place.is_file() or any(place.iterdir())):
        raise ExportError(f"{shown} is not a bundle, so --force does not replace it; choose another place")
    above = next(parent for parent in place.parents if parent.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise ExportError(f"cannot write in {above}; choose another place")
    return place


def _is_mounted(place: Path) -> bool:
    """Also a bind mount of the same file system, as containers have them, which os.path.ismount does not see."""
    if os.path.ismount(place):
        return True
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:  # not on Linux
        return False
    # The fifth field is the mount point; a blank, a tab, a newline and a backslash stand as octal numbers.
    points = (re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), line.split(" ")[4]) for line in lines)
    return str(place) in points


@contextmanager
def staging(out: Path) -> Iterator[Path]:
    """A hidden directory beside `out`, on the same file system, that is gone afterwards if it was not renamed."""
    parent = out.absolute().parent
    prefix, suffix = f".{out.name}.", ".tmp"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for left in parent.glob(f"{glob.escape(prefix)}*{suffix}"):
            _remove_if_abandoned(left)
        root = Path(tempfile.mkdtemp(prefix=prefix, suffix=suffix, dir=parent))
    except OSError as exc:
        raise ExportError(f"cannot write in {parent}: {exc.strerror or exc}") from exc
    with _opened(root) as held:
        locks.hold(held, shared=True)
        try:
            yield root
        finally:
            shutil.rmtree(root, ignore_errors=True)


def _remove_if_abandoned(left: Path) -> None:
    """Delete the staging directory of an export that was killed: nobody holds it any more."""
    with _opened(left) as held, suppress(BlockingIOError):  # another export to the same place is at work
        if locks.hold(held, wait=False):
            shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    """A descriptor to lock the folder by."""
    if not locks.available():  # nor can Windows open a folder
        yield -1
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def disk_errors(out: Path) -> Iterator[None]:
    """A full disk as an ExportError that says what is free."""
    try:
        yield
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            free = free_bytes(out.absolute().parent) / 1e9
            raise ExportError(
                f"no space left for {out} ({free:.1f} GB free); an export needs about four times the size of the fp32 "
                "weights, free some or choose another disk"
            ) from exc
        raise ExportError(f"cannot write {out}: {exc}") from exc


def publish(root: Path, out: Path) -> None:
    """Rename the finished bundle into place; an older one steps aside first and is deleted last."""
    read_bundle(root)
    out = out.absolute()
    root.chmod(0o755)  # mkdtemp makes it private
    if not out.exists():
        root.rename(out)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".old", dir=out.parent))
    try:
        out.replace(old)
    except OSError:
        old.rmdir()
        raise
    try:
        root.rename(out)
    except OSError:
        old.replace(out)
        raise
    shutil.rmtree(old, ignore_errors=True)
