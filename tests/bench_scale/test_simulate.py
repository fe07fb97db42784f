"""The simulation against what can be said without it."""

from __future__ import annotations

import statistics
from dataclasses import replace

import pytest
from bench.scale.costs import dollars_per_billion_tokens, told_bytes, vector_bytes
from bench.scale.simulate import Cluster, Work, interval, simulate

# Nothing goes wrong, nothing differs, nothing is waited for.
IDEAL = Cluster(
    nodes=10, tokens_per_s=1000, boot_s=0, preempted_per_hour=0, straggler_share=0, speed_spread=0,
    requests_per_shard=0, request_s=0,
)  # fmt: skip
WORK = Work(tokens=1e7, shard_tokens=1e5, shard_spread=0)


def test_an_ideal_cluster_takes_work_over_rate() -> None:
    found = simulate(IDEAL, WORK)
    assert found.seconds == pytest.approx(1000)
    assert found.node_seconds == pytest.approx(10_000)
    assert (found.lost_node_seconds, found.tail_seconds, found.preemptions) == (0, 0, 0)


def test_the_same_seed_is_the_same_run() -> None:
    cluster = replace(IDEAL, preempted_per_hour=2, speed_spread=0.1, straggler_share=0.1)
    assert simulate(cluster, WORK, 3) == simulate(cluster, WORK, 3)
    assert simulate(cluster, WORK, 3) != simulate(cluster, WORK, 4)


def test_a_node_boots_before_it_works() -> None:
    assert simulate(replace(IDEAL, boot_s=50), WORK).seconds == pytest.approx(1050)


def test_a_store_that_answers_slowly_is_the_limit() -> None:
    """100 shards of 10 requests at 5 a second are 200 s, more than the 10 s of work of each node."""
    cluster = replace(IDEAL, nodes=1000, tokens_per_s=1e4, requests_per_shard=10, store_requests_per_s=5)
    assert simulate(cluster, WORK).seconds == pytest.approx(200 + 10, rel=0.01)


def test_preemption_loses_about_half_a_shard_each_time() -> None:
    """A death falls anywhere within a shard: half of one is lost in the mean, if deaths are rarer than shards."""
    cluster = replace(IDEAL, nodes=50, preempted_per_hour=2, replaced_after_s=1e-9)
    work = Work(tokens=5e7, shard_tokens=5e4, shard_spread=0)
    runs = [simulate(cluster, work, seed) for seed in range(10)]
    deaths = sum(run.preemptions for run in runs)
    assert deaths > 100
    assert sum(run.lost_node_seconds for run in runs) / deaths == pytest.approx(25, rel=0.2)


def test_every_shard_is_done_whatever_is_taken_away() -> None:
    """At the end the work that was paid for is the work there was, plus what was lost."""
    cluster = replace(IDEAL, preempted_per_hour=10)
    found = simulate(cluster, WORK, 1)
    assert found.preemptions > 10
    assert found.node_seconds >= 10_000 + found.lost_node_seconds


def test_large_shards_have_a_long_tail() -> None:
    cluster = replace(IDEAL, speed_spread=0.1, straggler_share=0.1, straggler_speed=0.4)
    tails = [
        statistics.mean(simulate(cluster, replace(WORK, shard_tokens=size), seed).tail_seconds for seed in range(10))
        for size in (2e4, 5e5)
    ]
    assert tails[0] * 5 < tails[1]


def test_intervals_are_percentiles_and_not_the_span() -> None:
    assert interval(range(101)) == (5, 95)
    assert interval([3.0, 3.0]) == (3.0, 3.0)
    times = [simulate(replace(IDEAL, speed_spread=0.1), WORK, seed).seconds for seed in range(40)]
    low, high = interval(times)
    assert min(times) < low < high < max(times)
    assert sum(low <= time <= high for time in times) == 36


def test_costs_and_bytes_are_arithmetic() -> None:
    assert dollars_per_billion_tokens(1e9 / 3600, 2.0) == pytest.approx(2.0)
    assert vector_bytes(1e10, 384, "float32") == 15.36e12
    assert [told_bytes(1e10, 384, name) for name in ("float32", "int8", "ubinary")] == ["15.4 TB", "3.84 TB", "480 GB"]
