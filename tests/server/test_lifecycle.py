"""The process: readiness, SIGTERM under load, workers that die. Real processes on the loopback."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from embedrt import Embedder
from tests.server.serving import wait_until


class Process:
    """`embedrt serve` as a user starts it, logging JSON into a file; `files` is its `ulimit -n`."""

    def __init__(self, log: Path, *arguments: object, files: int | None = None) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = log
        command = ["-m", "embedrt", "serve", *map(str, arguments), "--port", str(self.port), "--threads", "1"]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("EMBEDRT_TEST_")}  # the tests' own
        with log.open("w") as stream:
            self.process = subprocess.Popen(
                [sys.executable, *command, "--log-format", "json"],
                stderr=stream,
                env=environment,
                preexec_fn=files and partial(resource.setrlimit, resource.RLIMIT_NOFILE, (files, files)),
            )

    def ready(self) -> bool:
        """Whether it says so."""
        try:
            return httpx.get(f"{self.url}/health/ready", timeout=5).status_code == 200
        except httpx.TransportError:
            assert self.process.poll() is None, self._log.read_text()
            return False

    def events(self, name: str | None = None) -> list[dict[str, object]]:
        """What it logged under that name, or all."""
        return [row for row in map(json.loads, self._log.read_text().splitlines()) if name in (None, row["event"])]


@contextmanager
def process(tmp_path: Path, *arguments: object, files: int | None = None) -> Iterator[Process]:
    made = Process(tmp_path / "log", *arguments, files=files)
    try:
        wait_until(made.ready, 60)
        yield made
    finally:
        if made.process.poll() is None:
            made.process.kill()
        made.process.wait(20)


def hammer(
    server: Process, library: Embedder, count: int, action: Callable[[], object], stop: threading.Event
) -> tuple[list[int], list[str]]:
    """Eight clients, a connection per request, until nobody listens anymore or `stop`; `action` after `count` answers.

    Every good answer is compared with the library's.

    Returns:
        The answers' statuses, and what broke without an answer.
    """
    statuses: list[int] = []
    broken: list[str] = []
    texts = [f"stone {i} water" for i in range(20)]
    wanted = library.encode(texts)
    fresh = httpx.Limits(max_keepalive_connections=0)
    end = time.monotonic() + 30

    def client(number: int, http: httpx.Client) -> None:
        rng = np.random.default_rng(number)
        while time.monotonic() < end and not stop.is_set():
            picks = rng.integers(0, len(texts), size=rng.integers(1, 6)).tolist()
            try:
                answer = http.post(f"{server.url}/embed", json={"inputs": [texts[i] for i in picks]})
            except httpx.ConnectError:
                return
            except httpx.TransportError as exc:
                broken.append(type(exc).__name__)
                return
            statuses.append(answer.status_code)
            if len(statuses) == count:
                action()
            if answer.status_code == 200:
                assert np.array_equal(np.array(answer.json(), np.float32), wanted[picks])

    with httpx.Client(limits=fresh, timeout=20, trust_env=False) as http:
        threads = [threading.Thread(target=client, args=(k, http)) for k in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return statuses, broken


def test_sigterm_under_load_answers_all_that_was_accepted_and_exits_0(tmp_path: Path, lookup_bundle, library):
    with process(tmp_path, lookup_bundle, "--variant", "fp32") as server:
        statuses, broken = hammer(server, library, 100, server.process.terminate, threading.Event())
        assert server.process.wait(20) == 0
    assert set(statuses) == {200}
    assert len(statuses) >= 100
    answered = [row for row in server.events("request") if row["route"] == "/embed"]
    assert len(answered) == len(statuses)  # what the server took, it answered; what broke never reached it
    assert {row["status"] for row in answered} == {200}
    assert len(broken) <= 8  # connections that were in the kernel's queue when the socket closed
    (loaded,) = server.events("model loaded")
    assert "not fp32" in str(loaded["reason"])  # why it is this executor
    assert server.events("stopping")
    assert server.events("stopped")


def broken_copy(bundle: Path, folder: Path) -> Path:
    """A bundle whose kept vectors are others than its model gives, in files of the same size."""
    broken = folder / "broken"
    shutil.copytree(bundle, broken)
    np.save(broken / "parity/vectors.npy", np.ascontiguousarray(-np.load(broken / "parity/vectors.npy")))
    return broken


def test_a_wrong_bundle_ends_the_process_with_1_and_the_reason(tmp_path: Path, lookup_bundle: Path):
    broken = broken_copy(lookup_bundle, tmp_path)
    server = Process(tmp_path / "log", broken, "--variant", "fp32", "--no-verify-hashes")
    assert server.process.wait(60) == 1
    (event,) = server.events("cannot serve")
    assert "has cosine -1.0" in str(event["reason"])


@pytest.mark.parametrize(
    ("setting", "code", "message"),
    [
        ("--rates=alice", 2, "error: rates must be NAME=N requests/TIME"),
        (
            "--api-key-file=no-such-file",
            1,
            "error: api_key_file no-such-file cannot be read: No such file or directory",
        ),
        ("--token-ids=cl100k_base", 2, "error: token_ids=cl100k_base needs tiktoken's file, which is not in "),
    ],
)
def test_what_a_setting_names_is_looked_at_before_anything_listens(
    tmp_path: Path, lookup_bundle: Path, monkeypatch: pytest.MonkeyPatch, setting: str, code: int, message: str
):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    server = Process(tmp_path / "log", lookup_bundle, setting, "--workers", "2")
    assert server.process.wait(60) == code
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert line.startswith(message)


@pytest.mark.slow
def test_workers_that_cannot_serve_end_the_process_too(tmp_path: Path, lookup_bundle: Path):
    server = Process(tmp_path / "log", broken_copy(lookup_bundle, tmp_path), "--variant", "fp32", "--workers", "2")
    assert server.process.wait(60) == 1
    assert "sha256" in str(server.events("cannot serve")[0]["reason"])


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_the_others_serve_on(tmp_path: Path, lookup_bundle: Path, library: Embedder):
    with process(tmp_path, lookup_bundle, "--variant", "fp32", "--workers", "2") as server:
        wait_until(lambda: len(server.events("model loaded")) == 2, 60)
        workers = [int(str(row["pid"])) for row in server.events("worker started")]
        stop = threading.Event()

        def kill() -> None:
            os.kill(workers[0], signal.SIGKILL)
            threading.Timer(3.0, stop.set).start()

        statuses, broken = hammer(server, library, 100, kill, stop)
        assert set(statuses) == {200}
        assert len(broken) <= 8  # requests that were in the killed process
        wait_until(lambda: len(server.events("worker started")) == 3, 30)
        wait_until(lambda: len(server.events("model loaded")) == 3, 30)
        (died,) = server.events("worker died")
        assert (died["pid"], died["exit_code"]) == (workers[0], -signal.SIGKILL)
        text = httpx.get(f"{server.url}/metrics").text
        total = sum(
            float(row.split()[1])
            for row in text.splitlines()
            if row.startswith('embedrt_requests_total{route="/embed"')
        )
        assert total >= len(statuses) - 8  # the killed one may have answered what it did not count
        server.process.terminate()
        assert server.process.wait(20) == 0
        assert not any(psutil.pid_exists(int(str(row["pid"]))) for row in server.events("worker started"))


@pytest.mark.slow
def test_workers_end_when_their_supervisor_is_killed(tmp_path: Path, lookup_bundle: Path):
    with process(tmp_path, lookup_bundle, "--workers", "2") as server:
        wait_until(lambda: len(server.events("model loaded")) == 2, 60)
        server.process.kill()
        workers = [int(str(row["pid"])) for row in server.events("worker started")]
        wait_until(lambda: not any(map(psutil.pid_exists, workers)), 20)
