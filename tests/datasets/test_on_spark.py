"""What is made of Spark's errors."""

from __future__ import annotations

import pytest

from embedrt.datasets.on_spark import _cause

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
    ],
)
def test_the_cause_is_what_python_said(told: str, cause: str) -> None:
    assert cause in _cause(told)
    assert len(_cause(told).splitlines()) == 1
