"""`embedrt front` as a user starts it: what it says, how it ends, and a rolling update under load."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.routing.fronting import fake, free_port, says
from tests.server.serving import Gate, Served, serving, wait_until


@contextmanager
def started(log: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The process and its URL."""

    def address() -> str:
        lines = [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")]
        return next((line["address"] for line in lines if line["event"] == "listening"), "")

    command = [sys.executable, "-m", "embedrt", "front", *arguments, "--port", "0", "--log-format", "json"]
    with log.open("w") as stream:
        process = subprocess.Popen(command, stderr=stream)
    try:
        wait_until(lambda: address() or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        url = address()
        wait_until(lambda: httpx.get(f"{url}/health/live").status_code == 200)
        yield process, url
    finally:
        process.kill()
        process.wait(10)


def events(log: Path, name: str) -> int:
    """How often that was logged."""
    return sum(f'"event": "{name}"' in line for line in log.read_text().splitlines())


def test_sigterm_finishes_what_is_in_flight(one: Served, tmp_path: Path) -> None:
    gate = Gate(one.engine)
    found: list[int] = []
    with started(tmp_path / "log", one.url, "--drain-s", "3") as (process, url):
        try:
            assert httpx.get(f"{url}/health/ready").json()["identities"]
            ask = threading.Thread(
                target=lambda: found.append(httpx.post(f"{url}/embed", json={"inputs": "a"}, timeout=30).status_code)
            )
            ask.start()
            wait_until(lambda: one.engine.running_for() > 0)
            process.send_signal(signal.SIGTERM)
            wait_until(lambda: httpx.get(f"{url}/health/ready").status_code == 503)
        finally:
            gate.remove()
        ask.join(20)
        assert process.wait(20) == 0
    assert found == [200]


def test_a_rolling_update_loses_nothing(lookup_bundle: Path, tmp_path: Path) -> None:
    """Servers go down and come up one after the other, with the same bundle, while a client asks."""
    log = tmp_path / "log"
    ports = [free_port(), free_port()]
    statuses: list[int] = []
    done = threading.Event()

    def server(port: int) -> subprocess.Popen[bytes]:
        options = ["--port", str(port), "--threads", "1", "--log-level", "error"]
        return subprocess.Popen([sys.executable, "-m", "embedrt", "serve", str(lookup_bundle), *options])

    def ready(port: int) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/health/ready").status_code == 200
        except httpx.TransportError:
            return False

    def ask(url: str) -> None:
        with httpx.Client(base_url=url, timeout=30) as client:
            while not done.is_set():
                statuses.append(client.post("/embed", json={"inputs": "light river"}).status_code)

    processes = [server(port) for port in ports]
    try:
        wait_until(lambda: all(map(ready, ports)), 60)
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        with started(log, *urls, "--check-every-s", "0.1") as (_, url):
            asking = threading.Thread(target=ask, args=(url,))
            asking.start()
            for k, port in enumerate(ports):
                processes[k].terminate()
                assert processes[k].wait(20) == 0
                processes[k] = server(port)
                # Ready for the front: whoever updates waits for its next look (in Kubernetes, minReadySeconds).
                wait_until(lambda k=k: events(log, "server is ready") == 3 + k, 60)
            count = len(statuses)
            wait_until(lambda: len(statuses) > count + 20)
            done.set()
            asking.join(20)
    finally:
        done.set()
        for process in processes:
            process.kill()
            process.wait(10)
    assert set(statuses) == {200}


def test_an_update_to_another_model_leaves_the_name_to_the_old_one(lookup_bundle: Path, tmp_path: Path) -> None:
    """What a careless rolling update would do: the second server comes back with another identity."""
    with serving(lookup_bundle, variant="fp32") as old, serving(lookup_bundle, variant="int8") as new:
        log = tmp_path / "log"
        with started(log, old.url, "--check-every-s", "0.1") as (_, url):
            identity = httpx.post(f"{url}/embed", json={"inputs": "a"}).headers["x-embedrt-identity"]
        with started(log, old.url, new.url, "--identity", f"lookup={identity}") as (_, url):
            answers = [httpx.post(f"{url}/embed", json={"inputs": "a"}) for _ in range(5)]
            assert {answer.headers["x-embedrt-identity"] for answer in answers} == {identity}
            assert "lookup must be" in log.read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Missing argument"),
        (["localhost:8080"], "http://HOST:PORT"),
        (["http://a", "--identity", "m"], "NAME=IDENTITY"),
        (["http://a", "--policy", "luck"], "luck"),
        (["http://a", "--body-mb", "many"], "--body-mb must be a number"),
        (["http://a", "--host", "nobody.invalid."], "cannot listen"),
    ],
)
def test_what_cannot_be_used_is_refused(arguments: list[str], said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "embedrt", "front", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert said in done.stderr


def test_a_front_needs_no_numpy() -> None:
    """It computes nothing, and starts in a container of its own."""
    check = (
        "import sys, embedrt.routing.run; "
        "sys.exit(', '.join({'numpy', 'onnxruntime', 'tokenizers'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_it_listens_before_its_servers_are_there(tmp_path: Path) -> None:
    with fake(says(b"here")) as server:
        server.ready = False
        with started(tmp_path / "log", server.url, "--check-every-s", "0.1") as (_, url):
            assert httpx.get(f"{url}/health/ready").status_code == 503
            server.ready = True
            wait_until(lambda: httpx.get(f"{url}/health/ready").status_code == 200)
            assert httpx.post(f"{url}/embed").text == "here"
