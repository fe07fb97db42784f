"""Logs that nobody reads, signals, and a worker that hangs."""

from __future__ import annotations

import logging
import os
import signal
import time
from pathlib import Path

import httpx
import psutil
import pytest

from embedrt.server.logs import LinesHandler
from tests.server.serving import wait_until
from tests.server.test_lifecycle import process


def test_a_pipe_that_nobody_reads_holds_up_nothing_and_what_is_lost_is_counted():
    reading, writing = os.pipe()
    handler = LinesHandler(writing, room=10)
    handler.setFormatter(logging.Formatter("%(message)s"))
    for k in range(100):
        handler.emit(logging.makeLogRecord({"msg": f"{k} " + "x" * 10_000}))
        time.sleep(0.001)
    assert handler.dropped > 50
    data = b""
    while b"log lines were dropped" not in data:
        data += os.read(reading, 1 << 20)
    handler.flush()
    os.close(reading)  # the thread goes on with lines that nobody wants
    assert data.startswith(b"0 xxx")


def test_hangup_reads_keys_again_and_no_other_signal_loses_anything(tmp_path: Path, lookup_bundle: Path):
    keys = tmp_path / "keys"
    keys.write_text("one:old\n")
    with process(tmp_path, lookup_bundle, "--variant", "fp32", "--api-key-file", keys) as server:
        keys.write_text("one:new\n")
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: server.events("API keys were read again"))
        answer = httpx.get(f"{server.url}/metrics", headers={"Authorization": "Bearer new"})
        assert answer.status_code == 200
        assert "embedrt_build_info{" in answer.text
        assert "embedrt_requests_in_work 1.0" in answer.text
        server.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: server.events("state"))
        assert server.process.poll() is None
        server.process.send_signal(signal.SIGQUIT)
        assert server.process.wait(20) == 0
        assert server.events("stopped")


@pytest.mark.slow
def test_a_worker_that_hangs_is_replaced(tmp_path: Path, lookup_bundle: Path):
    options = ("--variant", "fp32", "--workers", 2, "--stall-timeout-s", 3)
    with process(tmp_path, lookup_bundle, *options) as server:
        wait_until(lambda: len(server.events("model loaded")) == 2, 60)
        time.sleep(1.5)
        hung = int(str(server.events("worker started")[0]["pid"]))
        psutil.Process(hung).suspend()
        wait_until(lambda: server.events("worker hangs and is killed"), 30)
        assert server.events("worker hangs and is killed")[0]["pid"] == hung
        wait_until(lambda: len(server.events("model loaded")) == 3, 60)
