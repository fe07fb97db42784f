"""How many files and connections this process may have open."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import ModuleType

_KEPT_FREE = 16  # for files that are opened while connections are: keys, certificates, an accepted one too many
_OTHER_FILES = 256
_LEAST = 4


def allow_files(connections: int) -> None:
    """Raise the process's own limit on open files to what so many connections need, as far as it may."""
    resource = _resource()
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def open_files() -> int | None:
    """Files and connections that are open; None without /proc."""
    try:
        return sum(1 for _ in Path("/proc/self/fd").iterdir()) - 1  # without the one that reads the folder
    except OSError:
        return None


def room_for_connections(wanted: int) -> int:
    """So many, or as many as the limit on open files has room for."""
    resource = _resource()
    if resource is None:
        return wanted
    soft: int = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY:
        return wanted
    return max(_LEAST, min(wanted, soft - (open_files() or _OTHER_FILES) - _KEPT_FREE))


def _resource() -> ModuleType | None:
    """The limits of a process; None on Windows, which has none of this kind."""
    try:
        import resource
    except ImportError:
        return None
    return resource
