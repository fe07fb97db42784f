"""The runner's end of a worker process: start it, ask it, stop it while others run."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench.paths import REPO, cache_dir
from bench.systems.base import Rows, Vectors
from bench.worker import Effort, Memory

_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_PATIENCE_S = 900  # one request: loading, or one system's turn at one case


class SystemFailed(RuntimeError):  # noqa: N818
    """A worker answered with an error, or died."""


class SystemProcess:
    """One system in its own process. It runs until `pause()` and again inside `running()`: a process that is stopped
    (SIGSTOP) cannot disturb the one that is being timed with threads that its library leaves spinning."""

    def __init__(self, name: str, cpus: Sequence[int]) -> None:
        self.name = name
        self._cpus = tuple(cpus)
        ours, theirs = socket.socketpair()
        environment = dict(os.environ) | _OFFLINE | {v: str(len(cpus)) for v in _THREAD_VARIABLES}
        log = (cache_dir() / "logs").resolve()
        log.mkdir(exist_ok=True)
        self.log = log / f"{name}.log"
        with self.log.open("w") as stream, theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bench.worker", str(theirs.fileno()), name],
                cwd=REPO, env=environment, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
                pass_fds=[theirs.fileno()], preexec_fn=lambda: os.sched_setaffinity(0, self._cpus),
            )  # fmt: skip
        self._connection = Connection(ours.detach())
        self._paused = False
        self._answer()

    @property
    def pid(self) -> int:
        return self._process.pid

    def load(self, artifact: Path, model: Path, threads: int) -> float:
        """Seconds until the system can encode."""
        return float(self._ask("load", str(artifact), str(model), threads))

    def describe(self) -> str:
        return str(self._ask("describe"))

    def encode_texts(self, texts: Sequence[str], batching: str) -> Vectors:
        vectors: Vectors = self._ask("encode_texts", list(texts), batching)
        return vectors

    def encode_ids(self, rows: Rows) -> Vectors:
        vectors: Vectors = self._ask("encode_ids", rows)
        return vectors

    def time_ids(self, rows: Rows, warm: bool, effort: Effort) -> tuple[float, ...]:
        seconds: tuple[float, ...] = self._ask("time_ids", rows, warm, effort)
        return seconds

    def time_texts(self, texts: Sequence[str], batching: str, warm: int, effort: Effort) -> tuple[float, ...]:
        seconds: tuple[float, ...] = self._ask("time_texts", list(texts), batching, warm, effort)
        return seconds

    def memory(self) -> Memory:
        memory: Memory = self._ask("memory")
        return memory

    def pause(self) -> None:
        """Stop the process until `running()`."""
        self._process.send_signal(signal.SIGSTOP)
        self._paused = True

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Let the process run inside the block, and stop it after."""
        self._process.send_signal(signal.SIGCONT)
        self._paused = False
        try:
            yield
        finally:
            self.pause()

    def close(self) -> None:
        """End the process, running or stopped."""
        self._connection.close()
        self._process.kill()
        self._process.wait()

    def _ask(self, method: str, *arguments: Any) -> Any:
        assert not self._paused, "a stopped process cannot answer"
        try:
            self._connection.send((method, arguments))
        except OSError as exc:
            raise SystemFailed(self._last_words()) from exc
        return self._answer()

    def _answer(self) -> Any:
        try:
            if not self._connection.poll(_PATIENCE_S):
                raise SystemFailed(f"no answer in {_PATIENCE_S} s")
            ok, value = self._connection.recv()
        except (EOFError, OSError) as exc:
            raise SystemFailed(self._last_words()) from exc
        if not ok:
            raise SystemFailed(str(value)[:600])
        return value

    def _last_words(self) -> str:
        code = self._process.wait(timeout=10)
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return f"the process ended with code {code}: " + " | ".join(lines[-2:])[-400:]
