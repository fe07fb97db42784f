"""The command against an S3 server that answers 503, slowly, and at last not at all."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.batch.engines import ENVIRONMENT
from tests.datasets.conftest import write_parquet

pytestmark = pytest.mark.slow
KEYS = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"}


class Server:
    """The server's process: moto's keeps threads and its warnings to itself."""

    def __init__(self, corpus: Path) -> None:
        command = [sys.executable, "-W", "ignore", "-m", "tests.datasets.s3", str(corpus), "0"]
        self.process = subprocess.Popen(
            command,
            env=ENVIRONMENT | KEYS,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        self.environment = ENVIRONMENT | KEYS | {"AWS_ENDPOINT_URL": self.process.stdout.readline().strip()}

    def tell(self, line: str) -> dict[str, int]:
        """Change what befalls requests; what befell them until now."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        counts: dict[str, int] = json.loads(self.process.stdout.readline())
        return counts

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """The command."""
        command = [sys.executable, "-W", "ignore", "-m", "embedrt", *arguments]
        return subprocess.Popen(command, env=self.environment, stderr=subprocess.PIPE, text=True)

    def run(self, *arguments: str) -> tuple[int, str]:
        """The command's exit code and what it said."""
        with self.start(*arguments) as process:
            _, told = process.communicate(timeout=400)
        return process.returncode, told


@pytest.fixture
def server(corpus: Path) -> Iterator[Server]:
    for name in ("s3fs", "moto"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    write_parquet(corpus / "more.parquet", 1200, 3)
    found = Server(corpus)
    with found.process:
        yield found
        found.process.kill()


@pytest.fixture
def embed(lookup_bundle: Path) -> Callable[..., list[str]]:
    def arguments(*more: str) -> list[str]:
        return [
            "embed-dataset", str(lookup_bundle), "s3://texts/corpus", "s3://vectors/out",
            "--text", "body", "--id", "id", "--shard-tokens", "600", "--no-packed-cache", *more,
        ]  # fmt: skip

    return arguments


def test_503_and_slow_answers(server: Server, embed: Callable[..., list[str]]) -> None:
    server.tell("faults 0.2 0.1")
    code, told = server.run(*embed("--workers", "2"))
    counts = server.tell("faults 0 0")
    assert code == 0, told
    assert counts["SlowDown"] > 50
    assert counts["slow"] > 20
    assert server.run("check-dataset", "s3://vectors/out") == (0, "")


def test_a_credential_that_is_lost_ends_in_one_line(server: Server, embed: Callable[..., list[str]]) -> None:
    process = server.start(*embed())
    seen = 0
    while seen < 60:
        seen += sum(server.tell("faults 0 0").values())
        time.sleep(0.05)
    server.tell("expire")
    _, told = process.communicate(timeout=100)
    assert process.returncode == 1
    assert told.count("refuses access") == 1, told
    assert "refuses access" in told.splitlines()[-1], told
    assert told.splitlines()[-1].endswith("once it is mended, go on with --resume")
    code, told = server.run(*embed("--resume"))  # now the driver itself is the first to meet it
    assert code == 1
    assert len(told.splitlines()) == 1, told
    assert "s3://vectors/out refuses access" in told
    server.tell("faults 0 0")
    assert server.run(*embed("--resume"))[0] == 0
    assert server.run("check-dataset", "s3://vectors/out")[0] == 0


def test_no_credential_at_all(server: Server, embed: Callable[..., list[str]]) -> None:
    for name in KEYS:
        server.environment.pop(name)
    server.environment["AWS_EC2_METADATA_DISABLED"] = "true"
    code, told = server.run(*embed())
    assert code == 1
    assert len(told.splitlines()) == 1, told
    assert "refuses access (Unable to locate credentials)" in told
