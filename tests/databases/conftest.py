"""A bundle made in milliseconds, and an empty database of each kind."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from embedrt.databases import Database, open_database
from embedrt.embedder import Embedder
from tests.cli.conftest import cli, lookup_bundle
from tests.databases.servers import running_postgres

__all__ = ["cli", "lookup_bundle"]

KINDS = ("lance", "qdrant", "postgres")
OpenDatabase = Callable[[], Database]


@pytest.fixture
def model(lookup_bundle: Path) -> Iterator[Embedder]:
    with Embedder(lookup_bundle, num_threads=1) as made:
        yield made


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    with running_postgres() as url:
        yield url


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a database may be made."""
    if request.param == "lance":
        return str(tmp_path / "notes.db")
    if request.param == "qdrant":
        pytest.importorskip("qdrant_client")
        return f"qdrant+file://{tmp_path}/points/notes"
    return f"{request.getfixturevalue('postgres')}&table=notes{uuid.uuid4().hex[:8]}"


@pytest.fixture
def reopened(url: str) -> Iterator[OpenDatabase]:
    """Opens the database; the one before is closed first, as another process would find it."""
    opened: list[Database] = []

    def reopen() -> Database:
        for database in opened:
            database.close()
        opened.append(open_database(url, write=True))
        return opened[-1]

    yield reopen
    for database in opened:
        database.close()
