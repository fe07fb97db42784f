"""The process one system lives in: its own memory, its own threads, stopped while another one is timed.

`python -m bench.worker FD SYSTEM` answers requests (method name, arguments) that come as pickles over the socket FD.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench.systems import KIND_SYSTEMS, SYSTEMS, make_system
from bench.systems.base import Rows, System, Vectors


@dataclass(frozen=True)
class Effort:
    """How long one turn goes on: until both minima are reached, or the maximum; never less than one call."""

    min_seconds: float
    min_calls: int
    max_seconds: float


@dataclass(frozen=True)
class Memory:
    """Resident bytes: now, of these not shared with files (heap and the like), and the highest so far."""

    rss: int
    anonymous: int
    peak: int


class Worker:
    """The methods the runner may call."""

    def __init__(self, system: System) -> None:
        self._system = system

    def load(self, artifact: str, model: str, threads: int) -> float:
        """Load the system, imports of its library included in the process but not in the seconds returned."""
        start = time.perf_counter()
        self._system.load(Path(artifact), Path(model), threads)
        return time.perf_counter() - start

    def describe(self) -> str:
        return self._system.describe()

    def encode_texts(self, texts: Sequence[str], batching: str) -> Vectors:
        return self._system.encode_texts(texts, batching)

    def encode_ids(self, rows: Rows) -> Vectors:
        return self._system.encode_ids(rows)

    def time_ids(self, rows: Rows, warm: bool, effort: Effort) -> tuple[float, ...]:
        """Seconds of each call on one batch, after one to warm up if asked."""
        if warm:
            self._system.encode_ids(rows)
        return _time(lambda: self._system.encode_ids(rows), effort)

    def time_texts(self, texts: Sequence[str], batching: str, warm: int, effort: Effort) -> tuple[float, ...]:
        """Seconds of each whole call, warmed up on the first `warm` texts."""
        if warm:
            self._system.encode_texts(texts[:warm], batching)
        return _time(lambda: self._system.encode_texts(texts, batching), effort)

    def memory(self) -> Memory:
        fields = {}
        for line in Path("/proc/self/status").read_text().splitlines():
            name, _, rest = line.partition(":")
            fields[name] = rest
        kib = {name: int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "RssAnon", "VmHWM")}
        return Memory(kib["VmRSS"], kib["RssAnon"], kib["VmHWM"])

    def close(self) -> None:
        self._system.close()


def _time(call: Callable[[], Any], effort: Effort) -> tuple[float, ...]:
    seconds: list[float] = []
    begin = time.perf_counter()
    while True:
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
        spent = time.perf_counter() - begin
        if (spent >= effort.min_seconds and len(seconds) >= effort.min_calls) or spent >= effort.max_seconds:
            break
    return tuple(seconds)


def _die_with_parent() -> None:
    """A stopped worker must not outlive a runner that was killed (Linux: PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() == 1:
        os._exit(1)


def serve(connection: Connection, name: str) -> None:
    """Answer requests until the other end closes; an exception is an answer too."""
    try:
        worker = Worker(make_system({**SYSTEMS, **KIND_SYSTEMS}[name]))
        connection.send((True, None))
    except BaseException as exc:
        connection.send((False, f"{type(exc).__name__}: {exc}"))
        raise
    while True:
        try:
            method, arguments = connection.recv()
        except EOFError:
            return
        try:
            connection.send((True, getattr(worker, method)(*arguments)))
        except Exception as exc:
            traceback.print_exc()
            connection.send((False, f"{type(exc).__name__}: {exc}"))


def main() -> None:
    """The process's start."""
    _die_with_parent()
    serve(Connection(int(sys.argv[1])), sys.argv[2])


if __name__ == "__main__":
    from bench import worker  # so that what is sent is bench.worker.Timing, not __main__.Timing

    worker.main()
