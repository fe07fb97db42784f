"""Jobs of many shards, and what is made of Spark's errors, without Spark."""

from __future__ import annotations

from typing import ClassVar

import pytest

from embedrt.datasets.on_spark import _cause, in_flight

TOLD = """An error occurred while calling o1: org.apache.spark.SparkException: Job aborted due to stage failure: lost
org.apache.spark.api.python.PythonException: Traceback (most recent call last):
  File "worker.py", line 75, in read_command
    command = serializer.loads(file)
{}

\tat org.apache.spark.api.python.BasePythonRunner.read(PythonRunner.scala:1)
java.lang.IllegalStateException: shut down
"""


@pytest.mark.parametrize(
    ("told", "cause"),
    [
        (TOLD.format("ModuleNotFoundError: No module named 'embedrt'"), "set PYSPARK_PYTHON to one that has"),
        (TOLD.format("ValueError: a bad thing"), "ValueError: a bad thing"),
        ("Job 0 cancelled", "Job 0 cancelled"),
        (
            "x: Job aborted due to stage failure: Task 8 in stage 0.0 failed 4 times, most recent\n\tat o",
            "Task 8 in stage 0.0",
        ),
        (
            "x: Job aborted due to stage failure: Task 8 in stage 0.0 failed 1 times, most recent\n\tat o",
            "'local[2,4]'",
        ),
    ],
)
def test_the_cause_is_what_python_said(told: str, cause: str) -> None:
    assert cause in _cause(told)
    assert len(_cause(told).splitlines()) == 1


class Flight:
    """A job that does one of its shards whenever it is waited for."""

    under_way: ClassVar[list[Flight]] = []
    most = 0

    def __init__(self, some: list[int]) -> None:
        self._left, self._done = list(some), []
        self.under_way.append(self)
        Flight.most = max(Flight.most, len(self.under_way))

    def fresh(self) -> list[int]:
        found, self._done = self._done, []
        return found

    def wait(self, seconds: float) -> bool:
        del seconds
        self._done += self._left[:1]
        del self._left[:1]
        if not self._left:
            self.under_way.remove(self)
        return not self._left

    def cancel(self) -> None:
        self.under_way.remove(self)


def test_two_jobs_are_under_way_and_shards_are_taken_as_they_begin() -> None:
    taken = iter(range(95))
    heard = []
    for report in in_flight(Flight, taken, 10):
        heard.append(report)
        assert taken.__length_hint__() >= 95 - len(heard) - 2 * 10, "of a plan of millions two jobs are in memory"
    assert sorted(heard) == list(range(95))
    assert (Flight.most, Flight.under_way) == (2, [])


def test_a_run_that_stops_ends_the_jobs_that_are_under_way() -> None:
    reports = in_flight(Flight, iter(range(50)), 10)
    next(reports)
    assert len(Flight.under_way) == 2
    reports.close()
    assert not Flight.under_way
