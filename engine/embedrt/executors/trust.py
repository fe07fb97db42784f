"""Files that nobody but this user and root may have written, opened so that no link leads elsewhere.

A folder is looked at once and held open, and its files are opened from there: what was checked is what is used. Where
the system has no owners and modes of this kind (Windows), there is nothing to check by, and nothing is trusted.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_ROOT = 0
_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)


class UntrustedError(OSError):
    """Somebody else may write to what is to be read."""


class UntrustedFolderError(UntrustedError):
    """Somebody else may write to the folder."""


def distrust(mode: int, owner: int, user: int) -> str | None:
    """Why what has this mode and owner may hold what others wrote, to a process of `user`; None if it may not."""
    if owner not in (user, _ROOT):
        return f"it belongs to user {owner}, not to {user} or root"
    if mode & _OTHERS:
        return f"others may write to it (mode {stat.S_IMODE(mode):04o})"
    return None


@contextmanager
def trusted_folder(path: Path) -> Iterator[int]:
    """A descriptor of the folder, for the functions below.

    Raises:
        UntrustedFolderError: others may write to it.
        OSError: it is not there or cannot be opened.
    """
    if not hasattr(os, "geteuid"):
        raise OSError("this system does not say who may write to a folder")
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = os.fstat(folder)
        reason = distrust(found.st_mode, found.st_uid, os.geteuid())
        if reason is not None:
            raise UntrustedFolderError(f"{path} is not trusted: {reason}")
        yield folder
    finally:
        os.close(folder)


def open_trusted(folder: int, name: str) -> BinaryIO:
    """A file of the folder, to be read.

    Raises:
        UntrustedError: others may write to it, or it is no regular file.
        OSError: it is not there, is a symbolic link, or cannot be opened.
    """
    return _checked(os.open(name, os.O_RDONLY | os.O_NONBLOCK | _FLAGS, dir_fd=folder), "rb")


def open_or_create(folder: int, name: str) -> BinaryIO:
    """A file of the folder with what it holds, made where it is missing. Raises as `open_trusted`."""
    return _checked(os.open(name, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | _FLAGS, 0o644, dir_fd=folder), "r+b")


def create_new(folder: int, name: str) -> BinaryIO:
    """A new file of the folder, to be written; OSError if the name is taken."""
    return os.fdopen(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o644, dir_fd=folder), "wb")


def _checked(file: int, mode: str) -> BinaryIO:
    found = os.fstat(file)
    reason = distrust(found.st_mode, found.st_uid, os.geteuid())
    if not stat.S_ISREG(found.st_mode):
        reason = "it is no regular file"
    if reason is not None:
        os.close(file)
        raise UntrustedError(f"a file of the folder is not trusted: {reason}")
    return os.fdopen(file, mode)  # type: ignore[return-value]
