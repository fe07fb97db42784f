"""A load generator that costs little: HTTP/1.1 over asyncio's streams, bodies made before the clock starts."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

_JSON = "Content-Type: application/json"


@dataclass(frozen=True)
class Shot:
    """A request that is ready to be sent."""

    kind: str  # what it counts as
    data: bytes
    num_texts: int
    num_tokens: int


@dataclass
class Tally:
    """What came of the requests of one run."""

    seconds: float = 0.0
    texts: int = 0
    tokens: int = 0
    failed: int = 0
    latencies_ms: dict[str, list[float]] = field(default_factory=dict)

    def quantile(self, kind: str, share: float) -> float:
        """Latency in ms that `share` of a kind's requests did not exceed."""
        rows = sorted(self.latencies_ms[kind])
        return rows[min(len(rows) - 1, int(share * len(rows)))]


def make_shot(kind: str, path: str, body: object, num_texts: int, num_tokens: int) -> Shot:
    """A POST of JSON to the loopback."""
    content = json.dumps(body).encode()
    lines = (f"POST {path} HTTP/1.1", "Host: localhost", _JSON, f"Content-Length: {len(content)}", "", "")
    return Shot(kind, "\r\n".join(lines).encode() + content, num_texts, num_tokens)


class Connection:
    """One keep-alive connection; `send` gives status and body."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, data: bytes) -> tuple[int, bytes]:
        """Send a request and read its answer."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 24)
        reader, writer = self._streams
        writer.write(data)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        status = int(head.split(b" ", 2)[1])
        if b"\r\ncontent-length:" not in head:
            return status, await _read_chunks(reader)
        length = int(head.split(b"\r\ncontent-length:", 1)[1].split(b"\r\n", 1)[0])
        return status, await reader.readexactly(length)

    def close(self) -> None:
        """Close."""
        if self._streams is not None:
            self._streams[1].close()


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    """A body of which the length was not known, as large answers are sent."""
    pieces = []
    while size := int(await reader.readuntil(b"\r\n"), 16):
        pieces.append((await reader.readexactly(size + 2))[:-2])
    await reader.readexactly(2)
    return b"".join(pieces)


async def closed_loop(port: int, shots: Sequence[Shot], clients: int, seconds: float) -> Tally:
    """`clients` connections that send the next of `shots` as soon as they have an answer, for `seconds`."""
    tally = Tally()
    begin = time.perf_counter()
    upcoming = iter(range(1 << 30))

    async def client() -> None:
        connection = Connection(port)
        while time.perf_counter() < begin + seconds:
            await _fire(connection.send, shots[next(upcoming) % len(shots)], tally)
        connection.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    tally.seconds = time.perf_counter() - begin
    return tally


async def open_loop(port: int, shots: Sequence[Shot], per_second: float, seconds: float, seed: int) -> Tally:
    """Requests at random times (Poisson), whether earlier ones were answered or not; latency counts from then."""
    rng = random.Random(seed)
    tally = Tally()
    idle: list[Connection] = []
    begin = time.perf_counter()

    async def one(shot: Shot) -> None:
        connection = idle.pop() if idle else Connection(port)
        await _fire(connection.send, shot, tally)
        idle.append(connection)

    tasks = []
    at = 0.0
    while (at := at + rng.expovariate(per_second)) < seconds:
        await asyncio.sleep(max(0.0, begin + at - time.perf_counter()))
        tasks.append(asyncio.create_task(one(rng.choice(shots))))
    await asyncio.gather(*tasks)
    tally.seconds = time.perf_counter() - begin
    for connection in idle:
        connection.close()
    return tally


async def _fire(send: Callable[[bytes], Awaitable[tuple[int, bytes]]], shot: Shot, tally: Tally) -> None:
    began = time.perf_counter()
    status, _ = await send(shot.data)
    if status != 200:
        tally.failed += 1
        return
    tally.texts += shot.num_texts
    tally.tokens += shot.num_tokens
    tally.latencies_ms.setdefault(shot.kind, []).append((time.perf_counter() - began) * 1e3)
