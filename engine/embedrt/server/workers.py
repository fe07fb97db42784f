"""Several processes behind one port: started, watched, replaced when they die, stopped together."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

from embedrt.server.logs import log, setup_logging
from embedrt.server.metrics import FOLDER_VARIABLE
from embedrt.server.settings import Settings

_RESTART_PAUSE_S = 1.0  # times 2 for every death in a row, up to a minute
_LONGEST_PAUSE_S = 60.0
_LIVED_WELL_S = 60.0


@dataclass
class _Worker:
    process: BaseProcess
    started: float


def run_worker(settings: Settings, listener: socket.socket) -> None:
    """A worker's whole life; exits with its code."""
    from embedrt.server.models import open_bundles
    from embedrt.server.run import serve_here

    setup_logging(settings.log_format, settings.log_level)
    raise SystemExit(serve_here(settings, listener, open_bundles(settings.bundles)))


class Supervisor:
    """Keeps `settings.workers` processes serving one listening socket.

    All of them accept from the same socket, so a connection that waits when a worker dies goes to another one.
    """

    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self._settings = settings
        self._listener = listener
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[_Worker] = []
        self._stopping = False
        self._pause_s = _RESTART_PAUSE_S

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT; 0 when every worker ended well."""
        with tempfile.TemporaryDirectory(prefix="embedrt-metrics-") as folder:
            os.environ[FOLDER_VARIABLE] = folder  # the workers' metrics; read when they import prometheus-client
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._stop)
            self._workers = [self._start() for _ in range(self._settings.workers)]
            while not self._stopping:
                wait([worker.process.sentinel for worker in self._workers], timeout=0.2)
                self._replace_dead()
            self._listener.close()
            return self._end()

    def _start(self) -> _Worker:
        process = self._context.Process(target=run_worker, args=(self._settings, self._listener), name="embedrt-worker")
        process.start()
        log("worker started", pid=process.pid)
        return _Worker(process, time.monotonic())

    def _replace_dead(self) -> None:
        from prometheus_client import multiprocess

        for k, worker in enumerate(self._workers):
            if worker.process.is_alive() or self._stopping:
                continue
            lived = time.monotonic() - worker.started
            self._pause_s = _RESTART_PAUSE_S if lived > _LIVED_WELL_S else min(_LONGEST_PAUSE_S, 2 * self._pause_s)
            pause = 0.0 if lived > _LIVED_WELL_S or self._pause_s <= 2 * _RESTART_PAUSE_S else self._pause_s
            log("worker died", level=40, pid=worker.process.pid, exit_code=worker.process.exitcode, restart_in_s=pause)
            multiprocess.mark_process_dead(worker.process.pid)  # type: ignore[no-untyped-call]
            deadline = time.monotonic() + pause
            while time.monotonic() < deadline and not self._stopping:
                time.sleep(0.1)
            if not self._stopping:
                self._workers[k] = self._start()

    def _stop(self, number: int, frame: object) -> None:
        del number, frame
        self._stopping = True
        for worker in self._workers:
            worker.process.terminate()  # SIGTERM, which a worker takes as `serve_here` does

    def _end(self) -> int:
        deadline = time.monotonic() + self._settings.drain_s + self._settings.grace_s + 5
        for worker in self._workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                log("worker did not stop in time and is killed", level=40, pid=worker.process.pid)
                worker.process.kill()
                worker.process.join()
        return 0 if all(worker.process.exitcode == 0 for worker in self._workers) else 1
