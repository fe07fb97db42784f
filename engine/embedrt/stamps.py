"""Whether a file is the one that it was."""

from __future__ import annotations

from pathlib import Path


def stamp_of(path: Path) -> tuple[int, int] | None:
    """Size and time of a file: with another one it was written meanwhile. None where it cannot be looked at."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns
