"""Shards on Spark: a task each."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from embedrt.datasets.plan import Shard
from embedrt.datasets.work import Job, Report, do_shard
from embedrt.errors import DependencyError

_GROUP = "embedrt embed-dataset"


def run_spark(job: Job, shards: Iterator[Shard], threads: int | None, say: Callable[[str], None]) -> Iterator[Report]:
    """Reports of the shards, as they come, from the session that is active, else one made of Spark's own settings.

    A task that dies with its executor is Spark's to repeat (`spark.task.maxFailures`).

    Raises:
        DependencyError: pyspark is missing.
    """
    try:
        from pyspark import InheritableThread
        from pyspark.accumulators import AccumulatorParam
        from pyspark.sql import SparkSession
    except ImportError as exc:
        raise DependencyError("--engine spark needs Spark: pip install pyspark, and Java 17") from exc

    class Reports(AccumulatorParam):  # type: ignore[misc]
        def zero(self, value: list[Report]) -> list[Report]:
            del value
            return []

        def addInPlace(self, value1: list[Report], value2: list[Report]) -> list[Report]:  # noqa: N802
            value1 += value2
            return value1

    context = SparkSession.builder.getOrCreate().sparkContext
    if context.master.startswith("local") and "PYSPARK_PYTHON" not in os.environ:
        context.pythonExec = sys.executable  # this machine's workers; by default the first python3 of the PATH
    todo = list(shards)
    if not todo:
        return
    if threads is not None:
        job = replace(job, embed=job.embed.with_threads(threads))
    per_task = threads or int(context.getConf().get("spark.task.cpus", "1"))
    say(f"{len(todo):,} tasks, {context.defaultParallelism} cores, {per_task} threads a task (spark.task.cpus)")
    heard = context.accumulator([], Reports())
    failed: list[BaseException] = []

    def do(shard: Shard) -> None:
        heard.add([do_shard(job, shard)])

    def run() -> None:
        context.setJobGroup(_GROUP, "shards of embed-dataset", interruptOnCancel=True)
        try:
            context.parallelize(todo, len(todo)).foreach(do)
        except BaseException as exc:
            failed.append(exc)

    thread = InheritableThread(target=run)
    thread.start()
    try:
        yield from _as_they_come(heard, thread)
    finally:
        if thread.is_alive():
            context.cancelJobGroup(_GROUP)
            thread.join()
    if failed:
        yield Report(todo[0], None, f"Spark gave the job up: {_cause(str(failed[0]))}", ends_run=True)


def _cause(told: str) -> str:
    """The last error of Python's in what Spark tells, which is mostly the JVM's stack; else its beginning."""
    errors = re.findall(r"^(?!org\.|java\.)\w[\w.]*(?:Error|Exception): .*$", told, re.MULTILINE)
    if any("No module named 'embedrt'" in error for error in errors):
        return "its workers' Python has no embedrt: set PYSPARK_PYTHON to one that has"
    return errors[-1][:300] if errors else " ".join(told.split())[:300]


def _as_they_come(heard: Any, thread: threading.Thread) -> Iterator[Report]:
    """What has been added to the accumulator, until the job ends."""
    given = 0
    while True:
        alive = thread.is_alive()
        found: list[Report] = list(heard.value)
        yield from found[given:]
        given = len(found)
        if not alive:
            return
        thread.join(timeout=0.5)
