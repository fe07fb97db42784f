"""A database by its URL: a folder, or a server's address."""

from __future__ import annotations

from pathlib import Path

from embedrt.databases.model import Database
from embedrt.databases.names import POSTGRES, is_lance, postgres_place, qdrant_place, scheme_of
from embedrt.errors import DatabaseError


def open_database(url: str | Path, *, write: bool = False, key: str | None = None) -> Database:
    """The database of a URL.

    ::

        notes.db                                    a folder, by LanceDB
        qdrant://HOST:PORT/COLLECTION               Qdrant; http:// and https:// as well
        qdrant+file:///FOLDER/COLLECTION            Qdrant in a folder, without a server
        postgresql://USER@HOST/DATABASE?table=NAME  PostgreSQL with pgvector

    Args:
        url: what `embedrt index` made, or may make.
        write: whether it may be made, and is kept from other writers until it is closed.
        key: Qdrant's API key.

    Raises:
        DatabaseError: it cannot be reached; or is not there, and is not to be made; or the folder is another one.
        DependencyError: the database's package is not installed; the message has the command.
        OptionError: the URL is not complete.
    """
    scheme = scheme_of(url)
    if scheme is None:
        from embedrt.databases.lance import LanceDatabase

        folder = Path(url).expanduser()
        _check_folder(folder, write)
        return LanceDatabase(folder, write=write)
    if scheme in POSTGRES:
        from embedrt.databases.postgres import open_postgres, without_password

        place = postgres_place(str(url))
        return open_postgres(place.url, place.table, without_password(str(url)), write=write)
    from embedrt.databases.qdrant import open_qdrant

    place = qdrant_place(str(url))
    if scheme == "qdrant+file":
        return open_qdrant(place.table, str(url), folder=place.url)
    return open_qdrant(place.table, str(url), url=place.url, key=key)


def _check_folder(folder: Path, write: bool) -> None:
    if is_lance(folder):
        return
    if folder.exists() and not folder.is_dir():
        raise DatabaseError(f"{folder} is a file; a database is a folder that 'embedrt index' makes")
    if folder.is_dir() and any(path.name != ".lock" for path in folder.iterdir()):
        raise DatabaseError(f"{folder} is a folder that 'embedrt index' did not make; take another one")
    if not write:
        raise DatabaseError(f"{folder} is no database; 'embedrt index BUNDLE CORPUS {folder}' makes one")
