"""What the benches of tasks make of their numbers."""

from __future__ import annotations

import numpy as np
import pytest
from bench import task_tables
from bench.long_texts import Question, Rows, judge, table
from bench.tasks import pooled

from embedrt.evaluation.compare import MetricResult, Score, TaskResult
from embedrt.evaluation.estimate import Estimate, mean_of
from embedrt.evaluation.tasks import Metric


def test_several_languages_are_one_mean_over_all_items() -> None:
    first, second = np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0])
    metric = pooled([Metric("m", 3, mean_of(first)), Metric("m", 2, mean_of(second))])
    every = np.concatenate([first, second])
    assert (metric.name, metric.num_items) == ("m", 5)
    for items in (np.arange(5), np.array([0, 0, 4]), np.array([1, 2, 2, 2])):
        assert metric.over(items) == pytest.approx(every[items].mean())


def test_a_paragraph_is_as_near_as_its_nearest_piece() -> None:
    vectors = np.array([[1, 0], [0, 1], [0.6, 0.8]], np.float32)
    rows = Rows(vectors, np.array([0, 0, 1]), [(0, 10), (10, 30), (0, 20)])
    questions = [Question("a", 0, 12, True), Question("b", 1, 3, False)]
    queries = np.array([[0.1, 1], [0, 1]], np.float32)
    found = judge("pieces", rows, queries, questions)
    assert found.at_1.tolist() == [1, 0]
    assert found.at_10.tolist() == [1, 1]
    assert found.place is not None
    assert found.place.tolist() == [1, 1]
    assert "| pieces | 3 | 50.0 |" in table([found], np.ones(2, bool))


def test_a_table_has_fp32_and_what_others_lose_and_no_column_for_who_did_not_run() -> None:
    first = Score("fp32", Estimate(82.03, 80.0, 84.0), None)
    less = Score("int8", Estimate(82.0, 80.0, 84.0), Estimate(-0.03, -0.08, 0.02))
    metrics = (MetricResult("Spearman", 1379, (first, less)), MetricResult("de: Spearman", 9, (first, less)))
    assert task_tables.table([("m", TaskResult("STS-B en", "1,379 pairs", metrics))]).splitlines() == [
        "| model | task | items | metric | fp32 | int8 |",
        "|---|---|---|---|---|---|",
        "| m | STS-B en | 1,379 | Spearman | 82.03 | -0.03 (-0.08 to +0.02) |",
    ]
