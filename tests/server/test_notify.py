"""What systemd is told, on a socket that a test reads."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedrt.server.notify import Notifier
from tests.server.serving import wait_until
from tests.server.test_lifecycle import process


class Manager:
    """Reads what comes."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.setblocking(False)
        self.lines: list[str] = []

    def read(self) -> list[str]:
        while True:
            try:
                self.lines += self.socket.recv(4096).decode().split("\n")
            except BlockingIOError:
                return self.lines


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(str(tmp_path / "notify"))
    yield made
    made.socket.close()


def test_each_state_is_told_once(manager: Manager, tmp_path: Path):
    notifier = Notifier.of({"NOTIFY_SOCKET": str(tmp_path / "notify")})
    for reason in ("loading", "loading", None, None, "weights\nchanged", None):
        notifier.readiness(reason)
    notifier.alive()
    notifier.stopping()
    assert manager.read() == [
        "STATUS=not ready: loading", "READY=1", "STATUS=ready", "STATUS=not ready: weights changed", "STATUS=ready",
        "WATCHDOG=1", "STOPPING=1", "STATUS=stopping",
    ]  # fmt: skip


def test_an_abstract_name_and_nobody():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as reader:
        reader.bind("\0embedrt-test-notify")
        Notifier("@embedrt-test-notify").alive()
        assert reader.recv(100) == b"WATCHDOG=1"
    Notifier("@embedrt-test-notify").alive()  # has gone
    Notifier.of({}).alive()


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_server_tells_its_manager(
    tmp_path: Path, lookup_bundle: Path, manager: Manager, monkeypatch: pytest.MonkeyPatch, workers: int
):
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with process(tmp_path, lookup_bundle, "--variant", "fp32", "--workers", workers) as server:
        wait_until(lambda: "READY=1" in manager.read(), 60)
        beats = manager.lines.count("WATCHDOG=1")
        wait_until(lambda: manager.read().count("WATCHDOG=1") >= beats + 2)
        assert manager.lines.count("READY=1") == 1
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "STOPPING=1" in manager.read())
        assert server.process.wait(30) == 0
