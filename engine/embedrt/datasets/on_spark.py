"""Shards on Spark: a task each."""

from __future__ import annotations

import os
import re
import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any, Protocol

from embedrt.datasets.plan import Shard
from embedrt.datasets.work import Job, Report, do_shard
from embedrt.errors import DependencyError

_GROUP = "embedrt embed-dataset"
_JOBS = 2  # at once: while the last tasks of one are at work, those of the other use the free cores
_LEAST_TASKS = 1000  # of a job, so that its start does not count
_TASKS_PER_CORE = 8
_POLL_SECONDS = 0.5


class Flight(Protocol):
    """A job that is under way."""

    def fresh(self) -> list[Report]:
        """Reports that have come since they were asked for last."""

    def wait(self, seconds: float) -> bool:
        """Whether it has ended, after at most so long."""

    def cancel(self) -> None:
        """End it, and wait until it has."""


def require() -> Any:
    """The package; DependencyError says how to install it."""
    try:
        import pyspark
    except ImportError as exc:
        raise DependencyError("--engine spark needs Spark: pip install pyspark, and Java 17") from exc
    return pyspark


def connect() -> Any:
    """The context of the session that is active, else of one made of Spark's own settings.

    Raises:
        DependencyError: pyspark is missing, or Java.
    """
    require()
    from pyspark.errors import PySparkRuntimeError
    from pyspark.sql import SparkSession

    try:
        return SparkSession.builder.getOrCreate().sparkContext
    except PySparkRuntimeError as exc:
        told = str(exc).rstrip(".")
        raise DependencyError(f"Spark does not start: {told}; it needs Java 17 (JAVA_HOME, or java in PATH)") from exc


def run_spark(job: Job, shards: Iterator[Shard], threads: int | None, say: Callable[[str], None]) -> Iterator[Report]:
    """Reports of the shards, as they come, from the session that `connect` gives.

    A task that dies with its executor is Spark's to repeat (`spark.task.maxFailures`).

    Raises:
        DependencyError: pyspark is missing, or Java.
    """
    context = connect()
    from pyspark import InheritableThread
    from pyspark.accumulators import AccumulatorParam

    class Reports(AccumulatorParam):  # type: ignore[misc]
        def zero(self, value: list[Report]) -> list[Report]:
            del value
            return []

        def addInPlace(self, value1: list[Report], value2: list[Report]) -> list[Report]:  # noqa: N802
            value1 += value2
            return value1

    if context.master.startswith("local") and "PYSPARK_PYTHON" not in os.environ:
        context.pythonExec = sys.executable  # this machine's workers; by default the first python3 of the PATH
    if threads is not None:
        job = replace(job, embed=job.embed.with_threads(threads))

    class SparkJob:
        """A task for each of some shards."""

        def __init__(self, some: list[Shard]) -> None:
            self._some = some
            self._heard = context.accumulator([], Reports())
            self._given = 0
            self._failed: str | None = None
            self._thread = InheritableThread(target=self._run)
            self._thread.start()

        def fresh(self) -> list[Report]:
            has_ended = not self._thread.is_alive()
            found: list[Report] = self._heard.value[self._given :]
            self._given += len(found)
            if has_ended:
                self._heard.value, self._given = [], 0  # Spark keeps every accumulator
                if self._failed is not None:
                    found.append(Report(self._some[0], None, self._failed, ends_run=True))
            return found

        def wait(self, seconds: float) -> bool:
            self._thread.join(seconds)
            return not self._thread.is_alive()

        def cancel(self) -> None:
            if self._thread.is_alive():
                context.cancelJobGroup(_GROUP)
                self._thread.join()

        def _run(self) -> None:
            context.setJobGroup(_GROUP, "shards of embed-dataset", interruptOnCancel=True)
            heard = self._heard
            try:
                context.parallelize(self._some, len(self._some)).foreach(
                    lambda shard: heard.add([do_shard(job, shard)])
                )
            except BaseException as exc:
                self._failed = f"Spark gave the job up: {_cause(str(exc))}"

    per_task = threads or int(context.getConf().get("spark.task.cpus", "1"))
    cores = context.defaultParallelism
    size = max(_LEAST_TASKS, _TASKS_PER_CORE * cores)
    say(f"a task a shard, {size:,} in a job; {cores} cores, {per_task} threads a task (spark.task.cpus)")
    yield from in_flight(SparkJob, shards, size)


def in_flight(start: Callable[[list[Shard]], Flight], shards: Iterator[Shard], size: int) -> Iterator[Report]:
    """Reports of jobs of so many shards, as they come; shards are taken as jobs begin, of which few are under way."""
    flying: deque[Flight] = deque()
    try:
        while True:
            while len(flying) < _JOBS and (some := list(islice(shards, size))):
                flying.append(start(some))
            if not flying:
                return
            for flight in list(flying):
                has_ended = flight.wait(_POLL_SECONDS if flight is flying[0] else 0)
                yield from flight.fresh()
                if has_ended:
                    flying.remove(flight)
    finally:
        for flight in flying:
            flight.cancel()


def _cause(told: str) -> str:
    """The last error of Python's in what Spark tells, which is mostly the JVM's stack; else its beginning."""
    errors = re.findall(r"^(?!org\.|java\.)\w[\w.]*(?:Error|Exception): .*$", told, re.MULTILINE)
    if any("No module named 'embedrt'" in error for error in errors):
        return "its workers' Python has no embedrt: set PYSPARK_PYTHON to one that has"
    failure = re.search(r"due to stage failure: (.*)", told)
    if errors or failure is None:
        return errors[-1][:300] if errors else " ".join(told.split())[:300]
    hint = "; a session of 'local[2]' tries no task again, one of 'local[2,4]' three times"
    return failure[1][:200] + (hint if " failed 1 times" in failure[1] else "")
