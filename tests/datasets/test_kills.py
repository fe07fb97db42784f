"""Drivers, workers, nodes and executors are killed at random while a run works: every row is there once at its end."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from embedrt.datasets.check import check_dataset
from tests.batch.engines import ENVIRONMENT
from tests.datasets.conftest import write_parquet


def check_killed(engine: str, kills: int, corpus: Path, bundle: Path, tmp_path: Path) -> dict[str, int]:
    """Run it; how many of each kind were killed."""
    output = tmp_path / "out"
    command = [sys.executable, "-W", "ignore", "-m", "tests.datasets.kills", engine]
    command += [str(corpus), str(output), str(bundle), str(kills), "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT, timeout=1500)
    assert done.returncode == 0, done.stderr[-3000:]
    killed: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    assert sum(killed.values()) == kills
    proof = check_dataset(str(output))
    assert proof.holds, proof.findings
    ids = pq.read_table(output, columns=["id"])["id"].to_pylist()
    assert len(set(ids)) == len(ids) == proof.written
    print(killed)
    return killed


def test_workers_and_driver_killed(corpus: Path, lookup_bundle: Path, tmp_path: Path) -> None:
    write_parquet(corpus / "more.parquet", 1000, 3)
    assert check_killed("local", 3, corpus, lookup_bundle, tmp_path)["worker"]


@pytest.mark.slow
def test_thirty_kills(corpus: Path, lookup_bundle: Path, tmp_path: Path) -> None:
    write_parquet(corpus / "more.parquet", 12_000, 3)
    (corpus / "damaged.jsonl").write_text(
        '{"id": "j-0", "body": "the water"}\n{"id": "j-1", "body":\n\n{"id": "j-2"}\n'
    )
    assert min(check_killed("local", 30, corpus, lookup_bundle, tmp_path).values()) > 3


@pytest.mark.slow
def test_thirty_kills_on_ray(corpus: Path, lookup_bundle: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed")
    write_parquet(corpus / "more.parquet", 30_000, 3)  # the other node goes on while one is taken away and put back
    killed = check_killed("ray", 30, corpus, lookup_bundle, tmp_path)
    assert min(killed[name] for name in ("driver", "node", "worker")) > 1


@pytest.mark.slow
def test_thirty_kills_on_spark(corpus: Path, lookup_bundle: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec("pyspark") is None or shutil.which("java") is None:
        pytest.skip("pyspark, or the Java that it needs, is not installed")
    write_parquet(corpus / "more.parquet", 12_000, 3)
    killed = check_killed("spark", 30, corpus, lookup_bundle, tmp_path)
    assert min(killed[name] for name in ("driver", "executor", "worker")) > 1
