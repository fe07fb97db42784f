"""How much of a connection is read before another one gets its turn."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from embedrt.server.intake import PIECE_BYTES
from embedrt.server.wire import BoundedProtocol
from tests.server.attacks import ask, post
from tests.server.serving import serving

CLIENTS = 6
BODY_BYTES = 3_000_000


class Turns:
    """Bytes that were read, by turn of the event loop and by connection."""

    def __init__(self) -> None:
        self.read: Counter[tuple[int, int]] = Counter()
        self.pieces: list[int] = []  # sizes, in the order of reading
        self.loops: set[str] = set()
        self._turn = 0
        self._counting = False

    def note(self, connection: BoundedProtocol, size: int) -> None:
        """So many bytes in this turn."""
        self.read[self._turn, id(connection)] += size
        self.pieces.append(size)
        if not self._counting:
            self._counting = True
            self.loops.add(type(connection.loop).__module__)
            self._next(connection.loop)

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        self._turn += 1
        loop.call_soon(self._next, loop)


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Turns]:
    """What all connections read from here on."""
    turns, original = Turns(), BoundedProtocol.data_received

    def note(self: BoundedProtocol, data: bytes | memoryview) -> None:
        turns.note(self, len(data))
        original(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(BoundedProtocol, "data_received", note)
        yield turns


def test_a_turn_of_the_loop_reads_one_piece_of_each_body(lookup_bundle: Path, monkeypatch: pytest.MonkeyPatch):
    """uvloop read up to 8 MB of one connection in a turn, and 256 KB of each of 64: live then took 124 ms."""
    request = post("/embed", json.dumps({"inputs": "a" * BODY_BYTES}).encode())
    with counted(monkeypatch) as turns, serving(lookup_bundle, variant="fp32") as server:
        port = int(server.url.rpartition(":")[2])
        with ThreadPoolExecutor(CLIENTS) as pool:
            statuses = [status for status, _ in pool.map(lambda _: ask(port, request), range(CLIENTS))]
    assert set(statuses) == {413}  # no place to cut the text
    assert sum(turns.read.values()) >= CLIENTS * BODY_BYTES
    assert max(turns.read.values()) <= PIECE_BYTES
    uvloop = pytest.importorskip("uvloop")  # asyncio itself reads as it is told
    assert turns.loops == {uvloop.__name__}


def test_less_is_read_at_once_of_what_may_be_many_chunks(lookup_bundle: Path, monkeypatch: pytest.MonkeyPatch):
    """Which may be many and small: a piece of them takes 20 times as long as one of another body."""
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (BODY_BYTES, json.dumps({"inputs": "a" * (BODY_BYTES - 14)}).encode())
    head = b"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
    with counted(monkeypatch) as turns, serving(lookup_bundle, variant="fp32") as server:
        status, _ = ask(int(server.url.rpartition(":")[2]), head + b"Transfer-Encoding: chunked\r\n\r\n" + body)
    assert status == 413
    assert max(turns.pieces) <= PIECE_BYTES // 8
