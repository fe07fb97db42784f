"""A database by its URL: a folder, or a server's address."""

from __future__ import annotations

from pathlib import Path

from embedrt.databases.lance import LanceDatabase
from embedrt.databases.model import Database
from embedrt.databases.names import is_lance
from embedrt.errors import DatabaseError


def open_database(url: str | Path, *, write: bool = False) -> Database:
    """The database at a folder's path.

    Args:
        url: what `embedrt index` made, or may make: a path.
        write: whether it may be made, and is kept from other writers until it is closed.

    Raises:
        DatabaseError: it cannot be reached; or is not there, and is not to be made; or the folder is another one.
        DependencyError: the database's package is not installed; the message has the command.
    """
    folder = Path(url).expanduser()
    _check_folder(folder, write)
    return LanceDatabase(folder, write=write)


def _check_folder(folder: Path, write: bool) -> None:
    if is_lance(folder):
        return
    if folder.exists() and not folder.is_dir():
        raise DatabaseError(f"{folder} is a file; a database is a folder that 'embedrt index' makes")
    if folder.is_dir() and any(path.name != ".lock" for path in folder.iterdir()):
        raise DatabaseError(f"{folder} is a folder that 'embedrt index' did not make; take another one")
    if not write:
        raise DatabaseError(f"{folder} is no database; 'embedrt index BUNDLE CORPUS {folder}' makes one")
