"""What one client can send to hurt a server, and what a server suffers from it: memory, and waits of others.

`python -m tests.server.attacks BUNDLE` prints both for every attack.
"""

from __future__ import annotations

import contextlib
import json
import re
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil

PACE_S = 0.01  # between two looks at /health/live
LIVE = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True)
class Attack:
    """A request that is dear to answer."""

    path: str
    body: Callable[[], bytes]


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
    "31 MB of escapes": Attack("/embed", lambda: _field("inputs", '"' + "\\u6c34 " * 4_400_000 + '"')),
    "four texts of 4 MB": Attack("/embed", lambda: _field("inputs", json.dumps(["the water " * 400_000] * 4))),
    "four other texts of 4 MB": Attack(
        "/embed", lambda: _field("inputs", json.dumps([f"{i} the water " * 300_000 for i in range(4)]))
    ),
    "2,000 texts of 15,000": Attack("/embed", lambda: _field("inputs", _texts(2000, 15_000))),
    "similarity of 1 million": Attack("/similarity", _similar),
    "decode 8 million ids": Attack("/decode", lambda: _field("ids", "[" + ",".join(["101"] * 8_000_000) + "]")),
    "decode 1 million ids": Attack("/decode", lambda: _field("ids", "[" + ",".join(["101"] * 1_000_000) + "]")),
}  # fmt: skip


@dataclass(frozen=True)
class Suffered:
    """What an attack did."""

    statuses: tuple[int, ...]  # 0 where the connection broke
    grown_mb: float  # resident memory over what it was before, at its highest
    slowest_live_s: float
    slowest_live_computed_s: float  # of a wait only what the server itself computed: other programs do not count
    seconds: float  # until the last answer


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


def post(path: str, body: bytes, *headers: str) -> bytes:
    """A whole request as bytes."""
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        "Connection: close",
        *headers,
    ]
    return "\r\n".join([*lines, *headers, f"Content-Length: {len(body)}", "", ""]).encode() + body


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
    process = psutil.Process(pid)
    before = process.memory_info().rss
    with highest(process) as peak, Watch(pid, port) as watching:
        time.sleep(3 * PACE_S)
        began = time.monotonic()
        with ThreadPoolExecutor(len(requests)) as pool:
            statuses = tuple(status for status, _ in pool.map(lambda one: ask(port, one), requests))
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


def main(bundle: str, *names: str) -> None:
    """Print a row per attack, alone and 64 at once."""
    from tests.server.test_lifecycle import process

    with tempfile.TemporaryDirectory() as folder:
        for name, attack in ATTACKS.items():
            if names and not any(part in name for part in names):
                continue
            request = post(attack.path, attack.body())
            for count in (1, 64):
                with process(Path(folder), bundle) as server:
                    ask(server.port, post("/embed", b'{"inputs":"a"}'))
                    got = suffer(server.process.pid, server.port, [request] * count)
                shown = {status: got.statuses.count(status) for status in got.statuses}
                print(
                    f"{name:28} x{count:<3} +{got.grown_mb:6.0f} MB  live {got.slowest_live_s * 1e3:6.0f} ms "
                    f"({got.slowest_live_computed_s * 1e3:4.0f} computed)  "
                    f"{got.seconds:6.2f} s  {shown}", flush=True
                )  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1] == "--watch":
        watch(int(sys.argv[2]), int(sys.argv[3]))
    else:
        main(*sys.argv[1:])
