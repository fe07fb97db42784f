"""Where the server listens: Unix sockets, what lies in their way, and what is left of them."""

from __future__ import annotations

import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from embedrt import Embedder
from embedrt.errors import OptionError
from embedrt.server.settings import Settings
from embedrt.server.sockets import address_of, listening
from tests.server.serving import wait_until

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no Unix sockets")


@pytest.fixture
def path() -> Iterator[Path]:
    """Short, for a socket's path may have 107 bytes and pytest's folders have more on some machines."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "s"


def at(path: Path) -> Settings:
    return Settings(bundles=("b",), uds=str(path))


def test_the_file_is_there_while_the_server_listens(path: Path):
    with listening(at(path)) as listener:
        assert stat.S_ISSOCK(path.stat().st_mode)
        assert not path.stat().st_mode & stat.S_IWOTH  # by the umask: who may not write cannot connect
        assert address_of(at(path), listener) == f"unix:{path}"
    assert not path.exists()


def test_what_a_killed_server_left_is_replaced(path: Path):
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
        killed.listen()
    assert path.exists()
    with listening(at(path)):
        pass
    assert not path.exists()


def test_another_server_is_left_alone(path: Path):
    with listening(at(path)):
        with pytest.raises(OptionError, match="another program listens"), listening(at(path)):
            pass
        assert path.exists()


def test_another_servers_file_stays_when_this_one_ends(path: Path):
    with listening(at(path)):
        path.unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
    assert path.exists()


def test_a_file_in_the_way_is_left_alone(path: Path):
    path.write_text("precious")
    with pytest.raises(OptionError, match="no socket"), listening(at(path)):
        pass
    assert path.read_text() == "precious"


@pytest.mark.parametrize("name", ["x" * 120, "missing/s"])
def test_a_path_that_cannot_be_used_is_named(path: Path, name: str):
    with pytest.raises(OptionError, match=name[:20]), listening(at(path.parent / name)):
        pass


@pytest.mark.parametrize("workers", [1, 2])
def test_a_client_at_the_socket_gets_the_librarys_vectors(
    path: Path, lookup_bundle: Path, library: Embedder, workers: int
):
    command = [sys.executable, "-m", "embedrt", "serve", lookup_bundle, "--variant", "fp32", "--threads", "1"]
    with (
        subprocess.Popen([*map(str, command), "--uds", str(path), "--workers", str(workers)]) as server,
        httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://anything.example") as client,
    ):

        def accepts() -> bool:  # the file is there before the server listens at it
            assert server.poll() is None
            with socket.socket(socket.AF_UNIX) as probe:
                return probe.connect_ex(str(path)) == 0

        try:
            wait_until(accepts, 60)
            wait_until(lambda: client.get("/health/ready").status_code == 200, 60)
            answer = client.post("/embed", json={"inputs": ["stone water"]})
            assert answer.status_code == 200  # whatever the Host: no page of a browser gets here
            assert np.array_equal(np.array(answer.json(), np.float32), library.encode(["stone water"]))
        finally:
            server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0 or workers > 1  # one that is told to go while it loads has no code of its own yet
    assert not path.exists()
