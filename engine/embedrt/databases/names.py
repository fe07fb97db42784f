"""Which database an argument names. Pure but for one look whether a folder is there; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from embedrt.errors import OptionError

TABLE = "texts"  # of a folder
POSTGRES = ("postgresql", "postgres")
QDRANT = ("qdrant", "qdrant+file", "http", "https")
_DEFAULT_TABLE = "embedrt"


@dataclass(frozen=True)
class Place:
    """A server's table or collection."""

    url: str  # of the server as its client takes it; of `qdrant+file` the folder
    table: str


def is_lance(folder: Path) -> bool:
    """Whether `embedrt index` made this folder."""
    return (folder / f"{TABLE}.lance").is_dir()


def scheme_of(url: str | Path) -> str | None:
    """The scheme of a URL that names a database; None of a path."""
    scheme, sign, _ = str(url).partition("://")
    return scheme.lower() if sign and scheme.lower() in (*POSTGRES, *QDRANT) else None


def is_database(url: str | Path) -> bool:
    """Whether this names a database: a server's URL, or a folder that `embedrt index` made."""
    return scheme_of(url) is not None or is_lance(Path(url).expanduser())


def postgres_place(url: str) -> Place:
    """Server and table of postgresql://...?table=NAME; the table is "embedrt" where none is named."""
    parts = urlsplit(url)
    query = parse_qsl(parts.query, keep_blank_values=True)
    table = next((value for name, value in query if name == "table"), _DEFAULT_TABLE)
    rest = urlencode([pair for pair in query if pair[0] != "table"], quote_via=quote)
    if not table:
        raise OptionError(f"{url}: no table is named; ?table=NAME")
    return Place(f"{parts.scheme}://{parts.netloc}{parts.path}{'?' if rest else ''}{rest}", table)


def qdrant_place(url: str) -> Place:
    """Server and collection of qdrant://HOST:PORT/COLLECTION, or of http(s); `qdrant` stands for http.

    Raises:
        OptionError: it names no collection.
    """
    parts = urlsplit(url)
    before, _, collection = parts.path.rstrip("/").rpartition("/")
    if not collection or not (parts.netloc or before):
        raise OptionError(f"{url} names no collection: qdrant://HOST:PORT/COLLECTION")
    if parts.scheme.lower() == "qdrant+file":
        return Place(unquote(parts.netloc + before), unquote(collection))
    scheme = "http" if parts.scheme.lower() == "qdrant" else parts.scheme.lower()
    default = ":6333" if parts.port is None and scheme == "http" else ""
    return Place(f"{scheme}://{parts.netloc}{default}{before}", unquote(collection))
