"""Paths as people write them."""

from __future__ import annotations

from pathlib import Path


def at_home(path: Path) -> Path:
    """The path with a leading "~" replaced: a shell does not do it inside --option=~/x, and quotes keep it."""
    if not path.parts[:1] or not path.parts[0].startswith("~") or path.exists():
        return path
    try:
        return path.expanduser()
    except RuntimeError:  # no such user
        return path
