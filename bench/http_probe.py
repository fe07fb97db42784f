"""How long a server says nothing: `/health` asked every 20 ms until stdin ends; prints milliseconds as JSON.

A process of its own, so that the load generator's own pauses are not counted.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

PAUSE_S = 0.02


@dataclass
class Probe:
    """What the process found; filled when its `with` block ends."""

    answers_ms: list[float] = field(default_factory=list)

    @property
    def worst_ms(self) -> float:
        """The longest answer."""
        return max(self.answers_ms, default=0.0)


@contextlib.contextmanager
def probing(port: int) -> Iterator[Probe]:
    """Ask for the length of a `with` block."""
    found = Probe()
    command = [sys.executable, "-m", "bench.http_probe", str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield found
        out, _ = process.communicate()
    found.answers_ms = json.loads(out)


def ask(port: int, stop: threading.Event) -> list[float]:
    """Milliseconds of each answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    found = []
    while not stop.wait(PAUSE_S):
        begin = time.perf_counter()
        connection.request("GET", "/health")
        connection.getresponse().read()
        found.append((time.perf_counter() - begin) * 1e3)
    connection.close()
    return found


def main() -> None:
    """Ask until stdin ends."""
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    print(json.dumps(ask(int(sys.argv[1]), stop)))


if __name__ == "__main__":
    main()
