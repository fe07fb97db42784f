"""Several processes behind one port: started, watched, replaced when they die, stopped together."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import tempfile
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

from embedrt.errors import EmbedrtError
from embedrt.server.accepting import SERVES_NOT, Accounts
from embedrt.server.logs import log, setup_logging
from embedrt.server.metrics import FOLDER_VARIABLE
from embedrt.server.notify import Notifier
from embedrt.server.settings import Settings

_LOOK_EVERY_S = 0.2  # for signals, and for workers whose pause is over
_TELL_EVERY_S = 1.0
_RESTART_PAUSE_S = 0.5  # times 2 for every death in a row, up to a minute
_LONGEST_PAUSE_S = 60.0
_LIVED_WELL_S = 60.0
_CANNOT_SERVE = 1  # exit code of a worker that could not load a model


_SIGNALS_PASSED_ON = ("SIGHUP", "SIGUSR1")


@dataclass
class _Worker:
    process: BaseProcess
    started: float
    beat: Any  # of ctypes: when its event loop last turned, by time.monotonic(); 0 before that
    restart_at: float | None = None  # set when it has died


def run_worker(settings: Settings, listener: socket.socket, beat: Any, held: Any, number: int) -> None:
    """A worker's whole life; exits with its code."""
    from embedrt.server.models import open_bundles
    from embedrt.server.run import serve_here

    setup_logging(settings.log_format, settings.log_level)
    threading.Thread(target=_end_with_parent, name="embedrt-parent", daemon=True).start()

    def turned() -> None:
        beat.value = time.monotonic()

    accounts = Accounts(held, number)
    try:
        code = serve_here(settings, listener, open_bundles(settings.bundles), turned, accounts=accounts)
    except EmbedrtError as exc:  # what the supervisor found right has changed since
        log("cannot serve", level=40, reason=str(exc))
        code = _CANNOT_SERVE
    raise SystemExit(code)


def _end_with_parent() -> None:
    """A supervisor that was killed cannot stop its workers: they stop themselves."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


class Supervisor:
    """Keeps `settings.workers` processes serving one listening socket.

    All of them accept from the same socket, so a connection that waits when a worker dies goes to another one. Each
    leaves a new one to those that have fewer (`accepting`).
    """

    def __init__(self, settings: Settings, listener: socket.socket, notifier: Notifier | None = None) -> None:
        self._settings = settings
        self._notifier = notifier or Notifier()
        self._listener = listener
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[_Worker] = []
        self._held = self._context.RawArray("i", [SERVES_NOT] * settings.workers)  # connections of each worker
        self._stopping = False
        self._told = 0.0
        self._next_pause_s = _RESTART_PAUSE_S

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT; 0 when every worker ended well."""
        with tempfile.TemporaryDirectory(prefix="embedrt-metrics-") as folder:
            os.environ[FOLDER_VARIABLE] = folder  # the workers' metrics; read when they import prometheus-client
            for name in ("SIGTERM", "SIGINT", "SIGQUIT"):
                if hasattr(signal, name):
                    signal.signal(getattr(signal, name), self._stop)
            for name in _SIGNALS_PASSED_ON:
                if hasattr(signal, name):
                    signal.signal(getattr(signal, name), self._pass_on)
            self._workers = [self._start(number) for number in range(self._settings.workers)]
            while not self._stopping:
                if all(worker.process.exitcode == _CANNOT_SERVE for worker in self._workers):
                    return _CANNOT_SERVE  # they said why; starting them again would not help
                self.look()
            self._notifier.stopping()
            self._listener.close()
            for worker in self._workers:  # SIGTERM, which a worker takes as `serve_here` does
                worker.process.terminate()
            return self._end()

    def look(self) -> None:
        """Wait a moment, or until a worker dies, and replace what is dead."""
        # The sentinel of one whose death was seen stays ready for as long as its replacement is put off.
        wait([worker.process.sentinel for worker in self._workers if worker.restart_at is None], timeout=_LOOK_EVERY_S)
        self._kill_hung()
        self._replace_dead()
        self._tell()

    def _tell(self) -> None:
        """Tell the service manager, once a second, that this goes on, and how many workers serve."""
        now = time.monotonic()
        if now - self._told >= _TELL_EVERY_S:
            self._told = now
            serving = sum(worker.process.is_alive() and worker.beat.value > 0 for worker in self._workers)
            missing = f"{serving} of {len(self._workers)} workers serve"
            self._notifier.readiness(None if serving == len(self._workers) else missing)
            self._notifier.alive()

    def _kill_hung(self) -> None:
        """End workers of which the event loop has not turned for `stall_timeout_s`: nobody gets an answer there."""
        now = time.monotonic()
        for worker in self._workers:
            silent_s = now - worker.beat.value
            if worker.beat.value and silent_s > self._settings.stall_timeout_s and worker.process.is_alive():
                log("worker hangs and is killed", level=40, pid=worker.process.pid, silent_s=round(silent_s, 1))
                worker.process.kill()
                worker.process.join()

    def _start(self, number: int) -> _Worker:
        beat = self._context.Value("d", 0.0, lock=False)
        arguments = (self._settings, self._listener, beat, self._held, number)
        process = self._context.Process(target=run_worker, args=arguments, name="embedrt-worker")
        process.start()
        log("worker started", pid=process.pid)
        return _Worker(process, time.monotonic(), beat)

    def _replace_dead(self) -> None:
        now = time.monotonic()
        for k, worker in enumerate(self._workers):
            if worker.process.is_alive() or self._stopping:
                continue
            self._held[k] = SERVES_NOT
            if worker.restart_at is None:
                worker.restart_at = now + self._pause_after(worker, now - worker.started)
            if worker.restart_at <= now:
                self._workers[k] = self._start(k)

    def _pause_after(self, worker: _Worker, lived_s: float) -> float:
        """Seconds until a worker that died is replaced: none after a good life, else more each time."""
        from prometheus_client import multiprocess

        process = worker.process
        multiprocess.mark_process_dead(process.pid)  # type: ignore[no-untyped-call]
        if process.exitcode == _CANNOT_SERVE:
            pause = _LONGEST_PAUSE_S
        elif lived_s > _LIVED_WELL_S:
            pause, self._next_pause_s = 0.0, _RESTART_PAUSE_S
        else:
            pause, self._next_pause_s = self._next_pause_s, min(_LONGEST_PAUSE_S, 2 * self._next_pause_s)
        log("worker died", level=40, pid=process.pid, exit_code=process.exitcode, restart_in_s=pause)
        return pause

    def _stop(self, number: int, frame: object) -> None:
        del number, frame
        self._stopping = True

    def _pass_on(self, number: int, frame: object) -> None:
        del frame
        for worker in self._workers:
            if worker.process.pid is not None and worker.process.is_alive():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker.process.pid, number)

    def _end(self) -> int:
        deadline = time.monotonic() + self._settings.drain_s + self._settings.grace_s + 5
        for worker in self._workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                log("worker did not stop in time and is killed", level=40, pid=worker.process.pid)
                worker.process.kill()
                worker.process.join()
        return 0 if all(worker.process.exitcode == 0 for worker in self._workers) else 1
