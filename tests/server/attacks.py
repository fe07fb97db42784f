"""What one client can send to hurt a server, and what a server suffers from it: memory, and waits of others.

`python -m tests.server.attacks BUNDLE [NAMES]` prints both for every attack, or for those with such a name.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import select
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

PACE_S = 0.01  # between two looks at /health/live
LIVE = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True)
class Attack:
    """A request that is dear to answer."""

    path: str
    body: Callable[[], bytes]
    chunk_bytes: int = 0  # of the body, each in a chunk of its own; 0: whole, with its length in the head

    def request(self) -> bytes:
        """It as bytes."""
        return post(self.path, self.body(), chunk_bytes=self.chunk_bytes)


def _field(name: str, value: str) -> bytes:
    return b'{"%b":%b}' % (name.encode(), value.encode())


def _texts(count: int, size: int) -> str:
    """So many different texts of about so many characters, as JSON."""
    words = "the water of a stone is light and in it a house of bread to the river "
    return json.dumps([f"{i} {words * (size // len(words) + 1)}"[:size] for i in range(count)])


def _similar() -> bytes:
    return b'{"inputs":{"source_sentence":"a","sentences":%b}}' % _texts(1_000_000, 8).encode()


ATTACKS = {
    "embed_all of 3,000 texts": Attack("/embed_all", lambda: _field("inputs", _texts(3000, 60))),
    "embed_all of 2,000 texts": Attack("/embed_all", lambda: _field("inputs", _texts(2000, 60))),
    "tokenize 8 MB": Attack("/tokenize", lambda: _field("inputs", json.dumps("water " * 1_400_000))),
    "tokenize all it takes": Attack("/tokenize", lambda: _field("inputs", json.dumps("a " * 131_000))),
    "1.9 million texts": Attack("/embed", lambda: _field("inputs", "[" + ",".join(['"abcde"'] * 1_900_000) + "]")),
    "1.4 million lists of ids": Attack("/embed", lambda: _field("inputs", "[" + ",".join(["[1,2]"] * 1_400_000) + "]")),
    "one text of 31 MB": Attack("/embed", lambda: _field("inputs", json.dumps("the water " * 3_100_000))),
    "31 MB without a blank": Attack("/embed", lambda: _field("inputs", json.dumps("water" * 6_200_000))),
    "31 MB of punctuation": Attack("/embed", lambda: _field("inputs", json.dumps(". " * 15_500_000))),
    "31 MB that is no JSON": Attack("/embed", lambda: _field("inputs", '"' + "\\u6c34 " * 4_400_000)),
    "31 MB of escapes": Attack("/embed", lambda: _field("inputs", '"' + "\\u6c34 " * 4_400_000 + '"')),
    "four texts of 4 MB": Attack("/embed", lambda: _field("inputs", json.dumps(["the water " * 400_000] * 4))),
    "four other texts of 4 MB": Attack(
        "/embed", lambda: _field("inputs", json.dumps([f"{i} the water " * 300_000 for i in range(4)]))
    ),
    "200 texts of 150,000": Attack("/embed", lambda: _field("inputs", _texts(200, 150_000))),
    "similarity of 1 million": Attack("/similarity", _similar),
    "decode 8 million ids": Attack("/decode", lambda: _field("ids", "[" + ",".join(["101"] * 8_000_000) + "]")),
    "decode 1 million ids": Attack("/decode", lambda: _field("ids", "[" + ",".join(["101"] * 1_000_000) + "]")),
    "1 million chunks": Attack("/embed", lambda: _field("inputs", json.dumps("a" * 1_000_000)), chunk_bytes=1),
    "8 MB in small chunks": Attack("/embed", lambda: _field("inputs", json.dumps("a house " * 10**6)), chunk_bytes=64),
}  # fmt: skip


@dataclass(frozen=True)
class Suffered:
    """What an attack did."""

    statuses: tuple[int, ...]  # 0 where the connection broke
    grown_mb: float  # resident memory over what it was before, at its highest
    slowest_live_s: float
    slowest_live_computed_s: float  # of a wait only what the server itself computed: other programs do not count
    seconds: float  # until the last answer

    def __str__(self) -> str:
        live = f"live {self.slowest_live_s * 1e3:6.0f} ms ({self.slowest_live_computed_s * 1e3:4.0f} computed)"
        statuses = {status: self.statuses.count(status) for status in self.statuses}
        return f"+{self.grown_mb:6.0f} MB  {live}  {self.seconds:6.2f} s  {statuses}"


class Watch:
    """Polls `/health/live` in a process of its own, so that what the attacker does here slows nothing down."""

    def __init__(self, pid: int, port: int) -> None:
        command = [sys.executable, "-m", "tests.server.attacks", "--watch", str(pid), str(port)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.waits: list[tuple[float, float]] = []  # seconds, and what the server computed meanwhile
        self.failures: list[str] = []

    def __enter__(self) -> Watch:
        assert self._process.stdout is not None
        self._process.stdout.readline()  # it has begun
        return self

    def __exit__(self, *_: object) -> None:
        out, _ = self._process.communicate("")
        self.waits, self.failures = json.loads(out)


def computed_s(pid: int) -> float:
    """Seconds that the threads of a process have run so far, as long as they live."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def watch(pid: int, port: int) -> None:
    """Poll until stdin ends, and print the waits and the failures."""
    waits, failures = [], []
    print("begun", flush=True)
    while not select.select([sys.stdin], [], [], PACE_S)[0]:
        began, before = time.monotonic(), computed_s(pid)
        try:
            status, _ = ask(port, LIVE, 30)
            if status != 200:
                failures.append(str(status))
        except OSError as exc:
            failures.append(repr(exc))
        waits.append((time.monotonic() - began, max(0.0, computed_s(pid) - before)))
    print(json.dumps([waits, failures]))


