"""Whether an argument names a database. Pure but for one look whether a folder is there; imports nothing heavy."""

from __future__ import annotations

from pathlib import Path

TABLE = "texts"  # of a folder


def is_lance(folder: Path) -> bool:
    """Whether `embedrt index` made this folder."""
    return (folder / f"{TABLE}.lance").is_dir()


def is_database(url: str | Path) -> bool:
    """Whether this names a database: a folder that `embedrt index` made."""
    return is_lance(Path(url).expanduser())
