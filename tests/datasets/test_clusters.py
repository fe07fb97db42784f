"""The whole on Ray and on Spark, with the real engines; workers are killed while it runs."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.batch.engines import ENVIRONMENT
from tests.datasets.conftest import write_parquet

START = """
import sys
import psutil
from embedrt.datasets.check import check_dataset
from embedrt.datasets.run import DatasetJob, embed_dataset
source, output, bundle = sys.argv[1:]
heard = []
def run(engine, **more):
    options = {"text": "body", "id": "id", "shard_tokens": 300, "model": {"packed_cache": False}, **more}
    outcome = embed_dataset(DatasetJob(source, output, bundle, engine=engine, **options), listen)
    assert outcome.complete, outcome
    proof = check_dataset(output)
    assert proof.holds, proof.findings
    print("proved", proof.rows)
"""
# An actor is killed in the middle.
RAY = """
import ray
ray.init("local", num_cpus=3, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
def listen(told):
    if told.said:
        print(told.said)
    if told.report is not None:
        heard.append(told.report)
        if len(heard) == 5:
            mine = psutil.Process().children(recursive=True)
            next(child for child in mine if "ray::_Worker" in " ".join(child.cmdline())).kill()
            print("killed an actor")
run("ray", threads=1)
"""
# Four tries of a task, because a worker is killed in the middle; Spark's local mode has one otherwise.
SPARK = """
from pyspark.sql import SparkSession
local = {"spark.ui.enabled": "false", "spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1"}
spark = SparkSession.builder.master("local[2,4]").config(map=local).getOrCreate()
def listen(told):
    if told.report is not None:
        heard.append(told.report)
        if len(heard) == 5:
            for child in psutil.Process().children(recursive=True):
                try:
                    if "pyspark.daemon" in " ".join(child.cmdline()) and not child.children():
                        child.kill()
                        print("killed a worker")
                        return
                except psutil.Error:
                    pass  # it has ended by itself
run("spark")
"""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "program"), [("ray", RAY), ("pyspark", SPARK)])
def test_every_row_once(name: str, program: str, corpus: Path, lookup_bundle: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    if name == "pyspark" and shutil.which("java") is None:
        pytest.skip("Spark needs Java, which is not installed")
    write_parquet(corpus / "more.parquet", 400, 7)
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-c",
        START + program,
        str(corpus),
        str(tmp_path / "out"),
        str(lookup_bundle),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT, timeout=500)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    assert "proved 791" in done.stdout
    if name == "ray":
        assert "2 actors of 1 CPUs on 1 nodes with 3 CPUs; 1 left for other tasks" in done.stdout
        assert "killed an actor" in done.stdout