def post(path: str, body: bytes, *headers: str, chunk_bytes: int = 0) -> bytes:
    """A whole request as bytes; its body in chunks, or with its length in the head."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", "Connection: close"]
    framing = "Transfer-Encoding: chunked" if chunk_bytes else f"Content-Length: {len(body)}"
    if chunk_bytes:
        pieces = (body[at : at + chunk_bytes] for at in range(0, len(body), chunk_bytes))
        body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    return "\r\n".join([*lines, *headers, framing, "", ""]).encode() + body


def ask(port: int, request: bytes, timeout_s: float = 120) -> tuple[int, bytes]:
    """Send bytes, and read until the server closes: status (0 if there is none), and the first 64 KB of the answer."""
    kept = bytearray()
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as sock:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            sock.sendall(request)
        with contextlib.suppress(ConnectionResetError):
            while data := sock.recv(1 << 16):
                kept += data[: max(0, 65536 - len(kept))]
    found = re.match(rb"HTTP/1.1 (\d+)", kept)
    return (int(found[1]) if found else 0), bytes(kept)


def suffer(pid: int, port: int, requests: Sequence[bytes]) -> Suffered:
    """Send the requests at once, and watch the server until all are answered."""
    return endure(pid, port, [partial(_status, port, one) for one in requests])


def _status(port: int, request: bytes) -> int:
    return ask(port, request)[0]


def endure(pid: int, port: int, clients: Sequence[Callable[[], int]]) -> Suffered:
    """Let the clients act at once, and watch the server until all are done.

    Args:
        pid, port: of the server.
        clients: what each does; gives the status of its answer.
    """
    process = psutil.Process(pid)
    before = process.memory_info().rss
    with highest(process) as peak, Watch(pid, port) as watching:
        time.sleep(3 * PACE_S)
        began = time.monotonic()
        with ThreadPoolExecutor(len(clients)) as pool:
            statuses = tuple(pool.map(lambda act: act(), clients))
        seconds = time.monotonic() - began
        time.sleep(3 * PACE_S)
    assert not watching.failures, watching.failures[:3]
    return Suffered(statuses, (peak[0] - before) / 1e6, max(watching.waits)[0], max(map(min, watching.waits)), seconds)


@contextlib.contextmanager
def highest(process: psutil.Process) -> Iterator[list[int]]:
    """The highest resident memory of a process while the block runs, in bytes; by the kernel where it counts."""
    found = [process.memory_info().rss]
    with contextlib.suppress(OSError):
        Path(f"/proc/{process.pid}/clear_refs").write_text("5")  # the peak begins anew
    yield found
    found[0] = max(found[0], process.memory_info().rss)
    with contextlib.suppress(OSError):
        status = Path(f"/proc/{process.pid}/status").read_text()
        found[0] = max(found[0], int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024)


def crowd(pid: int, port: int, many: str, few: str, seconds: float = 8.0) -> tuple[float, float]:
    """64 connections of one-batch requests, and another client's single queries beside them.

    Args:
        pid, port: of the server.
        many, few: the two clients' headers.
        seconds: how long.

    Returns:
        The 99th percentile of a query's seconds, and of what the server computed meanwhile.
    """
    # 8 times 32 tokens: a batch with room left would take the query along.
    texts = [f"{k} " + "the water is light now " * 5 + "the water is light" for k in range(8)]
    batch = post("/embed", json.dumps({"inputs": texts}).encode(), many).replace(b"Connection: close\r\n", b"")
    query = post("/embed", b'{"inputs":"what is water"}', few)
    times: list[float] = []
    computed: list[float] = []
    command = [sys.executable, "-m", "tests.server.attacks", "--crowd", str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as attackers:
        assert attackers.stdin is not None
        attackers.stdin.write(batch)
        attackers.stdin.close()
        time.sleep(2.0)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            began, before = time.monotonic(), computed_s(pid)
            assert ask(port, query)[0] == 200
            times.append(time.monotonic() - began)
            computed.append(computed_s(pid) - before)
            time.sleep(0.02)
        attackers.kill()
    return statistics.quantiles(times, n=100)[98], statistics.quantiles(computed, n=100)[98]


async def _crowd(port: int, request: bytes, count: int = 64) -> None:
    """Send the request again and again over so many connections, until killed."""

    async def again() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        while True:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(re.search(rb"content-length: (\d+)", head)[1]))

    await asyncio.gather(*(again() for _ in range(count)))


def mute(pid: int, port: int, count: int = 20, seconds: float = 25.0) -> tuple[float, float]:
    """Clients that ask for much and read nothing: by how many MB memory grew, and how much of it is left in the end."""
    process = psutil.Process(pid)
    before = process.memory_info().rss
    request = post("/embed_all", _field("inputs", json.dumps(["the water of a stone is light and in it"] * 550)))
    with highest(process) as peak, contextlib.ExitStack() as stack:
        for _ in range(count):
            sock = stack.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(("127.0.0.1", port))
            sock.sendall(request)
        time.sleep(seconds)
    return (peak[0] - before) / 1e6, (process.memory_info().rss - before) / 1e6


def long_head(port: int) -> tuple[float, int]:
    """100 MB of one header: the longest wait for `/health/live` meanwhile in seconds, and the bytes that were taken."""
    sent = 0
    waits = []
    with socket.create_connection(("127.0.0.1", port)) as sock, contextlib.suppress(OSError):
        sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ")
        while sent < 100_000_000:
            sent += sock.send(b"a" * 1_000_000)
            if sent % 10_000_000 < 1_000_000:
                began = time.monotonic()
                ask(port, LIVE)
                waits.append(time.monotonic() - began)
    return max(waits, default=0.0), sent


def leave(pid: int, port: int, count: int = 64) -> Suffered:
    """So many requests of 200 texts at once, whose clients reset the connection a moment later."""
    request = post("/embed", _field("inputs", _texts(200, 60)))

    def send_and_reset() -> int:
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(request)
            time.sleep(0.2)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return 0

    return endure(pid, port, [send_and_reset] * count)


def others(bundle: str, folder: Path) -> None:
    """Print what attacks do that are no single request."""
    from tests.server.test_lifecycle import process

    keys = folder / "keys"
    keys.write_text("many:first\nfew:second\nmany:first\n")
    named = ("Authorization: Bearer first", "Authorization: Bearer second")
    with process(folder, bundle, "--api-key-file", keys) as server:
        wall, computed = crowd(server.process.pid, server.port, *named)
        print(f"a query beside a crowd, p99: {wall * 1e3:.0f} ms ({computed * 1e3:.0f} computed)", flush=True)
    with process(folder, bundle) as server:
        wait, sent = long_head(server.port)
        print(f"100 MB of a header: live {wait * 1e3:.0f} ms, {sent / 1e6:.0f} MB were taken", flush=True)
        grown, left = mute(server.process.pid, server.port)
        print(f"20 clients that read nothing: +{grown:.0f} MB, {left:.0f} left after 25 s", flush=True)
    with process(folder, bundle) as server:
        ask(server.port, post("/embed", b'{"inputs":"a"}'))
        for count in (64, 300):
            print(f"{f'{count} clients that leave':33} {leave(server.process.pid, server.port, count)}", flush=True)


def main(bundle: str, *names: str) -> None:
    """Print a row per attack, alone and 64 at once."""
    from tests.server.test_lifecycle import process

    with tempfile.TemporaryDirectory() as folder:
        if not names or "others" in names:
            others(bundle, Path(folder))
        for name, attack in ATTACKS.items():
            if names and not any(part in name for part in names):
                continue
            request = attack.request()
            for count in (1, 64):
                with process(Path(folder), bundle) as server:
                    ask(server.port, post("/embed", b'{"inputs":"a"}'))
                    got = suffer(server.process.pid, server.port, [request] * count)
                print(f"{name:28} x{count:<3} {got}", flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "--watch":
        watch(int(sys.argv[2]), int(sys.argv[3]))
    elif sys.argv[1] == "--crowd":
        asyncio.run(_crowd(int(sys.argv[2]), sys.stdin.buffer.read()))
    else:
        main(*sys.argv[1:])
